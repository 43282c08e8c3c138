"""Measurements and proofs, each run as `python -m benchmarks.<name> [--json PATH]`."""
