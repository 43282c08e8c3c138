"""k-means on the devices."""
