"""SimCLR with false negative removal (Chen et al. 2020, arXiv 2002.05709; removal after
Chen et al. 2022, arXiv 2106.03719)."""

import numpy as np
import tensorflow as tf

from ifnd_tf.distribute import replicas
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.models.network import Network


class SimCLR(ContrastiveModel):
    """Each of the 2B views against the views of all other images of the global batch.

    Args:
        network: encoder and projector.
        batch_size: B.
        **kwargs: see `ContrastiveModel`.

    Attributes:
        newest: float32 [B, D], the last step's first views, the same on all replicas.
    """

    def __init__(self, network: Network, *, batch_size: int, **kwargs):
        super().__init__(network, name="simclr", **kwargs)
        dim = network.projector.output_shape[-1]
        self.newest = self.add_state("newest", (batch_size, dim), "float32")

    def newest_embeddings(self) -> np.ndarray:
        """The first views of the last step."""
        return self.newest.numpy()

    def train_step(self, data):
        """One step (Chen et al. 2020, algorithm 1): loss against all other views of the batch.

        Args:
            data: a batch as for `MoCo.train_step`.

        Returns:
            The metrics by name, float32 [].
        """
        index = tf.concat([data["index"]] * 2, axis=0)
        with tf.GradientTape() as tape:
            # One pass over both views: their batch statistics are common, as in the paper.
            features, views = self.network.outputs(
                tf.concat(self.views(data), axis=0), training=True
            )
            first, second = tf.split(views, 2)
            partners = tf.concat([second, first], axis=0)
            all_views = replicas.all_gather(views)
            all_index = replicas.all_gather(index)
            valid = self._others(views.shape[0])
            teacher_rows = None
            if "teacher" in data:
                rows = tf.cast(tf.concat([data["teacher"]] * 2, axis=0), tf.float32)
                teacher_rows = rows, replicas.all_gather(rows)
            loss = self.contrastive_loss(
                views, partners, all_views, (index, all_index), valid, teacher_rows
            )
            share = self.replica_share(loss.per_anchor)
        gradients = self.minimise(tape, share)
        self.newest.assign(_by_view(all_views)[0])
        if self.memory is not None:
            kept = replicas.all_gather(features) if self.memory.features else all_views
            first, second = _by_view(kept)
            self.memory.update(first + second, _by_view(all_index)[0])
        return self.log(loss, views, partners, gradients)

    def _others(self, rows: int) -> tf.Tensor:
        """bool [rows, replicas * rows]: False at the anchor itself and at its partner."""
        columns = tf.range(replicas.num_replicas() * rows)[None, :]
        place, first = tf.range(rows)[:, None], replicas.replica_id() * rows
        partner = tf.math.floormod(place + rows // 2, rows)
        return tf.logical_and(columns != first + place, columns != first + partner)


def _by_view(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows [R * 2 * b, ...] of all replicas' views, as first and second views [R * b, ...]."""
    shape = rows.shape.as_list()
    apart = tf.reshape(rows, [replicas.num_replicas(), 2, -1, *shape[1:]])
    return tf.reshape(apart[:, 0], [-1, *shape[1:]]), tf.reshape(apart[:, 1], [-1, *shape[1:]])
