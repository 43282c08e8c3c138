"""A linear probe with scikit-learn on the features that `--mode=embed` wrote.

python main.py --mode=embed && python -m examples.linear_probe runs/digits
"""

import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(workdir: str) -> float:
    """Top-1 accuracy on the evaluation split of a classifier trained on the training split."""
    with np.load(f"{workdir}/embeddings/embeddings.npz") as table:
        features, labels, split = table["features"], table["label"], table["split"]
    train, test = ((labels >= 0) & (split == name) for name in ("train", "evaluation"))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(features[train], labels[train])
    accuracy = probe.score(features[test], labels[test])
    print(f"linear probe: {accuracy:.1%} of {test.sum()} images")
    return accuracy


if __name__ == "__main__":
    main(sys.argv[1])
