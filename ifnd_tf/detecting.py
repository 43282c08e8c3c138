"""Builds the detector of a run from a `Config`."""

from typing import Any

import tensorflow as tf

from ifnd_tf import building, detectors
from ifnd_tf.config import Config
from ifnd_tf.data import augment, ordered
from ifnd_tf.data.source import Source
from ifnd_tf.embedding_table import EmbeddingTable
from ifnd_tf.errors import UserError
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.strategies import num_input_pipelines


def make_detector(
    config: Config, strategy: tf.distribute.Strategy, model: ContrastiveModel, source: Source
) -> detectors.Detector:
    """The detector of `--detector`, ready to embed `source` with the model's key network."""
    if config.detector == "none":
        return detectors.Plain()
    if config.detector == "oracle":
        return detectors.Oracle(source.labels)
    if config.detector not in ("ifnd", "random"):
        raise UserError(
            "--detector: expected one of ifnd, none, oracle, random. Received: "
            f"{config.detector!r}."
        )
    network, features = model.embedding_network, config.cluster_on == "features"

    def embed(images: tf.Tensor) -> tf.Tensor:
        views = augment.normalise(images)
        if features:
            return tf.math.l2_normalize(network.encoder(views, training=False), axis=-1)
        return network.embed(views)

    batch, memory = building.replica_batch(config, strategy), model.memory
    steps = ordered.pass_steps(
        source,
        batch_size=batch,
        num_replicas=strategy.num_replicas_in_sync,
        num_workers=num_input_pipelines(strategy),
    )
    table = EmbeddingTable(
        strategy,
        embed,
        memory=memory,
        num_examples=source.num_examples,
        rows=steps * batch if memory is None else memory.rows,
        batch_size=batch,
        width=building.clustered_width(config, network),
        confidence_temperature=config.confidence_temperature,
        iterations=config.kmeans_iterations,
        seed=config.seed,
    )
    options: dict[str, Any] = {
        "num_clusters": building.num_clusters(config, source.num_examples),
        "hierarchy": config.hierarchy,
        "scope": config.acceptance_scope,
    }
    if config.detector == "random":
        options["seed"] = config.seed
    kind = detectors.Permuted if config.detector == "random" else detectors.Incremental

    def embed_all() -> None:
        if memory is None:
            table.fill(building.ordered_batches(config, strategy, source))
        else:
            table.load()

    return kind(table, embed_all, **options)
