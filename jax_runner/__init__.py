"""Runs what `lowering` wrote, with NumPy and JAX alone."""
