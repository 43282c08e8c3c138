"""Settings of the run."""

import dataclasses

from ifnd_tf.config.setting import changeable, setting

STAGES = ("check", "watch", "train", "evaluate", "export", "embed", "report", "compare")


@dataclasses.dataclass(frozen=True)
class Run:
    """The run."""

    mode: str = changeable(
        "train,evaluate,export,report",
        f"Stages to run, a comma list of {', '.join(STAGES)}. Each needs the run directory only. "
        "watch and compare stand alone; compare trains and evaluates --variants.",
    )
    experiment: str = changeable(
        "", "Name of the experiment, and of its run directory. Empty: the data set's."
    )
    workdir: str = changeable("", "Run directory, local or gs://. Empty: runs/<experiment>.")
    seed: int = setting(0, "Seed of weights, order, views and clusters.", low=0)
    epochs: int = setting(80, "Passes over the training images. The digits need no more.", low=1)
    stop_after_epoch: int = changeable(
        0, "Stop after this epoch, with the schedules of all epochs; 0: run to the end.", low=0
    )
    checkpoint_minutes: float = changeable(
        10.0, "Minutes between two checkpoints, at most; 0: only at epochs' ends.", low=0
    )
    checkpoint_steps: int = changeable(
        0, "Training steps between two checkpoints, at most; 0: see checkpoint_minutes.", low=0
    )
    keep_checkpoints: int = changeable(
        3, "Newest checkpoints to keep: if one is damaged, the one before serves.", low=1
    )
    on_nonfinite: str = changeable(
        "stop",
        "When a number becomes NaN or infinite. stop: name it and keep the last checkpoint; "
        "rollback: continue from the last checkpoint, with other views in another order.",
        ("stop", "rollback"),
    )
    deterministic: bool = changeable(
        True,
        "The same flags and seed give the same bits on the same machine. Off: TensorFlow may use "
        "faster operations that sum in any order; on CPUs there is no difference.",
    )
