"""What an encoder is worth: every protocol yields `(name, value)` pairs."""
