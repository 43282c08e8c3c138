"""The base of MoCo and SimCLR: network, label variable, loss, optimiser step and metrics."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.distribute import replicas
from ifnd_tf.distribute.distributed_model import DistributedModel
from ifnd_tf.models import rule_state, treatment_metrics
from ifnd_tf.models.loss import ContrastiveLoss, LossSettings, label_info_nce
from ifnd_tf.models.memory_bank import MemoryBank
from ifnd_tf.models.network import Network
from ifnd_tf.models.optimizers import apply_scaled, overflow_everywhere
from ifnd_tf.models.rule import RuleInputs
from ifnd_tf.models.teacher import similarities

NOT_ACCEPTED = -1


class ContrastiveModel(DistributedModel):
    """Base of `MoCo` and `SimCLR`; a subclass writes `train_step`.

    Args:
        network: the encoder and projector to train.
        num_examples: N, the size of the index space.
        num_levels: L, rows of the label variable; 0 trains the plain framework.
        loss: temperature, and the treatment of false negatives.
        photometric: uint8 crops [m, S, S, 3] and draws [m, P] -> normalised views; None when
            the host hands over normalised views.
        memory: averages each example's keys or features, to be clustered; None: not needed.
        encoder_rate: steps done, int [] -> factor of the encoder's steps, float32 []; None: 1.

    Attributes:
        first_bad: int32 [2], step and number of the first tensor that is not finite, see
            `nonfinite`; -1 while all are finite.
        pseudo_labels: int32 [L, N], non-trainable, -1 where no label was accepted. Written by
            the detection callback alone. None if L = 0.
        label_confidence: float32 [L, N], likewise; None if no rule needs it.
        true_labels: int32 [N], -1 unknown, to measure the detection of rules in the step; or None.
    """

    def __init__(
        self,
        network: Network,
        *,
        num_examples: int,
        num_levels: int,
        loss: LossSettings,
        photometric: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
        memory: MemoryBank | None = None,
        encoder_rate: Callable[[tf.Tensor], tf.Tensor] | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.network = network
        # Keras finds sub-models in attributes, not in named tuples.
        self.encoder, self.projector = network
        self.loss_settings, self.photometric, self.memory = loss, photometric, memory
        self.encoder_rate = encoder_rate
        self.pseudo_labels: Any = None
        self.label_confidence: Any = None
        if num_levels:
            shape = (num_levels, num_examples)
            self.pseudo_labels = self.add_state("pseudo_labels", shape, initial=NOT_ACCEPTED)
            if loss.needs("confidence"):
                self.label_confidence = self.add_state("label_confidence", shape, "float32")
        for rule in loss.rules:
            row = rule.state_shape(network.projector.output_shape[-1])
            for name, first in rule.state.items():  # attributes: checkpoints do not see a dict's
                value = self.add_state(name, (num_examples, *row), "float32", initial=first)
                setattr(self, name, value)
        self.true_labels: Any = None
        if loss.detects:
            self.true_labels = self.add_state("true_labels", (num_examples,), initial=-1)
        self.first_bad = self.add_state("first_bad", (2,), initial=-1)
        self._means = {
            name: keras.metrics.Mean(name=name)
            for name in ("loss", "masked_share", "positive_similarity", "embedding_std")
        }
        self._measures = treatment_metrics.means(loss.detects)
        self.built = True

    def add_state(
        self, name: str, shape: tuple[int, ...], dtype: str = "int32", initial: float = 0
    ) -> keras.Variable:
        """A variable that the step assigns, not the optimiser."""
        return self.add_weight(
            name=name, shape=shape, dtype=dtype, trainable=False, autocast=False,
            initializer=keras.initializers.Constant(initial),
        )  # fmt: skip

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*self._means.values(), *self._measures.values()]

    def get_metrics_result(self) -> dict[str, Any]:
        """The metrics' values; of detection, those for which a pair counted."""
        unknown = treatment_metrics.unknown(self._measures)
        results = super().get_metrics_result()
        return {name: value for name, value in results.items() if name not in unknown}

    @property
    def rule_state(self) -> dict[str, keras.Variable]:
        """The state that rules keep for each example, float32 [N, ...], by name."""
        return {name: getattr(self, name) for name in self.loss_settings.state}

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The query network's; a key network follows by momentum."""
        return self.network.trainable_variables

    @property
    def embedding_network(self) -> Network:
        """The network whose embeddings are clustered."""
        return self.network

    def newest_embeddings(self) -> np.ndarray:
        """The latest unit vectors [n, D] of training, of different images, on the host."""
        raise NotImplementedError

    def views(self, data: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The two views of each image, normalised, each [b, S, S, 3]."""
        pairs = data["images"]
        if self.photometric is not None:
            crops, draws = (tf.reshape(x, [-1, *x.shape[2:]]) for x in (pairs, data["draws"]))
            pairs = tf.reshape(self.photometric(crops, draws), pairs.shape)
        return pairs[:, 0], pairs[:, 1]

    def labels_of(self, index: tf.Tensor) -> tf.Tensor:
        """Pseudo-labels int32 [L, m] of the examples `index` [m]; -1 for index -1."""
        found = self._rows(self.pseudo_labels, index)
        return tf.zeros([0, *index.shape], tf.int32) if found is None else found

    def _rows(self, labels: keras.Variable | None, index: tf.Tensor) -> tf.Tensor | None:
        """Columns [..., m] of [..., N]; -1 for index -1."""
        if labels is None:
            return None
        rows = tf.gather(labels.value, tf.maximum(index, 0), axis=-1)
        return tf.where(index < 0, tf.cast(NOT_ACCEPTED, rows.dtype), rows)

    def contrastive_loss(
        self,
        anchors: tf.Tensor,
        positives: tf.Tensor,
        negatives: tf.Tensor,
        index: tuple[tf.Tensor, tf.Tensor],
        valid: tf.Tensor,
        teacher_rows: tuple[tf.Tensor, tf.Tensor] | None = None,
    ) -> ContrastiveLoss:
        """The treated loss of unit vectors; updates the rules' state.

        Args:
            anchors, positives, negatives: float32 [b, D] and [M, D].
            index: examples of the anchors int32 [b], and of the negatives int32 [M], -1 for an
                empty slot.
            valid: bool [M] or [b, M].
            teacher_rows: `--teacher`'s rows of the anchors [b, W] and of the negatives [M, W].
        """
        settings = self.loss_settings
        positive = tf.reduce_sum(anchors * positives, axis=-1) / settings.temperature
        logits = tf.matmul(anchors, negatives, transpose_b=True) / settings.temperature
        labels = tuple(self.labels_of(each) for each in index)
        embeddings = tf.stop_gradient(positives), tf.stop_gradient(negatives)
        cosines = None
        if settings.needs("key_similarities"):
            cosines = tf.matmul(*embeddings, transpose_b=True)
        inputs = RuleInputs(
            state={n: tf.gather(v.value, index[0]) for n, v in self.rule_state.items()},
            key_similarities=cosines,
            embeddings=embeddings if settings.needs("embeddings") else (),
            confidence=self._rows(self.label_confidence, index[1]),
            epoch=tf.cast(self.optimizer.iterations.value, tf.int32) // settings.steps_per_epoch,
            teacher_similarities=similarities(*teacher_rows) if teacher_rows else None,
        )
        truth = tuple(self._rows(self.true_labels, x) for x in index) if settings.detects else None
        loss = label_info_nce(positive, logits, valid, index, labels, settings, inputs, truth)
        rule_state.write(self.rule_state, index[0], loss.state)
        return loss

    def minimise(self, tape: tf.GradientTape, loss: tf.Tensor) -> Sequence[tf.Tensor]:
        """One optimiser step on a loss from `replica_share`; returns the gradients."""
        variables = self.trainable_variables
        gradients = overflow_everywhere(self.optimizer, tape.gradient(loss, variables))
        if self.encoder_rate is None:
            self.optimizer.apply(gradients, variables)
        else:
            rate = self.encoder_rate(self.optimizer.iterations.value)
            slow = self.encoder.trainable_variables
            apply_scaled(self.optimizer, gradients, variables, slow, rate)
        return gradients

    def replica_share(self, per_anchor: tf.Tensor) -> tf.Tensor:
        """This replica's part of the mean over all anchors, scaled for mixed precision.

        The optimiser sums gradients over replicas, so the division by their number happens
        here, and only here.
        """
        mean = tf.reduce_mean(per_anchor) / replicas.num_replicas()
        return self.optimizer.scale_loss(mean)

    def log(
        self, loss: ContrastiveLoss, anchors, positives, gradients: Sequence[tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Updates the metrics, means over replicas, and notes the first tensor that is not finite.

        embedding_std is the standard deviation of a unit vector's coordinates times sqrt(D):
        about 1 when embeddings spread over the sphere, 0 when they collapse to a point.
        """
        spread = tf.sqrt(tf.reduce_mean(tf.math.reduce_variance(anchors, axis=0)))
        alike = tf.reduce_mean(tf.reduce_sum(anchors * positives, axis=-1))
        spread *= float(anchors.shape[-1]) ** 0.5
        values = tf.stack([tf.reduce_mean(loss.per_anchor), loss.masked_share, alike, spread])
        checked = [anchors, positives, loss.per_anchor]
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            checked += gradients  # it raises its scale until gradients overflow
        # A sum is finite if all its terms are. The bools of an elementwise test would be transposed
        # with the gradient, which oneDNN cannot do, and says so on the terminal.
        sums = [tf.reduce_sum(tf.cast(tensor, tf.float32)) for tensor in checked]
        bad = [~tf.math.is_finite(value) for value in sums]
        # One reduction for all: a second would be a second message between the replicas.
        parts = [values, tf.cast(bad, tf.float32)]
        parts += [] if loss.detected is None else [loss.detected]
        means = replicas.all_reduce_mean(tf.concat(parts, axis=0))
        values, bad, sums = tf.split(means, [values.shape[0], len(sums), -1])
        self._note_first_bad(bad > 0.0)
        for metric, value in zip(self._means.values(), tf.unstack(values), strict=True):
            metric.update_state(value)
        if loss.detected is not None:
            treatment_metrics.update(self._measures, sums)
        return {metric.name: metric.result() for metric in self.metrics}

    def _note_first_bad(self, bad: tf.Tensor) -> None:
        """Keeps the step and the number of the first tensor that is not finite, bool [tensors]."""
        known = self.first_bad.value
        step = tf.cast(self.optimizer.iterations.value, tf.int32)
        found = tf.stack([step, tf.argmax(bad, output_type=tf.int32)])
        self.first_bad.assign(tf.where(tf.reduce_any(bad) & (known[0] < 0), found, known))

    def nonfinite(self) -> tuple[int, str] | None:
        """The step at which a number became NaN or infinite, and where first; None if none did."""
        step, tensor = self.first_bad.numpy()
        if step < 0:
            return None
        names = ["the anchors' embeddings", "the positives' embeddings", "the loss"]
        names += [f"the gradient of {v.path}" for v in self.trainable_variables]
        return int(step), names[tensor]
