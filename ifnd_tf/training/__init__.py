"""The training loop, its callbacks, learning rate, rollbacks, and stopping by a signal."""
