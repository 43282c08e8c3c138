"""The project's own TPU programs, lowered: training step, embedding step, k-means iteration.

    python -m tests.system.tpu.programs REQUEST.json OUTPUT_DIRECTORY

Runs where tensorflow-tpu is installed. Nothing here re-implements a step: the functions
traced are those that `model.fit` and the detection callback call.
"""

import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

# tensorflow-tpu would ask the cloud's metadata server at import, and wait for minutes.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import main
from ifnd_tf.clustering import nearest
from ifnd_tf.config import Config
from ifnd_tf.data.photometric import PHOTOMETRIC_DRAWS
from ifnd_tf.detection.sharded_kmeans import cluster_step, move_step
from ifnd_tf.stages import build, build_detection
from ifnd_tf.stages.sizes import num_clusters, replica_batch
from lowering import flops, tpu
from lowering.functional import LoweringError
from tests.system.tpu import trace


class DataSize(NamedTuple):
    """All that building a detector asks of a data source."""

    num_examples: int
    readable: range
    pixels: None = None
    labels: None = None

    def streamed(self, view_size: int) -> bool:
        """Whether examples come in the files' order only."""
        return False


class Traced(NamedTuple):
    """A traced program, with what is known about it besides."""

    function: Any
    analytic_flops: float | None = None
    sizes: dict[str, int] | None = None


def configuration(flagfile: str, overrides: list[str], replica_batch: int, replicas: int) -> Config:
    """The flagfile's configuration at another batch, traced one step at a time."""
    batch = replica_batch * replicas
    # Whole batches enter the queue, so a batch that does not divide it lengthens it. The
    # queue's own length is read beside a batch that divides any.
    config = main.parse_flagfile(flagfile, *overrides, "--batch_size=2")
    queue = math.ceil(config.queue_size / batch) * batch
    return main.parse_flagfile(
        flagfile,
        *overrides,
        f"--batch_size={batch}",
        f"--queue_size={queue}",
        "--steps_per_execution=1",
    )


def element(config: Config, rows: int) -> dict[str, np.ndarray]:
    """One replica's batch of the training pipeline, as zeros."""
    size = config.image_size
    shape = (rows, 2, size, size, 3)
    if config.infeed_dtype == "uint8":
        draws = np.zeros((rows, 2, PHOTOMETRIC_DRAWS), np.float32)
        views: dict[str, np.ndarray] = {"images": np.zeros(shape, np.uint8), "draws": draws}
    else:
        dtype = tf.dtypes.as_dtype(config.infeed_dtype).as_numpy_dtype
        views = {"images": np.zeros(shape, dtype)}
    return {"index": np.zeros(rows, np.int32), **views}


def training_step(config: Config, strategy: tf.distribute.Strategy, num_examples: int) -> Traced:
    """What `fit` calls, traced on one batch."""
    model = build.model(config, strategy, num_examples=num_examples)
    rows = replica_batch(config, strategy)
    batch = element(config, rows)
    batches = strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensors(batch).repeat()
    )
    function = model.make_train_function().get_concrete_function(iter(batches))
    if config.framework != "moco":
        return Traced(function)
    blurred = config.infeed_dtype == "uint8" and build.augmentation(config).blur_probability > 0
    count = flops.step_flops(
        model.network,
        batch=rows,
        negatives=config.queue_size,
        image_size=config.image_size,
        blurred=blurred,
    )
    return Traced(function, count.total)


def _detector(config: Config, strategy: tf.distribute.Strategy, num_examples: int) -> Any:
    model = build.model(config, strategy, num_examples=num_examples)
    source: Any = DataSize(num_examples, range(num_examples))
    return build_detection.make_detector(config, strategy, model, source)


