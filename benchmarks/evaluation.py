"""Evaluation and `--mode=embed`: beside scikit-learn and faiss, and beside the bare forward pass.

    python -m benchmarks.evaluation --data=data/cifar10 --json -

kNN, linear probe and clustering get the same features as the peers: 50,000 to learn from and
10,000 to test on, of ten classes that overlap. `--mode=embed` gets CIFAR-10's test images and a
ResNet-18.
"""

import argparse
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks import peer, rows
from benchmarks.rows import Row, in_turn, row, seconds
from ifnd_tf.evaluation.embed import Embeddings

TRAIN, TEST, WIDTH, CLASSES = 50_000, 10_000, 128, 10
_ENCODER = ("--backbone=resnet18", "--stem=cifar", "--image_size=32", "--batch_size=256")


def features() -> tuple[Embeddings, Embeddings]:
    """Unit features of classes that overlap, to learn from and to test on."""
    random = np.random.default_rng(0)
    means = random.normal(size=[CLASSES, WIDTH])
    found = []
    for count in (TRAIN, TEST):
        labels = random.integers(0, CLASSES, count).astype(np.int32)
        points = means[labels] + 3 * random.normal(size=[count, WIDTH])
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        found.append(Embeddings(points.astype(np.float32), labels))
    return found[0], found[1]


def protocols(train: Embeddings, test: Embeddings) -> dict[str, Callable[[], float]]:
    """Our protocols; each call returns its share or, for the clustering, NMI."""
    from ifnd_tf.evaluation.kmeans_nmi import clustering
    from ifnd_tf.evaluation.knn import weighted_knn
    from ifnd_tf.evaluation.linear_probe import linear_probe

    return {
        "kNN, k = 200": lambda: dict(weighted_knn(train, test))["knn_top1"],
        "linear probe, L-BFGS": lambda: dict(linear_probe(train, test))["linear_top1"],
        "clustering, best of 5": lambda: dict(clustering(train))["cluster_nmi"],
    }


# The peers' functions beside each protocol.
PEERS = {
    "kNN, k = 200": {"faiss": "faiss_knn", "scikit-learn": "sklearn_knn"},
    "linear probe, L-BFGS": {"scikit-learn": "sklearn_probe"},
    "clustering, best of 5": {"faiss": "faiss_clustering", "scikit-learn": "sklearn_clustering"},
}


def _timed(function: Callable[[], float], results: list[float]) -> float:
    return seconds(lambda: results.append(function()))


def compared(rounds: int) -> Iterator[Row]:
    """Rows of the protocols: times, and the results that they give."""
    data = features()
    own = protocols(*data)
    with (
        peer.started("evaluation", "faiss and scikit-learn") as other,
        tempfile.TemporaryDirectory() as name,
    ):
        if other is not None:
            path = os.path.join(name, "features.npz")
            np.savez(path, *data[0], *data[1])
            other.call("load", path=path)
        for protocol, function in own.items():
            found: dict[str, list[float]] = {"ours": []}
            contenders = {"ours": functools.partial(_timed, function, found["ours"])}
            for who, theirs in PEERS[protocol].items() if other is not None else ():
                found[who] = []
                call = functools.partial(other.call, theirs)  # type: ignore[union-attr]
                contenders[who] = functools.partial(_peers_time, call, found[who])
            times = in_turn(contenders, rounds)
            case = f"{protocol}, {TRAIN:,} x {WIDTH}"
            if len(contenders) == 1:
                yield row(case, "time, s", times["ours"])
            for who in list(contenders)[1:]:
                yield row(case, "time, s", times["ours"], times[who], who)
                yield row(
                    case, "result", found["ours"][1:], found[who][1:], who, larger_is_better=True
                )


def _peers_time(call: Callable[[], tuple[float, float]], results: list[float]) -> float:
    taken, result = call()
    results.append(result)
    return taken


def embedding(data: str, rounds: int) -> Iterator[Row]:
    """Rows of `--mode=embed`, all that it writes included, beside the bare forward pass."""
    import tensorflow as tf

    import main as entry
    from ifnd_tf.distribute.replicas import first, on_replicas
    from ifnd_tf.run.progress import Progress
    from ifnd_tf.stages import build, embed, embed_encoder
    from ifnd_tf.stages.run import Run
    from ifnd_tf.stages.train import train

    images = pathlib.Path(data).resolve() / "test"
    with tempfile.TemporaryDirectory() as workdir:
        flags = (*_ENCODER, f"--workdir={workdir}", "--seed=0")
        first_images = ("--dataset=digits", "--detector=none", "--epochs=1", "--warmup_epochs=0")

        def opened(*more: str) -> Run:
            config = entry.parse([*flags, *first_images, *more])
            assert config is not None
            return Run(config, tf.distribute.get_strategy(), Progress(enabled=False))

        train(opened())  # Any weights do.
        run = opened(f"--embed_dataset=folder:{images}", "--mode=embed")
        encoder = embed_encoder.choose(run, run.embed_splits)
        forward = on_replicas(run.strategy, encoder.outputs)
        sources = [source for source in run.embed_splits if source is not None]

        def bare() -> None:
            for source in sources:
                for batch in build.ordered_batches(run.config, run.strategy, source):
                    found = forward(batch["images"])
            first(run.strategy, found)["features"].numpy()

        contenders = {
            "ours": lambda: seconds(lambda: embed.write(run, run.embed_splits, encoder)),
            "bare": lambda: seconds(bare),
        }
        times = in_turn(contenders, rounds)
    count = sum(source.num_examples for source in sources)
    yield row(
        f"--mode=embed, ResNet-18, {count:,} images of 32 px", "cost of the stage, s",
        times["ours"], times["bare"], "bare forward pass",
    )  # fmt: skip


def measure(data: str, rounds: int) -> Iterator[Row]:
    """All rows."""
    yield from compared(rounds)
    yield from embedding(data, rounds)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="data/cifar10", help="folder of CIFAR-10 as images")
    parser.add_argument("--rounds", type=int, default=3)
    rows.run("evaluation", parser, measure)


if __name__ == "__main__":
    main()
