"""Builds the detector of a run, and its callback, from the `Config`."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data import eval_batches
from ifnd_tf.data.embedding_file import Rows
from ifnd_tf.data.source import Source
from ifnd_tf.detection import detectors
from ifnd_tf.detection.callback import IncrementalDetection
from ifnd_tf.detection.embeddings import EmbeddingTable, GivenRows, ImagePass, KeptKeys
from ifnd_tf.detection.sharded_kmeans import ShardedKMeans
from ifnd_tf.distribute.strategies import num_input_pipelines
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.stages import build, sizes


def make_detector(
    config: Config,
    strategy: tf.distribute.Strategy,
    model: ContrastiveModel,
    source: Source,
    report: Callable[[str], None] = lambda text: None,
    given: Rows | None = None,
) -> detectors.Detector:
    """The detector of `--detector`, ready to embed `source` with the model's key network.

    Args:
        config, strategy, model, source: the run's.
        report: called with a line each time that clustering runs out of memory.
        given: the embeddings of `--detect_with`, if it is a path.
    """
    kind = detectors.DETECTORS[config.detector]
    if issubclass(kind, detectors.OracleDetector):
        source.read_labels()
        if issubclass(kind, detectors.NoisyOracleDetector):
            return kind(source.labels, config.oracle_precision, config.oracle_recall, config.seed)
        return kind(source.labels)
    if not issubclass(kind, (detectors.ClusterDetector, detectors.NeighbourDetector)):
        return kind()
    if given is None:
        table = embedding_table(config, strategy, model, source)
    else:
        table = GivenRows(strategy, given.points, seed=config.seed)
    if issubclass(kind, detectors.NeighbourDetector):
        return kind(table, config.num_neighbours)
    kmeans = ShardedKMeans(
        table,
        confidence_temperature=config.confidence_temperature,
        iterations=config.kmeans_iterations,
        seed=config.seed,
        report=report,
    )
    levels = sizes.num_clusters(config, source.num_examples)
    return kind(kmeans, levels, hierarchy=config.hierarchy, scope=config.acceptance_scope)


def make_callback(
    config: Config, detector: detectors.Detector, true_labels: np.ndarray, **options: Any
) -> IncrementalDetection:
    """The callback that runs `detector` when the flags say; `options`: `progress` and `run`."""
    return IncrementalDetection(
        detector,
        true_labels=true_labels,
        warmup_epochs=config.warmup_epochs,
        refresh_epochs=config.refresh_epochs,
        epochs=config.epochs,
        schedule=config.acceptance,
        start=config.acceptance_start,
        end=config.acceptance_end,
        end_epoch=config.acceptance_end_epoch,
        **options,
    )


def embedding_table(
    config: Config, strategy: tf.distribute.Strategy, model: ContrastiveModel, source: Source
) -> EmbeddingTable:
    """The embeddings to cluster, of the model: `--detect_with=encoder` or keys."""
    examples = source.num_examples
    if model.memory is not None:
        return KeptKeys(model.memory, seed=config.seed)
    network = model.embedding_network

    def embed(images: tf.Tensor) -> tf.Tensor:
        if config.cluster_on == "features":
            return tf.math.l2_normalize(network.features(images), axis=-1)
        return network.inference(images)["embedding"]

    # Read anew at each detection, but traced once: tracing is a fifth of a small data set's pass.
    @functools.cache
    def batches() -> Any:
        return build.ordered_batches(config, strategy, source)

    batch = sizes.replica_batch(config, strategy)
    steps = eval_batches.pass_steps(
        source,
        image_size=config.image_size,
        batch_size=batch,
        num_replicas=strategy.num_replicas_in_sync,
        num_workers=num_input_pipelines(strategy),
    )
    return ImagePass(
        strategy,
        batches,
        embed,
        batch_size=batch,
        num_examples=examples,
        rows=steps * batch,
        width=build.clustered_width(config, network),
        seed=config.seed,
    )
