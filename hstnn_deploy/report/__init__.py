"""Reports and comparisons: what many runs and profile records say together."""
