"""Protocols that evaluate an encoder; each yields `(name, value)` pairs."""
