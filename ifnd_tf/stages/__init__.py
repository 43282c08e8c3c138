"""One file per --mode; `run` is shared by all; `build*` and `sizes` make objects of a `Config`."""
