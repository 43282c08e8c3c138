"""A run's programs as portable StableHLO, with all that is needed to run them elsewhere."""
