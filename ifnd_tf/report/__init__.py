"""A run as pictures: one self-contained HTML page. Importing this package brings nothing in."""
