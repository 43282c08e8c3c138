"""Training, input included, against lightly's MoCo on PyTorch: images a second, and memory.

    python -m benchmarks.step --data=data/cifar10 --json -

Same encoder, batch, queue, precision and threads; MoCo v2's recipe for 32 pixels on both sides,
each with its own input: class folders of JPEGs, decoded and augmented on the CPU.
"""

import argparse
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator

import psutil

from benchmarks import peer, rows
from benchmarks.memory import apart
from benchmarks.rows import Row, in_turn, row

_ENCODERS = {
    "ResNet-8": ("--backbone=resnet_small", "--stem=cifar", "--depth=8", "--width=16"),
    "ResNet-18": ("--backbone=resnet18", "--stem=cifar"),
}
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_QUEUE = 4096


def ours(data: str, encoder: str, precision: str, batch: int) -> Callable[[int], float]:
    """Seconds of so many steps of this project's plain MoCo."""
    from benchmarks.run_parts import parts

    run = parts(
        "--flagfile=experiments/cifar10.flags", *_ENCODERS[encoder], f"--dataset=folder:{data}",
        f"--precision={_POLICIES[precision]}", f"--batch_size={batch}", f"--queue_size={_QUEUE}",
        "--detector=none", "--batch_norm=local",
    )  # fmt: skip
    step, batches = run.model.make_train_function(), run.batches()

    def steps(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            loss = step(batches)["loss"]
        float(loss)
        return time.perf_counter() - begin

    return steps


def resident(process: psutil.Process, during: Callable[[], float]) -> tuple[float, float]:
    """The result of a call, and the most MB that a process and its children hold meanwhile."""
    most, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            held = sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])
            most[0] = max(most[0], held / 2**20)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        found = during()
    finally:
        done.set()
        thread.join()
    return found, most[0]


def measure(data: str, encoders: list[str], steps: int, rounds: int, batch: int) -> Iterator[Row]:
    """All rows."""
    for encoder in encoders:
        speeds: dict[str, list[float]] = {}
        for precision in _POLICIES:
            with peer.started("moco_lightly", "PyTorch and lightly") as other:
                own = ours(data, encoder, precision, batch)
                contenders = {"ours": lambda own=own: steps * batch / own(steps)}
                if other is not None:
                    other.call(
                        "build", data=os.path.abspath(data), encoder=encoder, precision=precision,
                        batch=batch, queue=_QUEUE, threads=len(os.sched_getaffinity(0)),
                    )  # fmt: skip
                    contenders["lightly"] = lambda other=other: (
                        steps * batch / other.call("steps", count=steps)
                    )
                found = in_turn(contenders, rounds)
                name = f"{encoder}, 32 px, batch {batch}, {precision}"
                yield row(
                    name, "training, images/s", found["ours"], found.get("lightly"),
                    "lightly" if "lightly" in found else "", larger_is_better=True,
                )  # fmt: skip
                speeds[precision] = found["ours"]
                if other is not None:
                    two = functools.partial(other.call, "steps", count=2)
                    _, theirs = resident(psutil.Process(other.pid), two)
                    held = apart("benchmarks.step", "held", data, encoder, precision, batch)
                    yield row(name, "process, MB", [held], [theirs], "lightly")
        yield row(
            f"{encoder}, 32 px, batch {batch}", "bfloat16, images/s", speeds["bfloat16"],
            speeds["float32"], "our float32", larger_is_better=True,
        )  # fmt: skip


def held(data: str, encoder: str, precision: str, batch: int) -> float:
    """The MB that this process holds while it trains; to be called in a fresh one."""
    own = ours(data, encoder, precision, batch)
    own(1)
    return resident(psutil.Process(), lambda: own(2))[1]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", default="data/cifar10/train", help="class folders of 32 px images"
    )
    parser.add_argument("--encoders", nargs="+", default=list(_ENCODERS), choices=list(_ENCODERS))
    parser.add_argument("--steps", type=int, default=5, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    rows.run("step", parser, measure)


if __name__ == "__main__":
    main()
