"""Every point of a space evaluated and reduced, chunk by chunk."""
