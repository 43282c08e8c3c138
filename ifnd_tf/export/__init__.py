"""The trained encoder as files for other programs."""
