"""What a crossbar computes: cells, wires, converters, and closed forms of their noise."""
