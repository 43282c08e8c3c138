"""MoCo v2 with false negative removal (He et al. 2019, arXiv 1911.05722; Chen et al. 2020,
arXiv 2003.04297; removal after Chen et al. 2022, arXiv 2106.03719)."""

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.distribute import replicas
from ifnd_tf.models.batch_norm import interleave
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.models.network import Network
from ifnd_tf.models.teacher import DTYPE

EMPTY = -1


class MoCo(ContrastiveModel):
    """Queries against a queue of keys that a momentum encoder made.

    Args:
        network: query encoder and projector.
        key_network: a second pair of the same shape; it starts as a copy of the first.
        queue_size: Q, a multiple of the global batch.
        key_momentum: m in [0, 1) of key = m * key + (1 - m) * query.
        batch_norm: "sync", "shuffle", "split" or "local"; how the keys are kept from
            sharing batch statistics with their queries.
        batch_norm_splits: parts of a batch for "split".
        **kwargs: see `ContrastiveModel`.

    Attributes:
        queue: float32 [Q, D], unit vectors, the same on all replicas.
        queue_index: int32 [Q], the example behind each key, -1 for an empty slot. An index
            rather than a label, so that new pseudo-labels hold for the whole queue at once.
        teacher_queue: bfloat16 [Q, W], the teacher's rows of these examples, if there is one.
    """

    def __init__(
        self,
        network: Network,
        key_network: Network,
        *,
        queue_size: int,
        key_momentum: float = 0.999,
        batch_norm: str = "local",
        batch_norm_splits: int = 8,
        **kwargs,
    ):
        super().__init__(network, name="moco", **kwargs)
        self.key_network = key_network
        self.key_encoder, self.key_projector = key_network
        self.key_momentum = key_momentum
        self.batch_norm, self.batch_norm_splits = batch_norm, batch_norm_splits
        for query, key in zip(network, key_network, strict=True):
            key.set_weights(query.get_weights())
        dim = network.projector.output_shape[-1]
        self.queue = self.add_state("queue", (queue_size, dim), "float32")
        self.queue_index = self.add_state("queue_index", (queue_size,), initial=EMPTY)
        self.queue_end = self.add_state("queue_end", ())
        if self.loss_settings.teacher is not None:
            width = self.loss_settings.teacher.width
            self.teacher_queue = self.add_state("teacher_queue", (queue_size, width), DTYPE.name)

    @property
    def embedding_network(self) -> Network:
        return self.key_network

    def newest_embeddings(self) -> np.ndarray:
        """The keys in the queue."""
        return self.queue.numpy()[self.queue_index.numpy() != EMPTY]

    def train_step(self, data):
        """One step (He et al. 2019, algorithm 1): loss against the queue, updates, new keys.

        Args:
            data: a batch of `training_batches` on this replica: "index" int32 [b], "images"
                [b, 2, S, S, 3], perhaps "draws", and with a teacher "teacher" bfloat16 [b, W].

        Returns:
            The metrics by name, float32 [].
        """
        index = data["index"]
        query_views, key_views = self.views(data)
        keys, *features = self.keys(key_views)
        with tf.GradientTape() as tape:
            queries = self.network.embed(query_views, training=True)
            # As a tensor: the compiled loss would capture the variable, which no lowered program
            # has.
            queued = tf.convert_to_tensor(self.queue_index.value)
            teacher_rows = None
            if "teacher" in data:
                teacher_rows = data["teacher"], self.teacher_queue.value
            loss = self.contrastive_loss(
                queries, keys, self.queue.value, (index, queued), queued != EMPTY, teacher_rows
            )
            share = self.replica_share(loss.per_anchor)
        gradients = self.minimise(tape, share)
        self.follow()
        all_keys, all_index = replicas.all_gather(keys), replicas.all_gather(index)
        self.enqueue(all_keys, all_index, data.get("teacher"))
        if self.memory is not None:
            kept = replicas.all_gather(features[0]) if features else all_keys
            self.memory.update(kept, all_index)
        return self.log(loss, queries, keys, gradients)

    def keys(self, images: tf.Tensor) -> list[tf.Tensor]:
        """Keys [b, D] of the replica's images, batch-normalised among others than their queries.

        Followed by their features [b, F], if the memory bank averages features.
        """

        def outputs(images: tf.Tensor) -> list[tf.Tensor]:
            features, keys = self.key_network.outputs(images, training=True)
            kept = [keys, features] if self.memory and self.memory.features else [keys]
            return [tf.stop_gradient(x) for x in kept]

        if self.batch_norm == "shuffle" and replicas.num_replicas() > 1:
            moved = outputs(replicas.exchange(images))
            return [replicas.exchange(x, inverse=True) for x in moved]
        if self.batch_norm == "split":
            parts = images.shape[0] // self.batch_norm_splits
            dealt = outputs(interleave(images, self.batch_norm_splits))
            return [interleave(x, parts) for x in dealt]
        return outputs(images)

    def follow(self) -> None:
        """The momentum update; batch statistics are the key encoder's own."""
        m = self.key_momentum
        for query, key in zip(
            self.network.trainable_variables, self.key_network.trainable_variables, strict=True
        ):
            key.assign(m * key.value + (1.0 - m) * query.value)

    def enqueue(
        self, keys: tf.Tensor, index: tf.Tensor, teacher_rows: tf.Tensor | None = None
    ) -> None:
        """Writes keys over the oldest ones.

        Args:
            keys: float32 [B, D], those of all replicas.
            index: int32 [B], their examples.
            teacher_rows: [b, W], the teacher's rows of this replica's examples alone, if there is
                a teacher.
        """
        end = self.queue_end.value
        self.queue.assign(keras.ops.slice_update(self.queue.value, (end, 0), keys))
        self.queue_index.assign(keras.ops.slice_update(self.queue_index.value, (end,), index))
        if teacher_rows is not None:
            rows = tf.cast(replicas.all_gather(tf.cast(teacher_rows, tf.float32)), DTYPE)
            queue = self.teacher_queue
            queue.assign(keras.ops.slice_update(queue.value, (end, 0), rows))
        # B divides Q, so a batch never wraps round.
        self.queue_end.assign((end + keys.shape[0]) % self.queue.shape[0])
