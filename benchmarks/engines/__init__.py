"""Which engines run which graphs, and whether they find the same numbers: `python -m benchmarks.engines`."""
