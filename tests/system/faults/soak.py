"""A long run in short: many steps, a refresh every 100, and how the process's memory grows."""

import pathlib
import shutil
import statistics
from typing import Any

import main
from ifnd_tf.training.callbacks.epoch_records import EpochRecords
from tests.system.faults import child

# 1,438 training digits at 14 a step make 102 steps an epoch, with a refresh before each.
_STEPS = 102
_SETTINGS = [
    "--backbone=resnet_tiny", "--image_size=8", "--width=2", "--projection_dim=8",
    "--batch_size=14", "--queue_size=112",
    "--num_clusters=4,8", "--warmup_epochs=1", "--kmeans_iterations=3", "--online_knn_epochs=0",
    "--batch_norm=sync", "--mode=train",
]  # fmt: skip


def measure(workdir: str, *, steps: int) -> dict[str, Any]:
    """Trains so many steps, and notes the resident memory at each epoch's end.

    Returns:
        "steps", "refreshes", "warm_megabytes" (median of the second tenth of the epochs),
        "end_megabytes" (of the last tenth), "growth" (share) and "seconds".
    """
    root = pathlib.Path(workdir)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    epochs = max(20, -(-steps // _STEPS))
    sizes = root / "sizes.txt"
    arguments = [*_SETTINGS, f"--epochs={epochs}", f"--workdir={root / 'run'}"]
    end = child.call(lambda: _noting_memory(arguments, sizes), root / "soak.log")
    assert end.status == 0, end.output[-2000:]
    megabytes = [int(line) / 1024 for line in sizes.read_text().split()]
    tenth = len(megabytes) // 10
    warm = statistics.median(megabytes[tenth : 2 * tenth])
    last = statistics.median(megabytes[-tenth:])
    return {
        "steps": epochs * _STEPS,
        "refreshes": epochs - 1,
        "warm_megabytes": warm,
        "end_megabytes": last,
        "growth": last / warm - 1,
        "seconds": end.seconds,
    }


def _noting_memory(arguments: list[str], sizes: pathlib.Path) -> int:
    ended = EpochRecords.on_epoch_end

    def noted(self: EpochRecords, epoch: int, logs: Any = None) -> None:
        ended(self, epoch, logs)
        status = pathlib.Path("/proc/self/status").read_text()
        resident = status.split("VmRSS:")[1].split()[0]  # in units of 1,024 bytes
        with sizes.open("a") as file:
            file.write(resident + "\n")

    EpochRecords.on_epoch_end = noted  # type: ignore[method-assign]
    return main.main(arguments)
