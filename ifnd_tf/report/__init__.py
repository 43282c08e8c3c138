"""Self-contained HTML pages of runs and comparisons. Importing this package imports nothing."""
