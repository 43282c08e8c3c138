"""The run directory, its lock, checkpoints and terminal. Importing this package imports nothing."""
