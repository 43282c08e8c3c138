"""Settings of the devices."""

import dataclasses

from ifnd_tf.config.setting import changeable


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices: where to compute."""

    strategy: str = changeable(
        "auto",
        "auto: tpu if --tpu is given, multiworker if TF_CONFIG is set, mirrored with several GPUs, "
        "else none.",
        ("auto", "none", "mirrored", "multiworker", "tpu"),
    )
    tpu: str = changeable("", "Name or grpc:// address of the TPU, or local on a Cloud TPU VM.")
    steps_per_execution: int = changeable(
        1, "Training steps in one call of the compiled program. TPUs need tens.", low=1
    )
    threads: int = changeable(
        0,
        "Threads of an operation on the CPU; 0: one for each core. Small networks gain little by "
        "more than 1, and leave the other cores to --jobs. The number changes the last bits of "
        "results.",
        low=0,
    )
    worker_timeout_seconds: int = changeable(
        300,
        "Seconds to wait for the other workers at start-up, and for a batch of --data_service.",
        low=1,
    )
