"""Settings of the evaluation."""

import dataclasses

from ifnd_tf.config.setting import changeable, setting

# Name -> the result that it always writes to results.json; {share} as in 10pct.
PROTOCOLS = {
    "knn": "knn_top1",
    "linear": "linear_top1",
    "few_labels": "linear_{share}_top1",
    "finetune": "finetune_{share}_top1",
    "clustering": "cluster_nmi",
}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Evaluation: protocols on the trained encoder."""

    protocols: str = changeable(
        "knn,linear,few_labels,clustering",
        f"Evaluations on the evaluation split, a comma list of {', '.join(PROTOCOLS)}. On "
        "each of --label_shares, few_labels trains a linear probe, and finetune the whole encoder, "
        "which takes minutes.",
    )
    label_shares: str = changeable(
        "1%,10%",
        "Shares of the training labels for few_labels and finetune, a comma list; equally many "
        "labels of every class. SimCLR: 1% and 10%. 1shot, 5shot: 1 or 5 labels of every class.",
    )
    label_subsets: int = changeable(
        3, "Random subsets of each share, to average few_labels and finetune over.", low=1
    )
    transfer_dataset: str = changeable(
        "",
        "Another data set, spelt as --dataset, for kNN, a linear probe and (up to 10,000 images, "
        "or with several labels an image) VOC07's SVMs on frozen features. Empty: none.",
    )
    saved_model: str = setting(
        "",
        "A SavedModel for --mode=evaluate or embed in place of the run's encoder; in a --workdir "
        "of its own. Float inputs get pixels in [0, 1].",
    )
    saved_model_signature: str = setting(
        "serving_default", "Signature of --saved_model that takes one batch of images."
    )
    saved_model_output: str = setting(
        "features", "Output of that signature to evaluate, [b, F] or a map [b, h, w, F]."
    )
    online_knn_epochs: int = changeable(
        5, "Epochs between kNN evaluations while training; 0: never.", low=0
    )
    online_knn_examples: int = changeable(
        10000, "Training examples of the kNN evaluations while training; fewer cost less.", low=1
    )
    knn_neighbors: int = changeable(
        20, "Neighbours of weighted kNN, fewer than a class has images. Wu et al. 2018: 200.", low=1
    )
    knn_temperature: float = changeable(
        0.1, "Temperature of weighted kNN's votes. MoCo's CIFAR demo: 0.1.", above=0
    )
    linear_solver: str = changeable(
        "auto",
        "Linear probe: lbfgs (logistic regression), sgd (MoCo's recipe), or auto: lbfgs "
        "up to 100,000 training examples.",
        ("auto", "lbfgs", "sgd"),
    )
    linear_epochs: int = changeable(100, "Epochs of the sgd linear probe. MoCo: 100.", low=1)
    linear_learning_rate: float = changeable(
        30.0, "Learning rate of the sgd linear probe at batch size 256. MoCo: 30.", above=0
    )
