"""What a model asks for: its shape, the matrix products of a step, and the step as the engines have it."""
