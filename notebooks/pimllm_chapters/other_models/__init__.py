"""Chapter 14, other models and weights of more bits."""
