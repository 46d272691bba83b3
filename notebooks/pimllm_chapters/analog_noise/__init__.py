"""Chapter 11, how much noise a crossbar may have."""
