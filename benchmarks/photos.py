"""A folder of photographs on two cores, end to end: beside lightly's MoCo on PyTorch.

    python -m benchmarks.photos --json -

2,000 JPEGs of 500 x 375 pixels, `--preset=photos` as it is, and the same encoder, batch, queue and
views on both sides. We decode the photographs once and keep them; lightly's input decodes them in
every epoch.
"""

import argparse
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

from benchmarks import peer, rows
from benchmarks.input import write_photos
from benchmarks.rows import Row, in_turn, row
from benchmarks.run_parts import parts

PHOTOS, HEIGHT, WIDTH = 2000, 375, 500


def measure(steps: int, rounds: int) -> Iterator[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory() as folder:
        write_photos(pathlib.Path(folder), HEIGHT, WIDTH, PHOTOS)
        begin = time.perf_counter()
        run = parts("--preset=photos", f"--dataset=folder:{folder}", "--init_from=")
        case = f"{PHOTOS:,} JPEGs of {WIDTH} x {HEIGHT}, ResNet-8, {run.config.image_size} px"
        yield row(case, "reading and decoding all, s", [time.perf_counter() - begin])
        step, batches = run.model.make_train_function(), run.batches()
        images = steps * run.config.batch_size

        def ours() -> float:
            begin = time.perf_counter()
            for _ in range(steps):
                loss = step(batches)["loss"]
            float(loss)
            return images / (time.perf_counter() - begin)

        contenders = {"ours": ours}
        with peer.started("moco_lightly", "PyTorch and lightly") as other:
            if other is not None:
                other.call(
                    "build", data=folder, encoder="ResNet-8, wide", precision="float32",
                    batch=run.config.batch_size, queue=run.config.queue_size,
                    threads=len(os.sched_getaffinity(0)), size=run.config.image_size, blur=0.5,
                )  # fmt: skip
                contenders["lightly"] = lambda: images / other.call("steps", count=steps)
            found = in_turn(contenders, rounds)
        yield row(
            case, "training, images/s", found["ours"], found.get("lightly"),
            "lightly" if "lightly" in found else "", larger_is_better=True,
        )  # fmt: skip


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=8, help="steps of a round; an epoch has 31")
    parser.add_argument("--rounds", type=int, default=5)
    rows.run("photos", parser, measure)


if __name__ == "__main__":
    main()
