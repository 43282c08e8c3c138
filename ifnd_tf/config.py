"""Every setting of a run, declared once: name, default, range and the reason for the default.

`main.py` turns each field into a command-line flag of the same name; the library never
reads flags. Empty strings and `None` mean "choose from the other settings".
"""

import dataclasses
from typing import Any

from ifnd_tf.errors import UserError

STAGES = ("check", "train", "evaluate", "export", "report")
PROTOCOLS = ("knn", "linear", "few_labels", "clustering")


def setting(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    """A dataclass field that carries its command-line help and, for strings, its choices."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run. Symbols (N, B, Q, D, K, L) are those of the method."""

    # --- The run -----------------------------------------------------------------------
    mode: str = setting(
        "train,evaluate,export,report",
        f"Stages to run, a comma list of {', '.join(STAGES)}. Each resumes or redoes itself "
        "from the run directory alone.",
    )
    experiment: str = setting(
        "digits", "Name of the experiment; without --workdir the run goes to runs/<experiment>."
    )
    workdir: str = setting("", "Run directory, local or gs://. Empty: runs/<experiment>.")
    seed: int = setting(0, "Seed of weights, order, views and clusters; >= 0.")
    epochs: int = setting(80, "Passes over the training images; >= 1.")
    stop_after_epoch: int = setting(
        0, "Stop cleanly after this epoch, schedules unchanged, to resume later; 0: run to the end."
    )
    checkpoint_epochs: int = setting(
        5, "Epochs between checkpoints; >= 1. A checkpoint is also written at the end."
    )

    # --- Data --------------------------------------------------------------------------
    dataset: str = setting(
        "digits",
        "digits | folder:PATH | list:FILE | tfds:NAME[/CONFIG]. The default needs no download.",
    )
    data_dir: str = setting("", "Where tfds finds prepared data, on disk or gs://.")
    train_split: str = setting("train", "Split to train on; for tfds any slice, e.g. train[:90%].")
    eval_split: str = setting(
        "", "Split to evaluate on. Empty: test, validation or val, else a held-out share of train."
    )
    holdout_share: float = setting(
        0.2,
        "Share of the examples held out for evaluation when the data has no such split; (0, 1).",
    )
    image_size: int = setting(16, "Side of the square training views, in pixels; >= 8.")
    cache_megabytes: int = setting(
        2048, "Keep decoded images in memory when all have one size and fit in this; 0: never."
    )
    scan_images: bool = setting(
        True,
        "Decode every image once before training, so that corrupt ones are known and left out. "
        "Off for data that is too large: unreadable images are then dropped as they turn up.",
    )
    max_corrupt_share: float = setting(
        0.01, "Largest tolerated share of unreadable images, [0, 1]; above it the run stops."
    )
    infeed_dtype: str = setting(
        "uint8",
        "What the host hands to the device. uint8: crops, with jitter, blur and normalisation on "
        "the device (a quarter of the bytes); float32 or bfloat16: finished views.",
        ("uint8", "float32", "bfloat16"),
    )

    # --- Views (None: the recipe's value) ------------------------------------------------
    augmentation: str = setting(
        "digits",
        "Recipe whose values the flags below override. digits: crops and small changes of "
        "contrast, because flipping or strongly cropping a digit changes what it shows.",
        ("moco_v2", "simclr", "digits"),
    )
    crop_min_area: float | None = setting(
        None, "Smallest crop as a share of the image's area; (0, 1]."
    )
    flip_probability: float | None = setting(None, "Probability of a horizontal flip; [0, 1].")
    jitter_probability: float | None = setting(None, "Probability of colour jitter; [0, 1].")
    jitter_brightness: float | None = setting(
        None, "Brightness factor's range is 1 +- this; [0, 1]."
    )
    jitter_contrast: float | None = setting(None, "Contrast factor's range is 1 +- this; [0, 1].")
    jitter_saturation: float | None = setting(
        None, "Saturation factor's range is 1 +- this; [0, 1]."
    )
    jitter_hue: float | None = setting(
        None, "Hue turns by up to +- this share of the circle; [0, 0.5]."
    )
    gray_probability: float | None = setting(None, "Probability of dropping colour; [0, 1].")
    blur_probability: float | None = setting(None, "Probability of Gaussian blur; [0, 1].")
    blur_sigma_min: float | None = setting(None, "Smallest blur, in pixels at 224; > 0.")
    blur_sigma_max: float | None = setting(
        None, "Largest blur, in pixels at 224; >= blur_sigma_min."
    )

    # --- Model ---------------------------------------------------------------------------
    framework: str = setting(
        "moco",
        "moco: negatives from a queue (MoCo v2); simclr: from the batch of all replicas.",
        ("moco", "simclr"),
    )
    backbone: str = setting(
        "resnet_small",
        "resnet18 | resnet34 | resnet50 | resnet101 | resnet_small (see --depth, --width) | "
        "keras:NAME for any network of keras.applications.",
    )
    stem: str = setting(
        "cifar",
        "First layers of a ResNet. imagenet: 7x7 stride 2 and pooling; cifar: 3x3 stride 1; "
        "stride2: 3x3 stride 2, a quarter of cifar's cost, for small machines.",
        ("imagenet", "cifar", "stride2"),
    )
    depth: int = setting(
        8, "Layers of resnet_small: 6n + 2 for n blocks a stage, so 8, 14, 20, ..."
    )
    width: int = setting(
        16, "Channels of resnet_small's first stage (doubled at each of 3 stages); >= 1."
    )
    projection_dim: int = setting(
        128, "Width D of the projection in which the loss is taken; >= 2."
    )
    hidden_dim: int = setting(
        0, "Width of the projector's hidden layer; 0: the encoder's feature width."
    )
    temperature: float = setting(
        0.2, "Softmax temperature tau of the loss; > 0. MoCo v2: 0.2; CIFAR: 0.1."
    )
    queue_size: int = setting(
        512,
        "Length Q of the queue of keys (moco); a multiple of the batch, at most N. MoCo v2: 65536.",
    )
    key_momentum: float = setting(
        0.99, "Momentum of the key encoder, [0, 1). MoCo v2: 0.999; shorter runs want a faster one."
    )
    batch_norm: str = setting(
        "auto",
        "How batch statistics are kept from revealing the positive. sync: over all replicas; "
        "shuffle: keys shuffled across replicas; split: sub-batches with shuffled keys on each "
        "device; local: unprotected. auto: sync for simclr; for moco shuffle, or on one device "
        "split.",
        ("auto", "sync", "shuffle", "split", "local"),
    )
    batch_norm_splits: int = setting(
        8, "Sub-batches for --batch_norm=split; divides the replica's batch."
    )
    precision: str = setting(
        "float32",
        "Arithmetic of the encoder; the loss is always float32.",
        ("float32", "mixed_bfloat16", "mixed_float16"),
    )

    # --- Loss ----------------------------------------------------------------------------
    loss: str = setting(
        "eliminate",
        "What to do with a detected false negative. eliminate: leave it out; attract: make it a "
        "positive. Elimination is the stable one when labels are noisy.",
        ("eliminate", "attract"),
    )
    rescale_negatives: bool = setting(
        False,
        "Scale the kept negatives' sum up to the full count (eliminate only); the paper does not.",
    )

    # --- Detection -------------------------------------------------------------------------
    detector: str = setting(
        "ifnd",
        "ifnd: pseudo-labels found while training; none: plain MoCo v2 or SimCLR; oracle: true "
        "labels, the ceiling; random: ifnd's labels permuted, the control that must not help.",
    )
    num_clusters: str = setting(
        "10,20,40",
        "Clusters K of each of the L levels, a comma list: absolute numbers, shares of N such as "
        "1%, or auto. Common advice: the number of classes and a few multiples of it.",
    )
    hierarchy: str = setting(
        "independent",
        "independent: each level clusters the examples; nested: a coarser level clusters the finer "
        "level's centroids, which costs less and makes the levels agree.",
        ("independent", "nested"),
    )
    warmup_epochs: int = setting(
        10, "Epochs of plain contrastive learning before the first detection; too early hurts."
    )
    refresh_epochs: int = setting(1, "Epochs between detections; >= 1. The paper's default is 1.")
    acceptance: str = setting(
        "linear",
        "How the accepted share of labels grows from the end of warm-up to the last epoch.",
        ("linear", "cosine", "step", "constant"),
    )
    acceptance_start: float = setting(0.0, "Accepted share at the end of warm-up; [0, 1].")
    acceptance_end: float = setting(
        0.7,
        "Accepted share at the last epoch; [acceptance_start, 1]. The paper goes to 1; on the "
        "digits the pairs' precision falls from 0.97 to 0.84 beyond 0.7.",
    )
    acceptance_scope: str = setting(
        "global",
        "Rank confidences over all examples (global: tight clusters are taken first) or within "
        "each cluster (every cluster gives its share).",
        ("global", "cluster"),
    )
    confidence_temperature: float = setting(
        0.2,
        "Temperature tau_c of the confidence softmax over centroids; > 0. Its ranks matter.",
    )
    kmeans_iterations: int = setting(20, "Lloyd iterations a refresh; >= 1. Warm starts need few.")
    cluster_on: str = setting(
        "projection",
        "Cluster on the key projection, as the paper, or on the encoder's features.",
        ("projection", "features"),
    )

    # --- Optimisation ------------------------------------------------------------------------
    batch_size: int = setting(128, "Images a step over all replicas, B; divided by the replicas.")
    optimizer: str = setting(
        "sgd",
        "sgd (momentum 0.9) for MoCo; lars for SimCLR with large batches.",
        ("sgd", "lars", "adamw", "lamb"),
    )
    learning_rate: float = setting(0.06, "Peak learning rate at the given batch size; > 0.")
    learning_rate_warmup_epochs: float = setting(
        0.0, "Epochs of linear warm-up of the learning rate; >= 0."
    )
    sgd_momentum: float = setting(0.9, "Momentum of sgd and lars; [0, 1).")
    weight_decay: float = setting(
        5e-4,
        "L2 penalty for sgd and lars (coupled, as in MoCo), decoupled decay for adamw and lamb; "
        ">= 0. Biases and batch-norm parameters are exempt for lars, adamw and lamb only.",
    )

    # --- Evaluation ----------------------------------------------------------------------------
    protocols: str = setting(
        "knn,linear,few_labels,clustering",
        f"Evaluations of the encoder on the evaluation split, of {', '.join(PROTOCOLS)}.",
    )
    online_knn_epochs: int = setting(5, "Epochs between kNN checks while training; 0: never.")
    online_knn_examples: int = setting(
        10000, "Training examples in the online check's memory, to bound its cost; >= 1."
    )
    knn_neighbors: int = setting(
        20,
        "Neighbours of weighted kNN, fewer than a class has images. Wu et al. 2018: 200.",
    )
    knn_temperature: float = setting(
        0.1, "Temperature of weighted kNN's votes; > 0. MoCo's CIFAR demo: 0.1."
    )
    linear_solver: str = setting(
        "auto",
        "Linear probe: lbfgs (logistic regression), sgd (MoCo's recipe), or auto: lbfgs "
        "up to 100,000 training examples.",
        ("auto", "lbfgs", "sgd"),
    )
    linear_epochs: int = setting(100, "Epochs of the sgd linear probe; >= 1.")
    linear_learning_rate: float = setting(
        30.0, "Learning rate of the sgd probe at batch 256; > 0. MoCo: 30."
    )

    # --- Devices ---------------------------------------------------------------------------------
    strategy: str = setting(
        "auto",
        "auto: tpu if --tpu is given, multiworker if TF_CONFIG is, mirrored with several GPUs, "
        "else none.",
        ("auto", "none", "mirrored", "multiworker", "tpu"),
    )
    tpu: str = setting("", "Name or grpc:// address of the TPU, or local on a Cloud TPU VM.")
    steps_per_execution: int = setting(
        1, "Training steps run in one call of the compiled program; >= 1. TPUs want tens or more."
    )
    worker_timeout_seconds: int = setting(
        300, "How long to wait for the other workers at start-up; > 0."
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            choices, value = field.metadata["choices"], getattr(self, field.name)
            if choices and value not in choices:
                raise UserError(
                    f"--{field.name}: expected one of {', '.join(choices)}. Received: {value!r}."
                )
        _check_ranges(self)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of `mode`, in the order given."""
        return tuple(part.strip() for part in self.mode.split(",") if part.strip())

    @property
    def protocol_names(self) -> tuple[str, ...]:
        """The evaluations of `protocols`, in the order given."""
        return tuple(part.strip() for part in self.protocols.split(",") if part.strip())

    @property
    def run_path(self) -> str:
        """`workdir`, or its default."""
        return self.workdir or f"runs/{self.experiment}"


# name -> (lowest, highest, is the lowest excluded?); None: unbounded.
_RANGES: dict[str, tuple[float | None, float | None, bool]] = {
    "seed": (0, None, False),
    "epochs": (1, None, False),
    "stop_after_epoch": (0, None, False),
    "checkpoint_epochs": (1, None, False),
    "holdout_share": (0, 0.9, True),
    "image_size": (8, None, False),
    "cache_megabytes": (0, None, False),
    "max_corrupt_share": (0, 1, False),
    "crop_min_area": (0, 1, True),
    "flip_probability": (0, 1, False),
    "jitter_probability": (0, 1, False),
    "jitter_brightness": (0, 1, False),
    "jitter_contrast": (0, 1, False),
    "jitter_saturation": (0, 1, False),
    "jitter_hue": (0, 0.5, False),
    "gray_probability": (0, 1, False),
    "blur_probability": (0, 1, False),
    "blur_sigma_min": (0, None, True),
    "blur_sigma_max": (0, None, True),
    "depth": (8, None, False),
    "width": (1, None, False),
    "projection_dim": (2, None, False),
    "hidden_dim": (0, None, False),
    "temperature": (0, None, True),
    "queue_size": (1, None, False),
    "key_momentum": (0, 0.999999, False),
    "batch_norm_splits": (1, None, False),
    "warmup_epochs": (0, None, False),
    "refresh_epochs": (1, None, False),
    "acceptance_start": (0, 1, False),
    "acceptance_end": (0, 1, False),
    "confidence_temperature": (0, None, True),
    "kmeans_iterations": (1, None, False),
    "batch_size": (2, None, False),
    "learning_rate": (0, None, True),
    "learning_rate_warmup_epochs": (0, None, False),
    "sgd_momentum": (0, 0.999999, False),
    "weight_decay": (0, None, False),
    "online_knn_epochs": (0, None, False),
    "online_knn_examples": (1, None, False),
    "knn_neighbors": (1, None, False),
    "knn_temperature": (0, None, True),
    "linear_epochs": (1, None, False),
    "linear_learning_rate": (0, None, True),
    "steps_per_execution": (1, None, False),
    "worker_timeout_seconds": (1, None, False),
}


def _check_ranges(config: Config) -> None:
    """Raises `UserError` naming the first setting outside its range, or a clash of two."""
    for name, (low, high, open_low) in _RANGES.items():
        value = getattr(config, name)
        if value is None:
            continue
        too_low = low is not None and (value <= low if open_low else value < low)
        if too_low or (high is not None and value > high) or value != value:
            bounds = f"{'>' if open_low else '>='} {low}" + (
                "" if high is None else f" and <= {high}"
            )
            raise UserError(f"--{name}: expected a value {bounds}. Received: {value}.")
    for name, given, known in (
        ("mode", config.stages, STAGES),
        ("protocols", config.protocol_names, PROTOCOLS),
    ):
        if not given or set(given) - set(known):
            raise UserError(
                f"--{name}: expected a comma list of {', '.join(known)}. "
                f"Received: {getattr(config, name)!r}."
            )
    if config.acceptance_end < config.acceptance_start:
        raise UserError(
            f"--acceptance_end: expected at least --acceptance_start={config.acceptance_start}. "
            f"Received: {config.acceptance_end}."
        )
    if config.framework == "moco" and config.queue_size % config.batch_size:
        raise UserError(
            f"--queue_size: expected a multiple of --batch_size={config.batch_size}, so that whole "
            f"batches enter the queue. Received: {config.queue_size}; try "
            f"{max(1, round(config.queue_size / config.batch_size)) * config.batch_size}."
        )
