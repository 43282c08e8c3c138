"""`--mode=evaluate`: the protocols of `--protocols`, beside an untrained encoder and raw pixels."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ifnd_tf.config import Config
from ifnd_tf.config.evaluation import PROTOCOLS
from ifnd_tf.data import train_batches
from ifnd_tf.data.datasets import Splits
from ifnd_tf.errors import UserError
from ifnd_tf.evaluation import collapse, few_labels
from ifnd_tf.evaluation.embed import SEEN, Embedder, Embeddings, labelled, raw_pixels
from ifnd_tf.evaluation.finetune import finetune, finetune_steps
from ifnd_tf.evaluation.kmeans_nmi import clustering
from ifnd_tf.evaluation.knn import weighted_knn
from ifnd_tf.evaluation.linear_probe import linear_probe
from ifnd_tf.evaluation.transfer import one_hot, transfer_svm
from ifnd_tf.models.network import Network
from ifnd_tf.run.progress import Count
from ifnd_tf.stages import build
from ifnd_tf.stages.given_rows import load_saved_model, require
from ifnd_tf.stages.run import Run

# Raw pixels are a floor for small data; a million of them would fill the host's memory.
_MOST_RAW_PIXELS = 100_000
# VOC07 has 5,011 training images; an SVM for each class takes minutes on ten times as many.
_MOST_SVM = 10_000

# Results of an `Embedder` for the training and for the test images.
Outputs = tuple[dict[str, Any], dict[str, Any]]


def evaluate(run: Run) -> None:
    """Runs the protocols on the trained encoder or `--saved_model`, beside the baselines."""
    if not run.labelled and not run.config.transfer_dataset:
        if "train" not in run.config.stages:
            raise UserError(
                "--mode=evaluate: expected labelled images to train a classifier on, and others "
                f"to test it. Received: {run.splits.train.name} without; put them into class "
                "folders or name them in --dataset=list:FILE, evaluate on others by "
                "--transfer_dataset=, or look at them by --mode=embed,report."
            )
        lacks = "no image is held out" if run.splits.train.labelled else "the images have no labels"
        run.progress.line(f"evaluation: skipped, since {lacks}")
        return
    start = time.monotonic()
    check_protocols(run)
    if run.config.saved_model:
        run.directory.claim()  # its results are this model's alone
        results = measure(run, None) | run.unused(run.splits)
    else:
        results = measure(run, run.trained_model().network)
    seconds, before = time.monotonic() - start, run.directory.results().get("wall_seconds", 0.0)
    results |= {"evaluate_seconds": seconds, "wall_seconds": before + seconds}
    run.directory.write_results(results)


def check_protocols(run: Run) -> None:
    """Raises `UserError` if a protocol does not fit the data or the devices: before training."""
    protocols, train = run.config.protocol_names, run.splits.train
    # A stream's labels are not known before the first pass.
    if {"few_labels", "finetune"} & set(protocols) and run.labelled and train.labels_known:
        for share in run.config.shares:
            few_labels.subset_sizes(train.readable_labels, share, train.class_names)
    replicas = run.strategy.num_replicas_in_sync
    if "finetune" in protocols and replicas > 1:
        raise UserError(
            f"--protocols=finetune: expected one device. Received: {replicas} replicas; leave it "
            "out here, and add it with --mode=evaluate --strategy=none."
        )


def measure(run: Run, network: Network | None) -> dict[str, Any]:
    """Results by name, as results.json holds them.

    Args:
        run: with labelled images to train classifiers on and others to test them on: its own,
            those of `--transfer_dataset`, or both.
        network: the trained network; None: `--saved_model`.

    Raises:
        UserError: if the SavedModel is not what the flags say, or a protocol does not fit the
            data.
    """
    encode: Callable = (
        network.inference if network is not None
        else load_saved_model(run, "saved_model", run.config.saved_model)
    )  # fmt: skip
    results = _measure_own(run, network, encode) if run.labelled else {}
    if run.transfer_splits is not None:
        outputs = _embedded(run, "transfer", encode, run.transfer_splits)
        with run.progress.phase("evaluating transfer"):
            results |= dict(_transfer(run, outputs, run.transfer_splits))
    return results


def _measure_own(run: Run, network: Network | None, encode: Callable) -> dict[str, Any]:
    """Results on the run's own images, beside those of the baselines."""
    config, splits, protocols = run.config, run.splits, run.config.protocol_names

    def health(outputs: Outputs) -> dict[str, float]:
        found = labelled(outputs[1], "embedding").features
        return dict(collapse.collapse_measures(found, seed=config.seed))

    def baseline(outputs: Outputs, prefix: str) -> dict[str, float]:
        found = {"knn_top1": _knn(run, outputs)["knn_top1"]}
        if "few_labels" in protocols:  # the fewest, which separate encoders most
            found |= dict(_few_labels(run, outputs, [_fewest(run)]))
        return {prefix + name: value for name, value in found.items() if "top5" not in name}

    assert splits.evaluation is not None
    results: dict[str, Any] = {"num_evaluation_examples": len(splits.evaluation.readable)}
    if splits.train.num_examples <= _MOST_RAW_PIXELS:
        results |= baseline(_embedded(run, "raw pixels", raw_pixels, splits), "raw_pixel_")
    if network is None:
        outputs = _embedded(run, "saved model", encode, splits)
    else:
        fresh = run.untrained_model().network.inference
        outputs = _embedded(run, "untrained encoder", fresh, splits)
        results |= baseline(outputs, "untrained_")
        before = health(outputs)
        del outputs  # a gigabyte for a million images, and the next ones take as much
        outputs = _embedded(run, "trained encoder", encode, splits)
        results |= health(outputs)
        results["health_warnings"] = collapse.limit_warnings(results, before=before)
    if "knn" in protocols:
        results |= _knn(run, outputs)
    results |= dict(_probes(run, outputs))
    if network is not None and "finetune" in protocols:
        with run.progress.phase("evaluating fine-tuning, subset") as count:
            results |= dict(_finetune(run, network, count))
    return results


