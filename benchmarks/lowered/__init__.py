"""Runs what `benchmarks.lower` wrote, with NumPy and JAX alone."""
