"""One file per --mode, and what builds the parts of a run from a `Config`."""
