"""Chapter 10, long contexts."""