def embedding_step(config: Config, strategy: tf.distribute.Strategy, num_examples: int) -> Traced:
    """One batch of the pass that embeds the data set before it is clustered."""
    table = _detector(config, strategy, num_examples).kmeans.table
    rows, size = table.batch_size, config.image_size

    @tf.function
    def step(images, index, number):
        strategy.run(table.embed_step, args=(images, index, number))

    return Traced(
        step.get_concrete_function(
            _per_replica(strategy, tf.zeros([rows, size, size, 3], tf.uint8)),
            _per_replica(strategy, tf.zeros([rows], tf.int32)),
            tf.constant(0),
        )
    )


def clustering_step(config: Config, strategy: tf.distribute.Strategy, num_examples: int) -> Traced:
    """One k-means iteration and the final assignment, at the finest level's K."""
    kmeans = _detector(config, strategy, num_examples).kmeans
    width = kmeans.table.width
    clusters = num_clusters(config, num_examples)[-1]

    rows = math.ceil(num_examples / strategy.num_replicas_in_sync)
    sizes = {"clusters": clusters, "width": width}

    def both(centroids):
        sizes["chunk_rows"] = min(rows, nearest.default_chunk(clusters))  # as on a TPU
        points, index = kmeans.table.variables
        moved = move_step(points, index, centroids).centroids
        return cluster_step(points, index, moved, temperature=kmeans.temperature)

    @tf.function
    def step(centroids):
        return strategy.run(both, args=(centroids,))

    # Three products of n x K: one to move the centroids, one for labels, one for confidences.
    count = 3 * 2.0 * rows * clusters * width
    return Traced(step.get_concrete_function(tf.zeros([clusters, width])), count, sizes)


def _per_replica(strategy: tf.distribute.Strategy, value: tf.Tensor) -> Any:
    return strategy.experimental_distribute_values_from_function(lambda _: tf.identity(value))


KINDS: dict[str, Callable[[Config, tf.distribute.Strategy, int], Traced]] = {
    "train": training_step,
    "embed": embedding_step,
    "kmeans": clustering_step,
}


def write(traced: Traced, path: str) -> dict[str, Any]:
    """Lowers a traced program to `path` and describes it.

    Returns:
        `module` (the path), `error` ("" or why it cannot be lowered), `analytic_flops`,
        `sizes` and `parameters`: name, shape, dtype and kind of each argument.
    """
    described: dict[str, Any] = {
        "analytic_flops": traced.analytic_flops,
        "sizes": traced.sizes or {},
        "module": path,
    }
    try:
        program = tpu.replica_program(traced.function)
        text = tpu.lower(program)
    except LoweringError as error:
        return {**described, "error": str(error)}
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    parameters = [
        {
            "name": p.name,
            "shape": p.spec.shape.as_list(),
            "dtype": p.spec.dtype.name,
            "variable": p.is_variable,
        }
        for p in program.parameters
    ]
    return {**described, "error": "", "parameters": parameters}


def lower_all(request: dict[str, Any], directory: str) -> dict[str, Any]:
    """Traces and lowers every program of a request.

    Args:
        request: `replicas`, `num_examples` and `programs`, a list of `name`, `kind`,
            `flagfile`, `overrides` and `replica_batch`.
        directory: where the modules go.

    Returns:
        What `write` returns, by program name.
    """
    strategy = trace.pretend_strategy(request["replicas"])
    written = {}
    for wanted in request["programs"]:
        config = configuration(
            wanted["flagfile"], wanted["overrides"], wanted["replica_batch"], request["replicas"]
        )
        traced = KINDS[wanted["kind"]](config, strategy, request["num_examples"])
        path = os.path.join(directory, f"{wanted['name']}.mlir")
        written[wanted["name"]] = write(traced, path)
        del traced
        tf.keras.backend.clear_session()
    return written


def run(arguments: list[str]) -> int:
    """Lowers as the command line says; writes programs.json beside the modules."""
    request_path, directory = arguments
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    written = lower_all(request, directory)
    with open(os.path.join(directory, "programs.json"), "w", encoding="utf-8") as file:
        json.dump(written, file)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
