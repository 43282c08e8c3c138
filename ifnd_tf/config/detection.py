"""Settings of detection."""

import dataclasses

from ifnd_tf.config.setting import setting, share


@dataclasses.dataclass(frozen=True)
class Detection:
    """Detection: how false negatives are found."""

    detector: str = setting(
        "ifnd",
        "ifnd: pseudo-labels found while training; none: plain MoCo v2 or SimCLR; oracle: true "
        "labels, the upper bound; random: ifnd's labels permuted, the control that must not help; "
        "neighbours: mutual nearest neighbours of the embeddings; noisy_oracle: labels of "
        "--oracle_precision and --oracle_recall.",
        ("ifnd", "neighbours", "noisy_oracle", "none", "oracle", "random"),
    )
    num_neighbours: int = setting(
        5,
        "Neighbours k of each example that --detector=neighbours looks at, and the levels L that "
        "hold the pairs. More find more pairs, less precise ones.",
        low=1,
        high=10,
    )
    oracle_precision: float = setting(
        0.5, "Precision of the pairs of --detector=noisy_oracle.", above=0, high=1
    )
    oracle_recall: float = setting(
        0.3, "Recall of the pairs of --detector=noisy_oracle.", above=0, high=1
    )
    num_clusters: str = setting(
        "10,20,40",
        "Clusters K of each of the L levels, a comma list: absolute numbers, shares of N such as "
        "1%, or auto (0.2, 0.4 and 0.8% of N, but at least 10, 20 and 40). Common advice: the "
        "number of classes and a few multiples of it.",
    )
    hierarchy: str = setting(
        "independent",
        "independent: each level clusters the examples; nested: a coarser level clusters the finer "
        "level's centroids, which costs less and makes the levels agree.",
        ("independent", "nested"),
    )
    warmup_epochs: int = setting(
        10, "Epochs without detection at the start; detection too early hurts.", low=0
    )
    refresh_epochs: int = setting(1, "Epochs between detections. IFND: 1.", low=1)
    acceptance: str = setting(
        "linear",
        "How the accepted share of labels grows from the end of warm-up to acceptance_end_epoch.",
        ("linear", "cosine", "step", "constant"),
    )
    acceptance_start: float = share(0.0, "Accepted share at the end of warm-up.")
    acceptance_end: float = share(
        0.7,
        "Accepted share from acceptance_end_epoch on; at least acceptance_start. IFND: 1; on the "
        "digits the pairs' precision falls from 0.97 to 0.84 beyond 0.7.",
    )
    acceptance_end_epoch: int = setting(
        0,
        "Epoch at which acceptance_end is reached, later than warmup_epochs; 0: the last, as IFND. "
        "An earlier one leaves more epochs to learn from the most pairs.",
        low=0,
    )
    acceptance_scope: str = setting(
        "global",
        "Rank confidences over all examples (global: tight clusters come first) or within each "
        "cluster (every cluster gives its share).",
        ("global", "cluster"),
    )
    confidence_temperature: float = setting(
        0.2, "Temperature tau_c of the confidence, a softmax over centroids.", above=0
    )
    kmeans_iterations: int = setting(
        20, "Lloyd iterations of a refresh, at most; they end when the inertia settles.", low=1
    )
    cluster_on: str = setting(
        "projection",
        "Cluster the key projections, as IFND, or the encoder's features.",
        ("projection", "features"),
    )
    detect_with: str = setting(
        "encoder",
        "The embeddings that are clustered. encoder: all images, un-augmented, embedded by the "
        "momentum encoder before each detection, as IFND; keys: an average of each image's keys "
        "from training, without a forward pass; the path of a SavedModel, run once (see "
        "--saved_model_signature), or of a file of any tool's embeddings, .npz or .parquet with "
        "path (or index) and embedding, as --mode=embed writes. An image without a key or row is "
        "not accepted.",
    )
    keys_momentum: float = setting(
        0.8,
        "Momentum of the keys' average, one key an epoch; 0: the last key alone. A greater one "
        "averages more views, but of older encoders: on CIFAR-10, 0.8 detects pairs better than "
        "--detect_with=encoder from epoch 10 on, and worse at epoch 5, where 0.5 is better.",
        low=0,
        high=0.999999,
    )
