"""From results to something one can read, check and cite: archive, claims, figures, notebooks, book."""
