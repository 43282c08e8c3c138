"""One pass over a data set with a frozen function: rows land at their example's index."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.run.progress import Count, uncounted

# Entries that `Embedder` adds to what the function returns.
LABEL, SEEN = "label", "seen"


class Embeddings(NamedTuple):
    """Features of labelled examples.

    Attributes:
        features: float32 `[N, F]`.
        labels: int32 `[N]`, classes counted from 0.
    """

    features: np.ndarray
    labels: np.ndarray


class Embedder:
    """Embeds whole data sets with one function that is traced once.

    Keep an `Embedder` where the same function runs again and again, as the online kNN does.
    Under a strategy the replicas share the work; on several workers each embeds its own
    shard, and the rows are gathered over the hosts at the end of the pass.
    """

    def __init__(
        self,
        function: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Makes the compiled step.

        Args:
            function: uint8 images `[b, S, S, 3]` -> dict of tensors `[b, ...]`, run on each
                replica; it must not use the names "label" and "seen".
            strategy: where to run it; None: the current one, by default one device.
        """
        self._strategy = strategy or tf.distribute.get_strategy()

        # Not a lambda: TPUStrategy names the cluster after it, and refuses "<lambda>".
        def step(images):
            return self._strategy.run(function, args=(images,))

        self._step = tf.function(step, autograph=False)

    def __call__(
        self,
        batches: Iterable[Mapping[str, Any]],
        num_examples: int,
        count: Count = uncounted,
    ) -> dict[str, Any]:
        """Runs one pass.

        Args:
            batches: elements as `eval_batches.ordered_batches` makes them: "index" int32 `[b]` (-1:
                padding), "images" uint8 `[b, S, S, 3]` and, optionally, "label" int32 `[b]`. Under
                a strategy, a distributed data set of such elements.
            num_examples: N, the size of the index space.
            count: called with the images embedded, and N; on several workers at the end.

        Returns:
            The function's outputs as NumPy arrays `[N, ...]` (floats as float32), with rows of
            zeros where no image came; besides "label" int32 `[N]` (-1: unknown) and "seen" bool
            `[N]`.

        Raises:
            UserError: if no image came at all.
        """
        result: dict[str, Any] = {
            LABEL: np.full([num_examples], -1, np.int32),
            SEEN: np.zeros([num_examples], bool),
        }
        found, embedded = self._local(batches), 0
        if self._strategy.extended._in_multi_worker_mode():
            found = self._gathered(found)
        for rows in found:
            index = rows.pop("index")
            kept = index >= 0
            index = index[kept]
            for name, value in rows.items():
                if name not in result:
                    result[name] = np.zeros([num_examples, *value.shape[1:]], value.dtype)
                result[name][index] = value[kept]
            result[SEEN][index] = True
            embedded += len(index)
            count(embedded, num_examples)
        if not result[SEEN].any():
            raise UserError(
                "Expected at least one readable image to embed. Received: none. Check the data set "
                "and its split."
            )
        return result

    def _local(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, np.ndarray]]:
        """Yields this worker's rows, fetched one step late so that the device need not wait."""
        pending = None
        for batch in batches:
            outputs = dict(self._step(batch["images"]))
            taken = {LABEL, SEEN, "index"} & set(outputs)
            if taken:
                raise ValueError(f"Expected other names of outputs. Received: {sorted(taken)}.")
            outputs |= {name: batch[name] for name in ("index", LABEL) if name in batch}
            if pending is not None:
                yield self._fetch(pending)
            pending = outputs
        if pending is not None:
            yield self._fetch(pending)

    def _fetch(self, outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        rows = {}
        for name, value in outputs.items():
            parts = self._strategy.experimental_local_results(value)
            rows[name] = np.concatenate([_host(part) for part in parts])
        return rows

    def _gathered(self, local: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """Joins the rows of all workers, which hold equally many (`ordered_batches` pads)."""
        strategy, steps = self._strategy, list(local)
        if not steps:
            return
        replicas = len(strategy.extended.worker_devices)
        gather = tf.function(lambda value: strategy.gather(value, axis=0), autograph=False)

        def joined(name: str) -> np.ndarray:
            parts = np.split(np.concatenate([rows[name] for rows in steps]), replicas)
            value = strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(parts[context.replica_id_in_sync_group % replicas])
            )
            return gather(value).numpy()

        yield {name: joined(name) for name in steps[0]}


def labelled(outputs: Mapping[str, np.ndarray], output: str = "features") -> Embeddings:
    """Picks the examples that were read and have a label.

    Args:
        outputs: what an `Embedder` returned.
        output: the entry to take as features, `[N, ...]`; flattened to `[N, F]`.

    Returns:
        Features and labels of these examples, in order of their index.

    Raises:
        UserError: if no example has a label.
    """
    kept = outputs[SEEN] & (outputs[LABEL] >= 0)
    if not kept.any():
        raise UserError(
            "Expected labelled images to evaluate on. Received: none with a label. Choose another "
            "data set or split (--dataset, --eval_split), or leave the stage 'evaluate' out."
        )
    features = outputs[output][kept]
    return Embeddings(
        features.reshape([len(features), -1]).astype(np.float32), outputs[LABEL][kept]
    )


def raw_pixels(images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Pixels in `[0, 1]` as features: a baseline for any encoder.

    Args:
        images: uint8 `[b, S, S, 3]`; reduced to 32 pixels a side if larger, to bound the memory
            that the features of a data set take.

    Returns:
        {"features": float32 `[b, P]`}, `P = min(S, 32)^2 * 3`.
    """
    side = min(images.shape[1], 32)
    pixels = tf.cast(images, tf.float32) / 255.0
    if side < images.shape[1]:
        pixels = tf.image.resize(pixels, [side, side], antialias=True)
    return {"features": tf.reshape(pixels, [-1, side * side * 3])}


def _host(value: tf.Tensor) -> np.ndarray:
    array = value.numpy()
    # bfloat16 and float16 have no fast NumPy arithmetic.
    small_float = array.dtype.kind in "fV" and array.dtype.itemsize < 4
    return array.astype(np.float32) if small_float else array
