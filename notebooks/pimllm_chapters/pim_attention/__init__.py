"""Chapter 12, attention in memory."""
