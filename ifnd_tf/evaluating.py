"""The protocols of `--protocols` on a trained encoder, beside an untrained one and raw pixels."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from ifnd_tf import building
from ifnd_tf.config import Config
from ifnd_tf.data import augment
from ifnd_tf.data.sources import Splits
from ifnd_tf.evaluation import health
from ifnd_tf.evaluation.clustering import clustering
from ifnd_tf.evaluation.embed import Embeddings, embed, labelled, raw_pixels
from ifnd_tf.evaluation.knn import weighted_knn
from ifnd_tf.evaluation.label_subsets import label_subset_probe
from ifnd_tf.evaluation.linear_probe import linear_probe
from ifnd_tf.models.contrastive import ContrastiveModel, Network

# Raw pixels are a floor for small data; a million of them would fill the host's memory.
_MOST_RAW_PIXELS = 200_000


def evaluate(
    config: Config, strategy: tf.distribute.Strategy, splits: Splits, model: ContrastiveModel
) -> dict[str, Any]:
    """Results by name, as results.json holds them.

    Args:
        config: the run's settings.
        strategy: where to embed.
        splits: labelled images to train classifiers on, and others to test them on.
        model: the trained model; its query encoder is evaluated.
    """
    train, test = splits
    assert test is not None, "the stage asks for labelled images first"

    def embedded(function: Callable) -> tuple[dict[str, Any], dict[str, Any]]:
        on_train, on_test = (
            embed(
                function,
                building.ordered_batches(config, strategy, source),
                source.num_examples,
                strategy,
            )
            for source in (train, test)
        )
        return on_train, on_test

    def knn(outputs: tuple[dict[str, Any], dict[str, Any]]) -> Iterator[tuple[str, float]]:
        return weighted_knn(
            *map(labelled, outputs),
            neighbors=config.knn_neighbors,
            temperature=config.knn_temperature,
        )

    results: dict[str, Any] = {}
    if train.num_examples <= _MOST_RAW_PIXELS:
        results["raw_pixel_knn_top1"] = dict(knn(embedded(raw_pixels)))["knn_top1"]
    fresh = building.build(config, strategy, num_examples=train.num_examples).network
    untrained = embedded(functools.partial(_outputs, fresh))
    results["untrained_knn_top1"] = dict(knn(untrained))["knn_top1"]

    trained = embedded(functools.partial(_outputs, model.network))
    embedding = labelled(trained[1], "embedding").features
    results |= dict(health.health(embedding, seed=config.seed))
    results["health_warnings"] = health.warnings(results)
    results |= _protocols(config, labelled(trained[0]), labelled(trained[1]))
    if "knn" in config.protocol_names:
        results |= dict(knn(trained))
    return results


def _protocols(config: Config, train: Embeddings, test: Embeddings) -> dict[str, float]:
    results: dict[str, float] = {}
    if "linear" in config.protocol_names:
        results |= dict(
            linear_probe(
                train,
                test,
                solver=config.linear_solver,
                epochs=config.linear_epochs,
                learning_rate=config.linear_learning_rate,
                seed=config.seed,
            )
        )
    if "few_labels" in config.protocol_names:
        results |= dict(label_subset_probe(train, test))
    if "clustering" in config.protocol_names:
        results |= dict(clustering(test, seed=config.seed))
    return results


def _outputs(network: Network, images: tf.Tensor) -> dict[str, tf.Tensor]:
    features = network.encoder(augment.normalise(images), training=False)
    embedding = tf.math.l2_normalize(network.projector(features, training=False), axis=-1)
    return {"features": features, "embedding": embedding}
