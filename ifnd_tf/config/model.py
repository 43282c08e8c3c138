"""Settings of the model and its loss."""

import dataclasses
import re

from ifnd_tf.config import treatments
from ifnd_tf.config.setting import setting

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet_small", "resnet_tiny")
# Vision Transformers of --backbone=hub:, by size and side of a patch.
VIT = re.compile(r"vit_(?P<size>tiny|small|base|large|huge)_patch(?P<patch>\d+)")


@dataclasses.dataclass(frozen=True)
class Model:
    """Model: framework, encoder, projector, queue, loss."""

    framework: str = setting(
        "moco",
        "moco: negatives from a queue (MoCo v2); simclr: from the batch of all replicas.",
        ("moco", "simclr"),
    )
    backbone: str = setting(
        "resnet_small",
        "resnet18 | resnet34 | resnet50 | resnet101 | resnet_small (see --depth, --width) | "
        "resnet_tiny (one block of --width channels, for tests and trials) | "
        "keras:NAME for any network of keras.applications | hub:vit_SIZE_patchN, or hub:FOLDER of "
        "a KerasHub preset, for a Vision Transformer (extra hub). auto: the network of a run in "
        "--init_from; EfficientNetB0 if --init_from=auto finds its weights; else resnet_small.",
        auto=True,
    )
    stem: str = setting(
        "cifar",
        "First layers of a ResNet. imagenet: 7x7 stride 2 and pooling; cifar: 3x3 stride 1; "
        "stride2: 3x3 stride 2, a quarter of cifar's cost. auto: cifar for views of up to 32 "
        "pixels, stride2 up to 128, imagenet above.",
        ("auto", "imagenet", "cifar", "stride2"),
        auto=True,
    )
    depth: int = setting(
        8, "Layers of resnet_small: 6n + 2 for n blocks a stage, so 8, 14, 20, ...", low=8
    )
    width: int = setting(
        16,
        "Channels of resnet_small's first stage (doubled at each of 3 stages), and of resnet_tiny.",
        low=1,
    )
    projection_dim: int = setting(128, "Width D of the projection. MoCo v2: 128.", low=2)
    hidden_dim: int = setting(
        0, "Width of the projector's hidden layer; 0: that of the features.", low=0
    )
    temperature: float = setting(
        0.2, "Softmax temperature tau of the loss. MoCo v2: 0.2; CIFAR: 0.1.", above=0
    )
    treatment: str = setting(
        "eliminate",
        f"Rules for false negatives, a comma list of {', '.join(treatments.names())}, each with "
        "its parameters: eliminate,sce:lam=0.5. eliminate and attract treat what --detector found; "
        "elimination is the stable one when labels are noisy. docs/treatments.md explains all.",
    )
    rescale_negatives: bool = setting(
        False,
        "Scale the sum over the kept negatives to the full count, unlike IFND.",
    )
    level_combination: str = setting(
        "mean",
        "mean: average the losses of the L levels, as IFND; union: one loss, in which a pair "
        "detected at any level is a false negative. union detects more pairs, so it needs every "
        "level to be precise.",
        ("mean", "union"),
    )
    queue_size: int = setting(
        512,
        "Keys in the queue, Q (moco): a multiple of the batch, at most N. MoCo v2: 65536. "
        "auto: half of N, at most 65536, so that older keys of the anchor itself are rare.",
        auto=True,
        low=1,
    )
    key_momentum: float = setting(
        0.99,
        "Momentum of the key encoder. MoCo v2: 0.999; shorter runs need a lower one.",
        low=0,
        below=1,
    )
    batch_norm: str = setting(
        "auto",
        "How batch statistics are kept from revealing the positive. sync: over all replicas; "
        "shuffle: keys shuffled across replicas; split: sub-batches with shuffled keys on each "
        "device; local: unprotected. auto: sync for simclr; for moco shuffle, or split on one "
        "device.",
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
