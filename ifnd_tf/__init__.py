"""Contrastive pretraining that finds false negatives and stops pushing them away.

Importing this package reads no flags and starts no device work: every module
takes named arguments, and only `main.py` and `benchmarks/` read the command line.
"""

__version__ = "0.1.0"
