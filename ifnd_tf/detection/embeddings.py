"""The data set's embeddings on the devices: from a pass over the images, kept keys, or given.

Each replica holds rows of its own: neither the host nor any one device ever holds all N x D
numbers.
"""

import math
from collections.abc import Callable, Iterable
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.clustering import initialization
from ifnd_tf.distribute import replicas
from ifnd_tf.errors import NonFinite
from ifnd_tf.models.memory_bank import MemoryBank
from ifnd_tf.run.progress import Count, uncounted

# Examples of `sample`: their 2 million pairs suffice to estimate the precision of pairs.
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

    A subclass is one source of embeddings: it writes the rows in `fill`.

    Args:
        strategy: whose replicas hold the rows.
        num_examples: N, the size of the index space.
        rows: rows of each replica.
        width: D.
        seed: of the sample.

    Attributes:
        fixed: whether the embeddings stay the same over the run.
    """

    fixed: ClassVar[bool] = False

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        *,
        num_examples: int,
        rows: int,
        width: int,
        seed: int = 0,
    ):
        self.strategy, self.num_examples = strategy, num_examples
        self.rows, self.width, self._seed = rows, width, seed
        with strategy.scope():
            self._points = replicas.own_variable(tf.zeros([rows, width]), "embeddings")
            self._index = replicas.own_variable(tf.fill([rows], -1), "embedded_index")
        self._count_bad = replicas.on_replicas(strategy, self._count_bad_step)
        self._draw = replicas.on_replicas(strategy, self._sample_step)
        self._gather = replicas.on_replicas(strategy, self._gather_step)

    def fill(self, count: Count) -> None:
        """Writes the current embeddings and their examples into the rows of all replicas."""
        raise NotImplementedError

    def refresh(self, count: Count = uncounted) -> None:
        """Fills the table and checks it.

        Args:
            count: called with the examples embedded, and N.

        Raises:
            NonFinite: if an embedding is not finite: the training has diverged.
        """
        self.fill(count)
        bad = int(replicas.first(self.strategy, self._count_bad()))
        if bad:
            raise NonFinite(
                f"Expected finite embeddings. Received: {bad} of {self.num_examples} examples with "
                "NaN or infinity, so training has diverged; lower --learning_rate, or warm it up."
            )

    def sample(self) -> Sample:
        """Up to 2048 embedded examples, the same ones at each refresh."""
        points, index = (v.numpy() for v in replicas.first(self.strategy, self._draw()))
        return Sample(points[index >= 0], index[index >= 0])

    def everything(self) -> tuple[np.ndarray, np.ndarray]:
        """All embedded examples on the host: points [n, D] and indices [n], by index."""
        points, index = (v.numpy() for v in replicas.first(self.strategy, self._gather()))
        order = np.argsort(index, kind="stable")[np.count_nonzero(index < 0) :]
        return points[order], index[order]

    @property
    def variables(self) -> tuple[tf.Variable, tf.Variable]:
        """The variables that hold the rows and their examples; see `read`."""
        return self._points, self._index

    def read(self) -> tuple[tf.Tensor, tf.Tensor]:
        """On a replica: its rows [n, D] and their examples int32 [n], -1 for none."""
        return self._points.read_value(), self._index.read_value()

    def _count_bad_step(self) -> tf.Tensor:
        points, index = self.read()
        bad = ~tf.reduce_all(tf.math.is_finite(points), axis=1) & (index >= 0)
        return replicas.replica_collectives().sum(tf.reduce_sum(tf.cast(bad, tf.int32)))

    def _gather_step(self) -> tuple[tf.Tensor, tf.Tensor]:
        concat = replicas.replica_collectives().concat
        points, index = self.read()
        return concat(points), concat(index)

    def _sample_step(self) -> tuple[tf.Tensor, tf.Tensor]:
        return initialization.sample(
            *self.read(), _SAMPLE_SIZE, self._seed, replicas.replica_collectives()
        )


class ImagePass(EmbeddingTable):
    """`--detect_with=encoder`: all images are embedded anew, without augmentation.

    Args:
        strategy: whose replicas hold the rows.
        batches: starts a pass of `eval_batches.ordered_batches`, distributed over the strategy.
        embed: uint8 images [b, S, S, 3] -> unit vectors float32 [b, D], run on each replica.
        batch_size: rows of a replica's batch.
        **sizes: as for `EmbeddingTable`; `rows` of all of a replica's batches in one pass.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        batches: Callable[[], Iterable[dict]],
        embed: Callable[[tf.Tensor], tf.Tensor],
        *,
        batch_size: int,
        **sizes: int,
    ):
        super().__init__(strategy, **sizes)
        self.batches, self.embed, self.batch_size = batches, embed, batch_size
        self._embed = replicas.on_replicas(strategy, self.embed_step)

    def fill(self, count: Count) -> None:
        each = self.batch_size * self.strategy.num_replicas_in_sync
        for step, batch in enumerate(self.batches()):
            self._embed(batch["images"], batch["index"], tf.constant(step))
            count(min((step + 1) * each, self.num_examples), self.num_examples)

    def embed_step(self, images: tf.Tensor, index: tf.Tensor, step: tf.Tensor) -> None:
        """On a replica: embeds one batch into its rows. Public, as the TPU check compiles it."""
        row = step * self.batch_size
        replicas.write_rows(self._points, row, self.embed(images))
        replicas.write_rows(self._index, row, index)


class KeptKeys(EmbeddingTable):
    """`--detect_with=keys`: the keys that training computed, averaged for each example.

    Args:
        memory: the averages.
        seed: of the sample.
    """

    def __init__(self, memory: MemoryBank, *, seed: int):
        sizes = {"rows": memory.rows, "width": memory.width, "seed": seed}
        super().__init__(memory.strategy, num_examples=memory.num_examples, **sizes)
        self._memory, self._load = memory, replicas.on_replicas(self.strategy, self._load_step)

    def fill(self, count: Count) -> None:
        self._load()

    def _load_step(self) -> None:
        # Copied, though it doubles the memory: k-means reads the rows in each iteration, and
        # would bring them to unit length each time.
        points, index = self._memory.read()
        self._points.assign(points)
        self._index.assign(index)


class GivenRows(EmbeddingTable):
    """`--detect_with=` a file or another model: the same rows at each refresh.

    Args:
        strategy: whose replicas hold the rows, n = N / R rounded up each.
        points: float32 [N, D], unit vectors; zeros where there is none.
        seed: of the sample.
    """

    fixed = True

    def __init__(self, strategy: tf.distribute.Strategy, points: np.ndarray, *, seed: int):
        count, width = points.shape
        rows = math.ceil(count / strategy.num_replicas_in_sync)
        super().__init__(strategy, num_examples=count, rows=rows, width=width, seed=seed)
        self._waiting: np.ndarray | None = points

    def fill(self, count: Count) -> None:
        if self._waiting is None:
            return
        index = np.where(self._waiting.any(axis=1), np.arange(self.num_examples), -1)
        replicas.assign_rows(self.strategy, self._points, self._waiting, self.rows)
        replicas.assign_rows(self.strategy, self._index, index, self.rows, fill=-1)
        self._waiting = None  # the devices hold them now
