"""What happens around the training steps, one callback per file."""
