"""Memory and time of a training step: the memory counted, the time measured on 20 steps."""

import functools
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.source import Source
from ifnd_tf.distribute import strategies
from ifnd_tf.evaluation.embed import Embedder
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.models.teacher import DTYPE
from ifnd_tf.run import machine
from ifnd_tf.run.progress import Count, uncounted
from ifnd_tf.stages import build, sizes

# The share of the free memory or disk that a run may plan to fill.
FILL = 0.9
GIB = 1 << 30
# Enough steps for a mean, and the longest time to spend on them.
_STEPS, _SECONDS = 20, 30.0


class StepCost(NamedTuple):
    """Measurements of one training step.

    Attributes:
        compile_seconds: until the first step was done.
        step_seconds: of a training step, input included.
        input_seconds: of making a step's batch alone.
        embed_seconds: of one step's images, un-augmented, through encoder and projector.
        peak_bytes: the most in use on one device; of the process where there is no accelerator.
        views: float32 `[n, 2, S, S, 3]`, view pairs as the model gets them, of the first replica.
    """

    compile_seconds: float
    step_seconds: float
    input_seconds: float
    embed_seconds: float
    peak_bytes: int
    views: np.ndarray


def variable_bytes(model: ContrastiveModel) -> int:
    """Bytes of all that a checkpoint of the model and its optimiser holds."""
    variables = {id(v): v for v in model.variables + model.optimizer.variables}.values()
    return sum(int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size for v in variables)


def needed_bytes(config: Config, model: ContrastiveModel, rows: int) -> int:
    """Bytes that a training step takes on one device, counted from the network's layers.

    Variables and gradients; every layer's output, kept for the gradient; the key network's
    largest pair of outputs; the views; logits against the queue. The working memory of libraries
    comes on top.

    Args:
        config: the run's settings.
        model: as `build.model` made it.
        rows: images of a step on one device.
    """
    width = 4 if config.precision == "float32" else 2
    outputs = [int(np.prod(layer.output.shape[1:])) * width for layer in model.encoder.layers]
    kept = sum(outputs) + (2 * max(outputs) if config.framework == "moco" else sum(outputs))
    views = 2 * 2 * 4 * 3 * config.image_size**2
    queue = model.queue.shape[0] if config.framework == "moco" else 2 * config.batch_size
    tables = 3 if model.loss_settings.teacher is None else 5  # similarities and their gradients
    gradients = sum(int(np.prod(v.shape)) * 4 for v in model.trainable_variables)
    return variable_bytes(model) + gradients + rows * (kept + views + tables * 4 * queue)


def smaller_batch(config: Config, model: ContrastiveModel, rows: int, room: int) -> str:
    """What to do about a step that needs more than `room` bytes on a device."""
    needed, less = (needed_bytes(config, model, n) for n in (rows, rows - 1))
    each = needed - less
    # Images that fit beside everything else; at most half of the batch that did not fit.
    most = min((FILL * room - needed + rows * each) / each, rows / 2)
    smaller = ""
    if most >= 2:
        smaller = f"--batch_size={config.batch_size // rows << int(math.log2(most))}, or "
    return (
        f"--batch_size: expected a step that fits {room / GIB:.1f} GiB of memory. Received: "
        f"{config.batch_size}, which needs about {needed / GIB:.1f} GiB a device; try {smaller}"
        "a smaller --image_size or --backbone."
    )


def refreshes(config: Config, num_examples: int) -> int:
    """Detections of the whole run that embed and cluster."""
    embeds = sizes.num_clusters(config, num_examples) or config.detector == "neighbours"
    return len(range(config.warmup_epochs, config.epochs, config.refresh_epochs)) if embeds else 0


def embedding_seconds(config: Config, source: Source, measured: StepCost) -> float:
    """Seconds of a refresh's pass over the images; 0 where their embeddings are given or kept."""
    if config.detect_with != "encoder":
        return 0.0
    return len(source.readable) / config.batch_size * measured.embed_seconds


def run_seconds(config: Config, source: Source, steps: int, measured: StepCost) -> float:
    """Seconds that the whole training takes.

    Args:
        config: the settings.
        source: the training images.
        steps: of an epoch.
        measured: one of them.
    """
    embedding = embedding_seconds(config, source, measured)
    refreshing = refreshes(config, source.num_examples) * embedding
    return config.epochs * steps * measured.step_seconds + refreshing + measured.compile_seconds


def measure_steps(
    config: Config,
    strategy: tf.distribute.Strategy,
    source: Source,
    model: ContrastiveModel,
    count: Count,
) -> StepCost:
    """Trains a model that is thrown away, for 20 steps or half a minute.

    A model with a teacher gets rows that are all the same, which cost as much as its own.

    Args:
        config: the settings.
        strategy: where the model lives.
        source: the training images.
        model: as `build.model` made it.
        count: called with the training steps done, and their total.

    Raises:
        tf.errors.ResourceExhaustedError: if a step does not fit.
    """
    given, rows = model.loss_settings.teacher, None
    if given is not None:
        size, dtype = [source.num_examples, given.width], DTYPE.as_numpy_dtype
        rows = np.full(size, given.width**-0.5, dtype)
    iterator = iter(build.training_batches(config, strategy, source, 0, teacher=rows))
    first = strategy.experimental_local_results(next(iterator))[0]
    views = tf.stack(model.views(first), axis=1)
    workers = strategies.workers(strategy)
    input_seconds = _mean_seconds(workers, functools.partial(next, iterator))
    step = model.make_train_function()

    def train() -> None:
        float(step(iterator)["loss"])  # waits for the device

    start = time.monotonic()
    train()
    compiled = time.monotonic() - start
    weight = config.steps_per_execution
    step_seconds = _mean_seconds(workers, train, weight, count) / weight
    some = source.readable[: 4 * config.batch_size]
    embedder = Embedder(model.network.inference, strategy)

    def embed() -> None:
        embedder(build.ordered_batches(config, strategy, source, some), source.num_examples)

    embed()
    passes = -(-len(some) // config.batch_size)
    embed_seconds = _mean_seconds(workers, embed, _STEPS) / passes
    # The longest on any worker, so that all decide alike what else to try.
    found = np.array([compiled, step_seconds, input_seconds, embed_seconds]) * 1e6
    slowest = workers.gather(found.astype(np.int64)).max(axis=0) / 1e6
    compiled, step_seconds, input_seconds, embed_seconds = map(float, slowest)
    return StepCost(
        compiled, step_seconds, input_seconds, embed_seconds, machine.peak_memory(), views.numpy()
    )


def _mean_seconds(
    workers: strategies.Workers, function: Callable, weight: int = 1, count: Count = uncounted
) -> float:
    """Mean seconds of a call; a call that stands for `weight` steps is made less often."""
    start = time.monotonic()
    calls = 0
    # All workers make as many calls, which wait for each other.
    while calls < max(1, _STEPS // weight) and not any(
        workers.any([time.monotonic() - start > _SECONDS])
    ):
        function()
        calls += 1
        count(calls * weight, max(_STEPS, calls * weight))
    return (time.monotonic() - start) / calls
