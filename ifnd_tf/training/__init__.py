"""The training loop, and what happens around its steps."""
