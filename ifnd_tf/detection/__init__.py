"""False negative detection: embeddings, clusters, detectors, pseudo-labels, metrics, callback."""
