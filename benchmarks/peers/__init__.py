"""Other people's tools doing the same work, for numbers side by side on one machine."""
