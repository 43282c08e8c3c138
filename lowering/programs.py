"""The programs of a run: what `fit`, detection and evaluation compute, and no more.

Nothing here re-implements a step. Each program is the product's own function on one replica; its
shapes are those of one device.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from ifnd_tf.clustering import kmeans
from ifnd_tf.config import Config
from ifnd_tf.data import crops
from ifnd_tf.data.source import Source
from ifnd_tf.data.view_draws import view_draws
from ifnd_tf.distribute import replicas
from ifnd_tf.errors import UserError
from ifnd_tf.evaluation import knn
from ifnd_tf.models import treatments
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.stages import build
from ifnd_tf.stages.sizes import num_clusters, replica_batch
from lowering import functional, stablehlo
from lowering.stablehlo import Portable

# Scores that exist at once in k-means, in numbers: an accelerator wants longer products than a
# processor's cache has room for, and has the memory (256 MB).
_SCORES = 1 << 26

# Arguments and results that are dealt out to the devices, each with rows of its own.
_SHARDED = (
    *("images", "index", "points", "assignments", "confidence"),
    *("features", "queries", "truth", "rank"),
)

Spec = tf.TensorSpec


class Sizes(NamedTuple):
    """The sizes that determine the programs' shapes.

    Attributes:
        train, test: N and the number of evaluation images; 0: there are none.
        height, width: of all images, pixels.
        classes: C; 0 without labels.
    """

    train: int
    test: int
    height: int
    width: int
    classes: int


def sizes(config: Config, train: Source, test: Source | None) -> Sizes:
    """The data's sizes.

    Raises:
        UserError: the data cannot stay on a device as one array of images.
    """
    shapes = []
    for source in (train, test) if test is not None else (train,):
        if source.pixels is None or max(source.pixels.shape[1:3]) > config.image_size:
            raise UserError(
                "expected images of one size, at most --image_size, that fit in "
                f"--cache_megabytes. Received: {source.name}; such data is for main.py."
            )
        if len(source.readable) < source.num_examples:
            raise UserError(
                f"expected images that all decode. Received: {len(source.unreadable)} of "
                f"{source.name} that do not; remove them."
            )
        shapes.append(tuple(source.pixels.shape[1:3]))
    if len(set(shapes)) > 1:
        raise UserError(f"expected training and evaluation images of one size. Received: {shapes}.")
    height, width = shapes[0]
    if test is None or min(train.labels.min(), test.labels.min()) < 0:
        return Sizes(train.num_examples, 0, height, width, 0)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    return Sizes(train.num_examples, test.num_examples, height, width, classes)


def variables(model: ContrastiveModel) -> list[Any]:
    """All that a step reads or writes, in an order that depends on the model alone."""
    kept = [] if model.memory is None else [model.memory.kept]
    return [*functional.variables(model), *kept]


def _whole(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """`crops.centre_view` of images of at most S pixels, in operations that XLA has."""
    height, width = pixels.shape[1:3]
    side = min(height, width)
    box = tf.constant([[[(height - side) // 2, (width - side) // 2, side, side]]])
    # One box for all images.
    return crops.cut_views(pixels, box, tf.constant([[False]]), size)[:, 0]


def _lower(function: Any, given: Mapping[str, Any], strategy: Any, owners: Any = ()) -> Portable:
    return stablehlo.lower(function, given, owners, strategy=strategy, sharded=_SHARDED)


def _batch(config: Config, model: ContrastiveModel, data: Sizes) -> dict[str, tf.TensorSpec]:
    rows = replica_batch(config, model.distribute_strategy)
    return {"images": Spec([rows, data.height, data.width, 3], tf.uint8)}


def training_step(config: Config, model: ContrastiveModel, data: Sizes) -> Portable:
    """Images [b], their index [b] and the epoch, from 0 -> the logs of `train_step`."""
    augmentation, weak_keys = build.augmentation(config), treatments.weak_keys(config.treatment)

    def step(pixels: tf.Tensor, index: tf.Tensor, epoch: tf.Tensor) -> dict[str, tf.Tensor]:
        geometric, draws = view_draws(config.seed, epoch, index, weak_keys=weak_keys)
        views = crops.cut_views(
            pixels,
            crops.crop_boxes(geometric, data.height, data.width, augmentation),
            crops.flips(geometric, augmentation),
            config.image_size,
        )
        return model.train_step({"index": index, "images": views, "draws": draws})

    images = _batch(config, model, data)
    index = Spec(images["images"].shape[:1], tf.int32)
    arguments = {**images, "index": index, "epoch": Spec([], tf.int32)}
    return _lower(step, arguments, model.distribute_strategy, variables(model))


def features(config: Config, model: ContrastiveModel, data: Sizes) -> Portable:
    """Images [b] -> the query encoder's features [b, F], as the protocols evaluate them."""

    def step(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": model.network.features(_whole(pixels, config.image_size))}

    return _lower(step, _batch(config, model, data), model.distribute_strategy, variables(model))


def embedding(config: Config, model: ContrastiveModel, data: Sizes) -> Portable:
    """The clustered embeddings: images [b] -> unit vectors [b, D]; or the kept keys -> [n, D]."""
    memory, network = model.memory, model.embedding_network
    if memory is not None:

        def kept() -> dict[str, tf.Tensor]:
            return dict(zip(("points", "index"), memory.read(), strict=True))

        return _lower(kept, {}, model.distribute_strategy, variables(model))

    def step(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        views = _whole(pixels, config.image_size)
        if config.cluster_on == "features":
            return {"points": tf.math.l2_normalize(network.features(views), axis=-1)}
        return {"points": network.inference(views)["embedding"]}

    return _lower(step, _batch(config, model, data), model.distribute_strategy, variables(model))


def points(strategy: tf.distribute.Strategy, count: int, width: int) -> dict[str, tf.TensorSpec]:
    """One device's n = N / R rows, rounded up, of N points [N, D], and their examples."""
    rows = math.ceil(count / strategy.num_replicas_in_sync)
    return {"points": Spec([rows, width]), "index": Spec([rows], tf.int32)}


def seeding(
    strategy: tf.distribute.Strategy, seed: int, clusters: int, given: Mapping[str, tf.TensorSpec]
) -> Portable:
    """Points [n, D] and their index -> centroids [K, D] to start from."""

    def start(points: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
        centroids = kmeans.initial_centroids(
            points, index, num_clusters=clusters, seed=seed,
            collectives=replicas.replica_collectives(),
        )  # fmt: skip
        return {"centroids": centroids}

    return _lower(start, given, strategy)


def clustering(
    strategy: tf.distribute.Strategy,
    iterations: int,
    temperature: float,
    clusters: int,
    given: Mapping[str, tf.TensorSpec],
) -> Portable:
    """Points [n, D], their index and centroids [K, D] -> a `KMeansResult`, by name."""

    def cluster(points: tf.Tensor, index: tf.Tensor, start: tf.Tensor) -> dict[str, tf.Tensor]:
        return kmeans.kmeans(
            points, index, start, num_iterations=iterations, confidence_temperature=temperature,
            chunk_size=max(1, _SCORES // clusters), collectives=replicas.replica_collectives(),
        )._asdict()  # fmt: skip

    centroids = Spec([clusters, given["points"].shape[1]])
    return _lower(cluster, {**given, "centroids": centroids}, strategy)


def nearest_neighbours(
    config: Config, strategy: tf.distribute.Strategy, data: Sizes, memory: int, width: int
) -> Portable:
    """A memory [n, F] with labels, and queries [q, F] with theirs -> ranks [q] of the truth."""

    def rank(known: tf.Tensor, labels: tf.Tensor, queries: tf.Tensor, truth: tf.Tensor):
        found = knn.query_ranks(
            knn.knn_memory(known, labels),
            queries,
            truth,
            neighbors=config.knn_neighbors,
            temperature=config.knn_temperature,
            num_classes=data.classes,
        )
        return {"rank": found}

    arguments = {
        "memory": Spec([memory, width]),
        "labels": Spec([memory], tf.int32),
        "queries": Spec([knn.QUERIES, width]),
        "truth": Spec([knn.QUERIES], tf.int32),
    }
    return _lower(rank, arguments, strategy)


def all_programs(config: Config, model: ContrastiveModel, data: Sizes) -> dict[str, Portable]:
    """Every program of a run, by name."""
    levels, strategy = num_clusters(config, data.train), model.distribute_strategy
    programs = {"train": training_step(config, model, data)}
    if levels:
        programs["embed"] = embedding(config, model, data)
        width = build.clustered_width(config, model.embedding_network)
        given = points(strategy, data.train, width)
        for level, clusters in enumerate(levels):
            seed, temperature = config.seed + level, config.confidence_temperature
            programs[f"seeds_{clusters}"] = seeding(strategy, seed, clusters, given)
            programs[f"kmeans_{clusters}"] = clustering(
                strategy, config.kmeans_iterations, temperature, clusters, given
            )
    if data.test:
        width = model.encoder.output_shape[-1]
        few = min(config.online_knn_examples, data.train)
        programs["features"] = features(config, model, data)
        programs["knn"] = nearest_neighbours(config, strategy, data, data.train, width)
        programs["online_knn"] = nearest_neighbours(config, strategy, data, few, width)
    return programs
