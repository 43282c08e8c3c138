"""False negative detection. Importing this package brings nothing in."""
