"""What hstnn-deploy costs, measured: `python -m benchmarks`. See README.md beside this file."""
