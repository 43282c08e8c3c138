"""Runs what `ifnd_tf.lowering` wrote, with NumPy and JAX alone."""
