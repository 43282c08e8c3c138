"""Batch normalisation whose statistics do not reveal the positive pair.

Contrastive encoders can cheat: images normalised with the same batch statistics carry a
common signature. MoCo shuffles its keys over devices, or splits one device's batch; SimCLR
synchronises. The layer offers the statistics; `replicas.exchange` and
`interleave` move the keys.
"""

import math

import keras
import tensorflow as tf

from ifnd_tf.distribute import replicas

POLICIES = ("sync", "shuffle", "split", "local")


class BatchNorm(keras.layers.Layer):
    """Batch normalisation over [..., C] images (Ioffe & Szegedy 2015), by policy.

    Args:
        policy: where statistics come from. "sync": the batch of all replicas; "shuffle" and
            "local": the replica's batch; "split": each of `splits` equal parts of it.
        splits: number of parts for "split"; divides the replica's batch.
        momentum: weight of the past in the moving statistics, in [0, 1).
        epsilon: added to the variance.
        scale: whether there is a factor gamma; some networks of keras.applications have none.

    The moving statistics are averaged over replicas at every step, so that all replicas
    hold, and save, the same ones.
    """

    def __init__(
        self,
        policy: str = "local",
        splits: int = 8,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        scale: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if policy not in POLICIES:
            raise ValueError(f"policy: expected one of {POLICIES}. Received: {policy!r}")
        self.policy, self.splits = policy, splits
        self.momentum, self.epsilon, self.scale = momentum, epsilon, scale

    def build(self, input_shape):
        def weight(name: str, initializer: str, trainable: bool) -> keras.Variable:
            return self.add_weight(
                name=name, shape=(input_shape[-1],), initializer=initializer, trainable=trainable,
                dtype="float32", autocast=False,
            )  # fmt: skip

        self.gamma = weight("gamma", "ones", True) if self.scale else None
        self.beta = weight("beta", "zeros", True)
        self.moving_mean = weight("moving_mean", "zeros", False)
        self.moving_variance = weight("moving_variance", "ones", False)

    def call(self, inputs, training=False, mask=None):  # keras.applications pass a mask
        if not training:
            return self._fused(inputs, self.moving_mean.value, self.moving_variance.value)[0]
        if self.policy == "sync" and replicas.num_replicas() > 1:
            outputs, mean, variance = self._synchronised(inputs)
        elif self.policy == "split":
            outputs, mean, variance = self._split(inputs)
        else:
            outputs, mean, variance = self._fused(inputs)
        self._move(mean, variance)
        return outputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def _factor(self):
        return tf.ones_like(self.beta.value) if self.gamma is None else self.gamma.value

    def _fused(self, x, mean=None, variance=None):
        """Keras' own layer is not fused under TensorFlow; this op halves the layer's cost."""
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=self._factor(), offset=self.beta.value,
            mean=[] if mean is None else mean, variance=[] if variance is None else variance,
            epsilon=self.epsilon, is_training=mean is None,
        )  # fmt: skip
        return outputs, mean, variance

    def _split(self, x):
        if replicas.on_cpu():
            # FusedBatchNorm on slices: no transposition, and as fast as one call.
            parts = zip(*(self._fused(part) for part in tf.split(x, self.splits)), strict=True)
            outputs, means, variances = map(list, parts)
            outputs = tf.concat(outputs, axis=0)
            mean, variance = (tf.add_n(values) / self.splits for values in (means, variances))
            return outputs, mean, variance
        # An accelerator would wait for hundreds of small reductions; these are two for all parts.
        parts = tf.reshape(x, [self.splits, x.shape[0] // self.splits, *x.shape[1:]])
        outputs, mean, variance = _normalise_parts(
            parts, self._factor(), self.beta.value, self.epsilon
        )
        count = math.prod(x.shape[:-1]) // self.splits
        variance *= count / max(count - 1, 1)
        outputs = tf.reshape(outputs, x.shape)
        return outputs, tf.reduce_mean(mean, axis=0), tf.reduce_mean(variance, axis=0)

    def _synchronised(self, x):
        wide = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(wide, axes=list(range(x.shape.rank - 1)))
        # One all-reduce. Only the replicas' means enter a difference of squares, so float32
        # loses far fewer digits than in E[x^2] - E[x]^2 over all pixels.
        packed = tf.stack([mean, variance, tf.square(mean)])
        mean, within, square = tf.unstack(replicas.all_reduce_mean(packed))
        variance = within + tf.maximum(square - tf.square(mean), 0.0)
        outputs = tf.nn.batch_normalization(
            wide, mean, variance, self.beta.value, self._factor(), self.epsilon
        )
        # Bessel's correction, as in the variance that FusedBatchNorm returns.
        count = math.prod(x.shape[:-1]) * replicas.num_replicas()
        return tf.cast(outputs, x.dtype), mean, variance * (count / max(count - 1, 1))

    def _move(self, mean, variance):
        statistics = tf.stop_gradient(tf.stack([mean, variance]))
        if self.policy != "sync":
            statistics = replicas.all_reduce_mean(statistics)
        variables = self.moving_mean, self.moving_variance
        for variable, value in zip(variables, tf.unstack(statistics), strict=True):
            variable.assign(variable.value * self.momentum + value * (1.0 - self.momentum))


def _normalise_parts(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float):
    """Batch normalisation of each part of `x` [parts, b, ..., C], with a gradient in closed form.

    Returns:
        The outputs, of the dtype of `x`; mean and biased variance, float32 [parts, C].
    """
    axes = list(range(1, x.shape.rank - 1))
    count = float(math.prod(x.shape[1:-1]))

    def sums(values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(values, axis=axes, keepdims=True)

    @tf.custom_gradient
    def normalise(x, gamma, beta):
        wide = tf.cast(x, tf.float32)
        mean = sums(wide) / count
        variance = tf.maximum(sums(wide * wide) / count - mean * mean, 0.0)
        inverse = tf.math.rsqrt(variance + epsilon)
        outputs = tf.cast((wide - mean) * inverse * gamma + beta, x.dtype)

        def gradient(upstream, *_):  # none flows through the statistics
            upstream = tf.cast(upstream, tf.float32)
            standard = (tf.cast(x, tf.float32) - mean) * inverse
            to_beta, to_gamma = sums(upstream), sums(upstream * standard)
            to_x = gamma * inverse * (upstream - (to_beta + standard * to_gamma) / count)
            channels = [-1, x.shape[-1]]
            return (
                tf.cast(to_x, x.dtype),
                tf.reduce_sum(tf.reshape(to_gamma, channels), axis=0),
                tf.reduce_sum(tf.reshape(to_beta, channels), axis=0),
            )

        statistics = (tf.reshape(values, [-1, x.shape[-1]]) for values in (mean, variance))
        return (outputs, *statistics), gradient

    return normalise(x, gamma, beta)


def interleave(x: tf.Tensor, splits: int) -> tf.Tensor:
    """Deals the rows of `x` [b, ...] out to `splits` parts in turn, as cards are dealt.

    Each part of the result holds b / splits**2 rows of every former part, so key and query
    of an image are normalised among different images. `interleave(., b // splits)` undoes it.
    The order is fixed: the batch's composition is random already.
    """
    shape = x.shape.as_list()
    rows = tf.reshape(x, [splits, shape[0] // splits, *shape[1:]])
    axes = [1, 0, *range(2, len(shape) + 1)]
    return tf.reshape(tf.transpose(rows, axes), shape)
