"""Every setting of a run, declared once: name, default, range and the reason for the default.

One dataclass a group, in the order of `--help`. `config.Config` joins and checks them;
`main.py` turns each field into a command-line flag of the same name. Empty strings and
`None` mean "choose from the other settings".
"""

import dataclasses
import operator
from typing import Any

STAGES = ("check", "watch", "train", "evaluate", "export", "embed", "report", "compare")
EXPORTS = ("saved_model", "keras", "onnx")
PROTOCOLS = ("knn", "linear", "few_labels", "finetune", "clustering")


def setting(
    default: Any,
    help: str,
    choices: tuple[str, ...] | None = None,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    free: bool = False,
    repeats: bool = False,
) -> Any:
    """A dataclass field that carries all there is to know of a flag.

    Args:
        default: value without the flag.
        help: unit and the reason for the default; the range is said by `describe_range`.
        choices: the values that a string may have; None: any.
        low, above: least value, itself allowed or not; None: unbounded.
        high, below: greatest value, itself allowed or not; None: unbounded.
        free: whether a run may be continued with another value, because the flag changes how a
            result is reached or shown, not what is trained.
        repeats: whether the flag may be given several times; its values are joined by commas.
    """
    metadata = {
        "help": help, "choices": choices, "low": low, "above": above, "high": high, "below": below,
        "free": free, "repeats": repeats,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


# How a bound is written, and when a value meets it.
_BOUNDS = {"low": (">=", operator.ge), "above": (">", operator.gt)} | {
    "high": ("<=", operator.le), "below": ("<", operator.lt),
}  # fmt: skip


def describe_range(field: dataclasses.Field) -> str:
    """A setting's bounds in words, such as ">= 0 and < 1"; empty if it has none."""
    bounds = {name: field.metadata[name] for name in _BOUNDS if field.metadata[name] is not None}
    return " and ".join(f"{_BOUNDS[name][0]} {bound:g}" for name, bound in bounds.items())


def in_range(field: dataclasses.Field, value: float) -> bool:
    """Whether a number meets the setting's bounds; NaN meets none."""
    return all(
        meets(value, field.metadata[name])
        for name, (_, meets) in _BOUNDS.items()
        if field.metadata[name] is not None
    )


@dataclasses.dataclass(frozen=True)
class Run:
    """The run."""

    mode: str = setting(
        "train,evaluate,export,report",
        f"Stages to run, a comma list of {', '.join(STAGES)}. Each resumes or redoes itself "
        "from the run directory alone. compare stands alone: it trains and evaluates --variants.",
        free=True,
    )
    experiment: str = setting(
        "digits",
        "Name of the experiment; without --workdir the run goes to runs/<experiment>.",
        free=True,
    )
    workdir: str = setting(
        "", "Run directory, local or gs://. Empty: runs/<experiment>.", free=True
    )
    seed: int = setting(
        0, "Seed of weights, order, views and clusters; run several to know the noise.", low=0
    )
    epochs: int = setting(80, "Passes over the training images. The digits need no more.", low=1)
    stop_after_epoch: int = setting(
        0,
        "Stop cleanly after this epoch, schedules unchanged, to resume later; 0: run to the end.",
        low=0,
        free=True,
    )
    checkpoint_share: float = setting(
        0.02,
        "The most of the time to spend on checkpoints at epochs' ends: one that comes too soon "
        "after the last checkpoint goes without. 1: every epoch's end is saved.",
        low=0,
        high=1,
        free=True,
    )
    checkpoint_minutes: float = setting(
        10.0,
        "Minutes between checkpoints within an epoch, so the most that a crash costs; 0: only "
        "epochs' ends.",
        low=0,
        free=True,
    )
    checkpoint_steps: int = setting(
        0,
        "Training steps between checkpoints within an epoch, so the most that a crash costs; "
        "0: none.",
        low=0,
        free=True,
    )
    keep_checkpoints: int = setting(
        3,
        "How many of the newest checkpoints to keep: should one be damaged, the one before serves.",
        low=1,
        free=True,
    )
    keep_every_epochs: int = setting(
        0, "Keep the checkpoint of every so many epochs' ends for good; 0: none.", low=0, free=True
    )
    on_nonfinite: str = setting(
        "stop",
        "What to do when a number becomes NaN or infinite. stop: name it and keep the last "
        "checkpoint; rollback: go back to that and on, with other views in another order.",
        ("stop", "rollback"),
        free=True,
    )
    nonfinite_retries: int = setting(
        3, "How often a run may go back with --on_nonfinite=rollback.", low=1, free=True
    )
    deterministic: bool = setting(
        True,
        "The same flags and seed give the same bits on the same machine. Off: TensorFlow may "
        "choose faster operations whose sums come in any order; on CPUs there is no difference.",
        free=True,
    )


@dataclasses.dataclass(frozen=True)
class Data:
    """Data: where images come from."""

    dataset: str = setting(
        "digits",
        "digits | folder:PATH | list:FILE | tfds:NAME[/CONFIG]. The default needs no download.",
    )
    data_dir: str = setting("", "Where tfds finds prepared data, on disk or gs://.", free=True)
    train_split: str = setting("train", "Split to train on; for tfds any slice, e.g. train[:90%].")
    eval_split: str = setting(
        "", "Split to evaluate on. Empty: test, validation or val, else a held-out share of train."
    )
    holdout_share: float = setting(
        0.2,
        "Share of the examples held out for evaluation when the data has no such split.",
        above=0,
        below=1,
    )
    validation_share: float = setting(
        0.0,
        "Share of the training images kept from training and evaluated on in place of "
        "the evaluation split: choose settings with it, and look at the latter once. 0: none.",
        low=0,
        below=1,
    )
    data_root: str = setting(
        "",
        "Folder that no file named by list:FILE may lie outside of, links followed. Empty: any.",
        free=True,
    )
    subset_classes: int = setting(
        0,
        "Keep only the first classes of a labelled data set, this many, in both splits: the gap "
        "between detectors none and oracle grows with their number. 0: all.",
        low=0,
    )
    subset_images: int = setting(
        0,
        "Train on about this many images, equally many of every class, the same ones for every "
        "seed: with it, subsets of more classes hold no more images. 0: all.",
        low=0,
    )
    image_size: int = setting(
        16, "Side of the square training views, in pixels. Digits have 8.", low=8
    )
    cache_megabytes: int = setting(
        2048,
        "Keep decoded images in memory when all have one size and fit in this; 0: never.",
        low=0,
        free=True,
    )
    scan_images: bool = setting(
        True,
        "Decode every image once before training, so that corrupt ones are known and left out; "
        "workers share the work. "
        "Off for data that is too large: unreadable images are then dropped as they turn up.",
    )
    max_corrupt_share: float = setting(
        0.01,
        "Largest tolerated share of unreadable images; above it the run stops.",
        low=0,
        high=1,
    )
    infeed_dtype: str = setting(
        "uint8",
        "What the host hands to the device. uint8: crops, with jitter, blur and normalisation on "
        "the device (a quarter of the bytes); float32 or bfloat16: finished views.",
        ("uint8", "float32", "bfloat16"),
    )


@dataclasses.dataclass(frozen=True)
class Views:
    """Views: the recipe and its overrides; None is the recipe's value."""

    augmentation: str = setting(
        "digits",
        "Recipe whose values the flags below override. digits: crops and small changes of "
        "contrast, because flipping or strongly cropping a digit changes what it shows.",
        ("moco_v2", "simclr", "digits"),
    )
    crop_min_area: float | None = setting(
        None, "Smallest crop as a share of the image's area.", above=0, high=1
    )
    flip_probability: float | None = setting(
        None, "Probability of a horizontal flip.", low=0, high=1
    )
    jitter_probability: float | None = setting(None, "Probability of colour jitter.", low=0, high=1)
    jitter_brightness: float | None = setting(
        None, "Brightness factor's range is 1 +- this.", low=0, high=1
    )
    jitter_contrast: float | None = setting(
        None, "Contrast factor's range is 1 +- this.", low=0, high=1
    )
    jitter_saturation: float | None = setting(
        None, "Saturation factor's range is 1 +- this.", low=0, high=1
    )
    jitter_hue: float | None = setting(
        None, "Hue turns by up to +- this share of the circle.", low=0, high=0.5
    )
    gray_probability: float | None = setting(None, "Probability of dropping colour.", low=0, high=1)
    blur_probability: float | None = setting(None, "Probability of Gaussian blur.", low=0, high=1)
    blur_sigma_min: float | None = setting(None, "Smallest blur, in pixels at 224.", above=0)
    blur_sigma_max: float | None = setting(
        None, "Largest blur, in pixels at 224; >= blur_sigma_min.", above=0
    )


@dataclasses.dataclass(frozen=True)
class Model:
    """Model: framework, encoder, projector, queue."""

    framework: str = setting(
        "moco",
        "moco: negatives from a queue (MoCo v2); simclr: from the batch of all replicas.",
        ("moco", "simclr"),
    )
    backbone: str = setting(
        "resnet_small",
        "resnet18 | resnet34 | resnet50 | resnet101 | resnet_small (see --depth, --width) | "
        "resnet_tiny (one block of --width channels, for tests and trials) | "
        "keras:NAME for any network of keras.applications.",
    )
    stem: str = setting(
        "cifar",
        "First layers of a ResNet. imagenet: 7x7 stride 2 and pooling; cifar: 3x3 stride 1; "
        "stride2: 3x3 stride 2, a quarter of cifar's cost, for small machines.",
        ("imagenet", "cifar", "stride2"),
    )
    depth: int = setting(
        8, "Layers of resnet_small: 6n + 2 for n blocks a stage, so 8, 14, 20, ...", low=8
    )
    width: int = setting(
        16,
        "Channels of resnet_small's first stage (doubled at each of 3 stages), and of resnet_tiny.",
        low=1,
    )
    projection_dim: int = setting(
        128, "Width D of the projection in which the loss is taken. MoCo v2: 128.", low=2
    )
    hidden_dim: int = setting(
        0, "Width of the projector's hidden layer; 0: the encoder's feature width.", low=0
    )
    temperature: float = setting(
        0.2, "Softmax temperature tau of the loss. MoCo v2: 0.2; CIFAR: 0.1.", above=0
    )
    queue_size: int = setting(
        512,
        "Length Q of the queue of keys (moco); a multiple of the batch, at most N. MoCo v2: 65536. "
        "0: half of N, at most 65536, so that it rarely holds an image's own older key.",
        low=0,
    )
    key_momentum: float = setting(
        0.99,
        "Momentum of the key encoder. MoCo v2: 0.999; shorter runs want a faster one.",
        low=0,
        below=1,
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
        8, "Sub-batches for --batch_norm=split; divides the replica's batch.", low=1
    )
    precision: str = setting(
        "float32",
        "Arithmetic of the encoder; the loss is always float32.",
        ("float32", "mixed_bfloat16", "mixed_float16"),
    )


@dataclasses.dataclass(frozen=True)
class Loss:
    """Loss: what becomes of a false negative."""

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
    level_combination: str = setting(
        "mean",
        "mean: average the losses of the L levels, as the paper; union: one loss, a pair found at "
        "any level is a false negative. union finds more pairs, those of the coarsest level at "
        "their full weight, so it wants every level to be precise.",
        ("mean", "union"),
    )


@dataclasses.dataclass(frozen=True)
class Detection:
    """Detection: how false negatives are found."""

    detector: str = setting(
        "ifnd",
        "ifnd: pseudo-labels found while training; none: plain MoCo v2 or SimCLR; oracle: true "
        "labels, the ceiling; random: ifnd's labels permuted, the control that must not help.",
    )
    num_clusters: str = setting(
        "10,20,40",
        "Clusters K of each of the L levels, a comma list: absolute numbers, shares of N such as "
        "1%, or auto (0.2, 0.4 and 0.8% of N; the run says how many). Common advice: the number of "
        "classes and a few multiples of it.",
    )
    hierarchy: str = setting(
        "independent",
        "independent: each level clusters the examples; nested: a coarser level clusters the finer "
        "level's centroids, which costs less and makes the levels agree.",
        ("independent", "nested"),
    )
    warmup_epochs: int = setting(
        10,
        "Epochs of plain contrastive learning before the first detection; too early hurts.",
        low=0,
    )
    refresh_epochs: int = setting(1, "Epochs between detections. The paper's default is 1.", low=1)
    acceptance: str = setting(
        "linear",
        "How the accepted share of labels grows from the end of warm-up to acceptance_end_epoch.",
        ("linear", "cosine", "step", "constant"),
    )
    acceptance_start: float = setting(0.0, "Accepted share at the end of warm-up.", low=0, high=1)
    acceptance_end: float = setting(
        0.7,
        "Accepted share from acceptance_end_epoch on; at least acceptance_start. The paper goes to "
        "1; on the digits the pairs' precision falls from 0.97 to 0.84 beyond 0.7.",
        low=0,
        high=1,
    )
    acceptance_end_epoch: int = setting(
        0,
        "Epoch at which acceptance_end is reached, later than warmup_epochs; 0: the last, as the "
        "paper. An earlier one leaves more epochs to learn from the most pairs.",
        low=0,
    )
    acceptance_scope: str = setting(
        "global",
        "Rank confidences over all examples (global: tight clusters are taken first) or within "
        "each cluster (every cluster gives its share).",
        ("global", "cluster"),
    )
    confidence_temperature: float = setting(
        0.2,
        "Temperature tau_c of the confidence softmax over centroids. Its ranks matter.",
        above=0,
    )
    kmeans_iterations: int = setting(
        20, "Lloyd iterations a refresh, at most: they end when the inertia settles.", low=1
    )
    cluster_on: str = setting(
        "projection",
        "Cluster on the key projection, as the paper, or on the encoder's features.",
        ("projection", "features"),
    )
    embedding_source: str = setting(
        "pass",
        "What is clustered. pass: all images, plain, embedded before each detection, as the paper; "
        "keys: the keys computed while training, averaged for each image, at no forward pass. An "
        "image whose key was never computed is not accepted.",
        ("pass", "keys"),
    )
    keys_momentum: float = setting(
        0.8,
        "Momentum of the kept keys' average, [0, 1), one key an epoch; 0: the last key alone. A "
        "longer average is over more views, but of older encoders: on CIFAR-10 0.8 finds pairs "
        "better than the pass does from epoch 10 on, and worse at epoch 5, where 0.5 is better.",
        low=0,
        high=0.999999,
    )


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """Optimisation."""

    batch_size: int = setting(
        128, "Images a step over all replicas, B; divided by the replicas.", low=2
    )
    optimizer: str = setting(
        "sgd",
        "sgd (momentum 0.9) for MoCo; lars for SimCLR with large batches.",
        ("sgd", "lars", "adamw", "lamb"),
    )
    learning_rate: float = setting(
        0.06, "Peak learning rate at the given batch size. MoCo's CIFAR demo: 0.06 at 512.", above=0
    )
    learning_rate_warmup_epochs: float = setting(
        0.0, "Epochs of linear warm-up of the learning rate; large batches need it.", low=0
    )
    sgd_momentum: float = setting(0.9, "Momentum of sgd and lars. MoCo v2: 0.9.", low=0, below=1)
    weight_decay: float = setting(
        5e-4,
        "L2 penalty for sgd and lars (coupled, as in MoCo), decoupled decay for adamw and "
        "lamb. Biases and batch-norm parameters are exempt for lars, adamw and lamb only.",
        low=0,
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Evaluation: what the encoder is tried on."""

    protocols: str = setting(
        "knn,linear,few_labels,clustering",
        f"Evaluations of the encoder on the evaluation split, of {', '.join(PROTOCOLS)}. "
        "few_labels is a linear probe and finetune trains the whole encoder, on --label_shares; "
        "finetune takes minutes, so it has to be asked for.",
        free=True,
    )
    label_shares: str = setting(
        "1%,10%",
        "Shares of the training labels, a comma list, equally many of every class, that few_labels "
        "and finetune are shown. 1% and 10% are SimCLR's.",
        free=True,
    )
    label_subsets: int = setting(
        3,
        "Subsets of each share, drawn with seeds 0, 1, ..., over which few_labels and finetune are "
        "averaged: small subsets differ.",
        low=1,
        free=True,
    )
    transfer_dataset: str = setting(
        "",
        "Another data set, spelt as --dataset, on whose frozen features kNN, a linear probe and "
        "(up to 10,000 images, or with several labels an image) VOC07's SVMs are trained and "
        "tested. Empty: none.",
        free=True,
    )
    saved_model: str = setting(
        "",
        "With --mode=evaluate: a SavedModel to evaluate, from here or elsewhere, in place of the "
        "run's encoder; in a --workdir of its own. Floats are fed pixels in [0, 1].",
    )
    saved_model_signature: str = setting(
        "serving_default", "Signature of --saved_model that takes one batch of images."
    )
    saved_model_output: str = setting(
        "features", "Output of that signature to evaluate, [b, F] or a map [b, h, w, F]."
    )
    online_knn_epochs: int = setting(
        5, "Epochs between kNN checks while training; 0: never.", low=0, free=True
    )
    online_knn_examples: int = setting(
        10000,
        "Training examples in the online check's memory, to bound its cost.",
        low=1,
        free=True,
    )
    knn_neighbors: int = setting(
        20,
        "Neighbours of weighted kNN, fewer than a class has images. Wu et al. 2018: 200.",
        low=1,
        free=True,
    )
    knn_temperature: float = setting(
        0.1, "Temperature of weighted kNN's votes. MoCo's CIFAR demo: 0.1.", above=0, free=True
    )
    linear_solver: str = setting(
        "auto",
        "Linear probe: lbfgs (logistic regression), sgd (MoCo's recipe), or auto: lbfgs "
        "up to 100,000 training examples.",
        ("auto", "lbfgs", "sgd"),
        free=True,
    )
    linear_epochs: int = setting(
        100, "Epochs of the sgd linear probe. MoCo: 100.", low=1, free=True
    )
    linear_learning_rate: float = setting(
        30.0, "Learning rate of the sgd probe at batch 256. MoCo: 30.", above=0, free=True
    )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Comparison: --mode=compare."""

    variants: str = setting(
        "none,ifnd,oracle,random",
        "What to compare, a comma list whose first entry is the baseline. An entry is a detector, "
        "or NAME:FLAG=VALUE;FLAG=VALUE, as in cold:temperature=0.1;detector=none. A comma inside a "
        "value belongs to it unless an entry follows. Given again, the flag adds entries, so that "
        "a flagfile can hold one a line; an empty --variants= drops those before it. The default "
        "is the method between its floor and ceiling, and the control.",
        free=True,
        repeats=True,
    )
    seeds: int = setting(
        3,
        "Runs of each variant, with seeds --seed, --seed + 1, ... A seed has the same order, views "
        "and initial weights in every variant. Three show the noise; ten tell small effects.",
        low=1,
        free=True,
    )


@dataclasses.dataclass(frozen=True)
class Results:
    """Results: what to take away."""

    export_formats: str = setting(
        "saved_model,keras",
        "What --mode=export writes, a comma list. saved_model: runs anywhere, images of any size; "
        "keras: a Keras model of stock layers and its weights, to build on; onnx: needs tf2onnx.",
        free=True,
    )
    embed_dataset: str = setting(
        "",
        "Images that --mode=embed embeds, named like --dataset. Empty: those of the run, which "
        "are most often the ones to sort.",
        free=True,
    )
    embed_format: str = setting(
        "npz",
        "How --mode=embed writes the table of features. npz: NumPy; parquet: pandas and others.",
        ("npz", "parquet"),
        free=True,
    )
    embed_clusters: int = setting(
        0,
        "Clusters in --mode=embed's clusters.csv; 0: the fewest of --num_clusters, since people "
        "sort by hand what comes out.",
        low=0,
        free=True,
    )
    duplicate_similarity: float = setting(
        0.95,
        "Least cosine of centred features at which --mode=embed calls two images of a cluster "
        "near duplicates. On copies made of CIFAR-10's images 0.95 has precision 0.96 and recall "
        "0.77 (examples/near_duplicates.py); look at duplicates.csv and move it.",
        above=0,
        high=1,
        free=True,
    )


@dataclasses.dataclass(frozen=True)
class Records:
    """Records: where a run can be watched, besides the terminal and TensorBoard."""

    report_examples: int = setting(
        5000,
        "Training images embedded for the report's map and nearest neighbours; up to 2,000 of "
        "them, and members of clusters, are shown. 0: no pictures leave the data set.",
        low=0,
        free=True,
    )
    report_share: float = setting(
        0.005,
        "Largest share of the training time spent on refreshing report.html meanwhile; 0: write "
        "it at the end only.",
        low=0,
        high=0.1,
        free=True,
    )
    wandb: bool = setting(
        False, "Also log to Weights & Biases, which must be installed (extra wandb).", free=True
    )
    mlflow: bool = setting(
        False, "Also log to MLflow, which must be installed (extra mlflow).", free=True
    )


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices: where it is computed."""

    strategy: str = setting(
        "auto",
        "auto: tpu if --tpu is given, multiworker if TF_CONFIG is, mirrored with several GPUs, "
        "else none.",
        ("auto", "none", "mirrored", "multiworker", "tpu"),
        free=True,
    )
    tpu: str = setting(
        "", "Name or grpc:// address of the TPU, or local on a Cloud TPU VM.", free=True
    )
    steps_per_execution: int = setting(
        1,
        "Training steps run in one call of the compiled program. TPUs want tens or more.",
        low=1,
        free=True,
    )
    worker_timeout_seconds: int = setting(
        300, "How long to wait for the other workers at start-up.", low=1, free=True
    )


# In the order of --help.
GROUPS = (
    *(Run, Data, Views, Model, Loss, Detection, Optimisation, Evaluation, Results, Comparison),
    Records,
    Devices,
)
