"""What an epoch with detection costs on many cores and for many images: docs/scaling.md's model.

    python -m tests.system.tpu.epoch_model --check=tpu.json --kmeans=kmeans_bytes.json [--json PATH]

`--check` is the result of `python -m tests.system.tpu --json`: the compiled flops and bytes of the
training step and the embedding step; `--kmeans` that of `python -m tests.system.tpu.kmeans_bytes
--json`. All times are rooflines, so bounds.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.tpu.chips import CHIPS, Chip

LABEL_BYTES = 4


class Costs(NamedTuple):
    """Compiled costs of one device: per image, and per row and cluster of a k-means pass.

    Attributes:
        step_flops, step_bytes: of the training step, per image.
        embed_flops, embed_bytes: of the embedding step, per image.
        pair_flops, pair_bytes: of k-means, per row and cluster and iteration.
        last_flops, last_bytes: of the last pass, which takes labels and confidences.
        step_memory: peak bytes of the training step without its label variable.
    """

    step_flops: float
    step_bytes: float
    embed_flops: float
    embed_bytes: float
    pair_flops: float
    pair_bytes: float
    last_flops: float
    last_bytes: float
    step_memory: float


class Epoch(NamedTuple):
    """Bounds for one epoch with a refresh, and what the labels need.

    Attributes:
        train_seconds, embed_seconds, cluster_seconds: of the epoch's parts.
        label_gigabytes: the label variable on every device.
        table_gigabytes: embeddings on one device.
        fits: whether labels and the training step fit the device together.
    """

    train_seconds: float
    embed_seconds: float
    cluster_seconds: float
    label_gigabytes: float
    table_gigabytes: float
    fits: bool


def costs(
    programs: dict[str, Any], kmeans: dict[str, Any], *, batch: int, num_examples: int, levels: int
) -> Costs:
    """The costs of one kind of TPU.

    Args:
        programs: its `programs` in the check's JSON.
        kmeans: what `kmeans_bytes` found of it.
        batch: images of a step on one device.
        num_examples, levels: N and L of the checked step, for its label variable.
    """
    train, embed = programs["train"], programs["embed"]
    product = 2.0 * kmeans["width"]
    return Costs(
        step_flops=train["flops"] / batch,
        step_bytes=train["bytes"] / batch,
        embed_flops=embed["flops"] / batch,
        embed_bytes=embed["bytes"] / batch,
        pair_flops=product,
        pair_bytes=kmeans["iteration"],
        last_flops=2 * product,
        last_bytes=kmeans["last_pass"],
        step_memory=train["peak_bytes"] - LABEL_BYTES * levels * num_examples,
    )


def epoch(
    chip: Chip,
    cost: Costs,
    *,
    cores: int,
    num_examples: int,
    clusters: list[int],
    width: int = 128,
    iterations: int = 20,
) -> Epoch:
    """Bounds one epoch and its refresh.

    Args:
        chip: the device.
        cost: its compiled costs.
        cores: devices R.
        num_examples: N.
        clusters: K of each level.
        width: D.
        iterations: of Lloyd's algorithm, before the last pass.
    """

    def seconds(flops: float, moved: float) -> float:
        return max(flops / chip.device_flops, moved / chip.device_bandwidth)

    rows = math.ceil(num_examples / cores)
    pairs = rows * sum(clusters)
    labels = LABEL_BYTES * len(clusters) * num_examples
    return Epoch(
        train_seconds=rows * seconds(cost.step_flops, cost.step_bytes),
        embed_seconds=rows * seconds(cost.embed_flops, cost.embed_bytes),
        cluster_seconds=iterations * seconds(pairs * cost.pair_flops, pairs * cost.pair_bytes)
        + seconds(pairs * cost.last_flops, pairs * cost.last_bytes),
        label_gigabytes=labels / 1e9,
        table_gigabytes=rows * (width + 1) * 4 / 1e9,
        fits=cost.step_memory + labels < chip.device_hbm * (1 - 1 / 64),
    )


# (cores, N, K of each level)
SCENARIOS = [
    *((cores, 1_281_167, [25_000, 50_000, 100_000]) for cores in (8, 32, 128, 512)),
    (512, 100_000_000, [25_000, 50_000, 100_000]),
    (512, 100_000_000, [250_000, 500_000, 1_000_000]),
    (512, 1_000_000_000, [25_000, 50_000, 100_000]),
    (512, 1_000_000_000, [250_000, 500_000, 1_000_000]),
]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", required=True, help="JSON of the TPU check.")
    parser.add_argument("--kmeans", required=True, help="JSON of kmeans_bytes.")
    parser.add_argument("--json", default="", help="File for the results; empty: none.")
    parser.add_argument("--kind", default="v5e-8", choices=list(CHIPS), help="TPU to scale.")
    return parser.parse_args()


def run() -> None:
    """Prints the model's table."""
    options = _options()
    check = json.loads(Path(options.check).read_text(encoding="utf-8"))
    settings, chip = check["settings"], CHIPS[options.kind]
    cost = costs(
        check["tpus"][options.kind]["programs"],
        json.loads(Path(options.kmeans).read_text(encoding="utf-8"))[options.kind],
        batch=settings["replica_batch"],
        num_examples=settings["num_examples"],
        levels=3,
    )
    print(" ".join(f"{name}={value:.4g}" for name, value in cost._asdict().items()))
    print("| cores | N | K | train s | embed s | cluster s | labels GB | table GB | fits |")
    print("| --- " * 9 + "|")
    rows = []
    for cores, num_examples, clusters in SCENARIOS:
        found = epoch(chip, cost, cores=cores, num_examples=num_examples, clusters=clusters)
        rows.append({"cores": cores, "N": num_examples, "K": clusters, **found._asdict()})
        finest = f"{clusters[-1]:,}"
        print(
            f"| {cores} | {num_examples:,} | {finest} | {found.train_seconds:.3g} | "
            f"{found.embed_seconds:.3g} | {found.cluster_seconds:.3g} | "
            f"{found.label_gigabytes:.3g} | {found.table_gigabytes:.3g} | "
            f"{'yes' if found.fits else 'no'} |"
        )
    if options.json:
        results = {"costs": cost._asdict(), "epochs": rows}
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run()
