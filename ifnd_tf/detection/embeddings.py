"""The data set's embeddings on the devices: each replica holds rows of its own.

Neither the host nor any one device ever sees all N x D numbers.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.clustering import initialization
from ifnd_tf.clustering.kmeans import count_non_finite
from ifnd_tf.distribute.collectives import replica_collectives
from ifnd_tf.errors import NonFinite
from ifnd_tf.models.memory_bank import KeyMemory

# Examples of `sample`: 2 million pairs say well enough how many are of one class.
_SAMPLE_SIZE = 2048


class Sample(NamedTuple):
    """Some examples' embeddings, on the host.

    Attributes:
        points: float32 [S, D], unit vectors.
        examples: int32 [S], their indices, ascending.
    """

    points: np.ndarray
    examples: np.ndarray


class EmbeddingTable:
    """Unit embeddings of all N examples, sharded over the replicas.

    They come from a pass over the images, or from the keys that training kept.

    Args:
        strategy: whose replicas hold the rows.
        source: makes one pass of `eval_batches.ordered_batches`, distributed over the strategy; or
            the memory of keys.
        embed: uint8 images [b, S, S, 3] -> unit vectors float32 [b, D], run on each replica;
            not used with a memory.
        num_examples: N, the size of the index space.
        rows: how many a replica holds: those of its batches of one pass, or of the memory.
        batch_size: rows of such a batch.
        width: D.
        seed: of the sample.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        source: Callable[[], Iterable[dict]] | KeyMemory,
        embed: Callable[[tf.Tensor], tf.Tensor],
        *,
        num_examples: int,
        rows: int,
        batch_size: int,
        width: int,
        seed: int = 0,
    ):
        self.strategy, self._source, self.embed = strategy, source, embed
        self.num_examples, self.batch_size, self.width = num_examples, batch_size, width
        self.rows, self._seed = rows, seed
        # ON_READ gives each replica a component of its own; it is never read across them.
        own = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        with strategy.scope():
            self._points = tf.Variable(tf.zeros([rows, width]), name="embeddings", **own)
            self._index = tf.Variable(tf.fill([rows], -1), name="embedded_index", **own)
        self._embed = self.on_replicas(self.embed_step)
        self._load = self.on_replicas(self._load_step)
        self._count_bad = self.on_replicas(self._count_bad_step)
        self._draw = self.on_replicas(self._sample_step)

    def refresh(self) -> None:
        """Takes the embeddings of now.

        Raises:
            NonFinite: if an embedding is not finite: the training has diverged.
        """
        if isinstance(self._source, KeyMemory):
            self._load()
        else:
            for step, batch in enumerate(self._source()):
                self._embed(batch["images"], batch["index"], tf.constant(step))
        bad = int(self.first(self._count_bad()))
        if bad:
            raise NonFinite(
                f"Expected finite embeddings. Received: {bad} of {self.num_examples} examples with "
                "NaN or infinity, so training has diverged; lower --learning_rate, or warm it up."
            )

    def sample(self) -> Sample:
        """Up to 2048 embedded examples, the same ones at each refresh."""
        points, index = (value.numpy() for value in self.first(self._draw()))
        return Sample(points[index >= 0], index[index >= 0])

    # --- replica functions: public where others call them, or the TPU check compiles them --------

    def read(self) -> tuple[tf.Tensor, tf.Tensor]:
        """This replica's rows [n, D] and their examples int32 [n], -1 for none."""
        return self._points.read_value(), self._index.read_value()

    def embed_step(self, images: tf.Tensor, index: tf.Tensor, step: tf.Tensor) -> None:
        """Embeds one batch into this replica's rows."""
        row = step * self.batch_size
        points, old = self.read()
        self._points.assign(keras.ops.slice_update(points, (row, 0), self.embed(images)))
        self._index.assign(keras.ops.slice_update(old, (row,), index))

    def _load_step(self) -> None:
        assert isinstance(self._source, KeyMemory)
        # Copied, though it doubles the memory: k-means reads the rows in each iteration, and
        # would bring them to unit length each time.
        points, index = self._source.read()
        self._points.assign(points)
        self._index.assign(index)

    def _count_bad_step(self) -> tf.Tensor:
        return count_non_finite(*self.read(), replica_collectives())

    def _sample_step(self) -> tuple[tf.Tensor, tf.Tensor]:
        return initialization.sample(*self.read(), _SAMPLE_SIZE, self._seed, replica_collectives())

    # --- host ------------------------------------------------------------------------------------

    def on_replicas(self, function: Callable) -> Any:
        """A compiled function that runs `function` on every replica."""

        # Not a lambda: TPUStrategy names the cluster after the function, and refuses "<lambda>".
        def run(*args):
            return self.strategy.run(function, args=args)

        return tf.function(run)

    def first(self, value: Any) -> Any:
        """The first replica's part of what `on_replicas` returned."""
        return tf.nest.map_structure(
            lambda v: self.strategy.experimental_local_results(v)[0], value
        )
