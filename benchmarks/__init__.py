"""Speed and memory, measured: `python -m benchmarks.NAME`, from the repository."""
