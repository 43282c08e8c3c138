"""Settings of the optimisation."""

import dataclasses

from ifnd_tf.config.setting import setting


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """Optimisation."""

    batch_size: int = setting(128, "Batch size B over all replicas, which divide it.", low=2)
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
