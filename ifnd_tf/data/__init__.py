"""Examples with stable indices, and the batches made of them."""