def expected(config: Config) -> list[str]:
    """Starts of names that results.json holds once every protocol has run."""
    share = few_labels.subset_name(config.shares[-1])
    found = [PROTOCOLS[protocol].format(share=share) for protocol in config.protocol_names]
    return [*found, "transfer_"] if config.transfer_dataset else found


def _embedded(run: Run, name: str, function: Callable, splits: Splits) -> Outputs:
    embedder, parts = Embedder(function, run.strategy), []
    for source in filter(None, splits):
        with run.progress.phase(f"evaluating {name}, images") as count:
            batches = build.ordered_batches(run.config, run.strategy, source)
            found = embedder(batches, source.num_examples, count)
        if run.config.saved_model:
            finite = np.isfinite(found["features"]).all(axis=1)
            require(f"--saved_model={run.config.saved_model}", finite | ~found[SEEN])
        parts.append(found)
    return parts[0], parts[1]


def _knn(run: Run, outputs: Outputs) -> dict[str, float]:
    config = run.config
    with run.progress.phase("evaluating kNN, images") as count:
        found = weighted_knn(
            *map(labelled, outputs), neighbors=config.knn_neighbors,
            temperature=config.knn_temperature, count=count,
        )  # fmt: skip
        return dict(found)


def _probes(run: Run, outputs: Outputs) -> Iterator[tuple[str, float]]:
    config = run.config
    if "linear" in config.protocol_names:
        yield from _linear(run, outputs)
    if "few_labels" in config.protocol_names:
        yield from _few_labels(run, outputs, config.shares)
    if "clustering" in config.protocol_names:
        with run.progress.phase("evaluating clusters, start") as count:
            yield from clustering(labelled(outputs[1]), seed=config.seed, count=count)


def _linear(run: Run, outputs: Outputs) -> Iterator[tuple[str, float]]:
    with run.progress.phase("evaluating linear probe, epoch") as count:
        yield from linear_probe(
            *map(labelled, outputs),
            solver=run.config.linear_solver,
            epochs=run.config.linear_epochs,
            learning_rate=run.config.linear_learning_rate,
            seed=run.config.seed,
            report=count,
        )


def _few_labels(run: Run, outputs: Outputs, shares: Sequence[float]) -> Iterator[tuple[str, float]]:
    with run.progress.phase("evaluating few labels, probe") as count:
        yield from few_labels.label_subset_probe(
            *map(labelled, outputs),
            shares=shares,
            seeds=range(run.config.label_subsets),
            class_names=run.splits.train.class_names,
            count=count,
        )


def _fewest(run: Run) -> float:
    """The entry of `--label_shares` that shows the fewest labels."""
    labels = run.splits.train.readable_labels
    return min(run.config.shares, key=lambda share: few_labels.subset_sizes(labels, share)[1])


def _finetune(run: Run, network: Network, count: Count) -> Iterator[tuple[str, float]]:
    """Fine-tunes on each subset anew, always from the trained encoder."""
    config, (train, test) = run.config, run.splits
    assert test is not None
    for place, share in enumerate(config.shares):
        runs = []
        for seed in range(config.label_subsets):
            done = place * config.label_subsets + seed
            count(done, len(config.shares) * config.label_subsets)
            few = train.subset(few_labels.label_subset(train.readable_labels, share, seed=seed))
            batch = min(config.batch_size, few.num_examples)
            crops = train_batches.training_batches(
                few, augmentation=build.augmentation(config), image_size=config.image_size,
                batch_size=batch, seed=seed,
            )  # fmt: skip
            found = finetune(
                network,
                crops=crops,
                labels=few.labels,
                test_batches=build.ordered_batches(config, run.strategy, test),
                num_test_examples=test.num_examples,
                steps=finetune_steps(few.num_examples, batch, share),
                prefix=f"finetune_{few_labels.subset_name(share)}",
            )
            runs.append(dict(found))
        yield from few_labels.averaged(runs)


def _transfer(run: Run, outputs: Outputs, splits: Splits) -> Iterator[tuple[str, float]]:
    train, test = splits
    assert test is not None
    if train.targets is None:
        for name, value in (_knn(run, outputs) | dict(_linear(run, outputs))).items():
            yield f"transfer_{name}", value
        if train.num_examples > _MOST_SVM:
            return
    parts = []
    for found, source in zip(outputs, (train, test), strict=True):
        targets = source.targets
        if targets is None:
            targets = one_hot(source.labels, len(source.class_names))
        parts.append(Embeddings(found["features"][found[SEEN]], targets[found[SEEN]]))
    yield from transfer_svm(*parts, seed=run.config.seed)
