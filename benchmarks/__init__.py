"""Measurements of speed and memory, each run as `python -m benchmarks.<name> [--json PATH]`."""
