"""One file per --mode; `run` is what they share, `build` and `sizes` make objects of a `Config`."""
