"""Callbacks around the training steps, one per file."""
