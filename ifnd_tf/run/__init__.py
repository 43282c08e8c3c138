"""What a run leaves on disk and says on the terminal. Importing this package brings nothing in."""
