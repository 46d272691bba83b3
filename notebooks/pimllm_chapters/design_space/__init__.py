"""Chapter 15, the design space."""
