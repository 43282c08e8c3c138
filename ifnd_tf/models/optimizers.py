"""SGD as MoCo uses it, LARS as SimCLR uses it, and the choice of an optimizer by name."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from ifnd_tf.distribute import replicas
from ifnd_tf.errors import UserError


@keras.saving.register_keras_serializable(package="ifnd_tf")
class MomentumSGD(keras.optimizers.Optimizer):
    """SGD with momentum and a coupled L2 penalty, PyTorch's `SGD(weight_decay=)`.

    g = gradient + l2 * w; m = momentum * m + g; w -= learning_rate * m. MoCo's weight decay
    enters the gradient, and so the momentum, of every trainable weight, biases and batch norm
    included. Keras' `weight_decay=` shrinks the weight outside of the momentum instead,
    and Keras' SGD scales by the learning rate before the momentum, which differs while
    the learning rate changes; neither reproduces MoCo's published runs.

    Args:
        learning_rate: > 0, a float or a schedule.
        momentum: in [0, 1).
        l2: coefficient of the penalty, >= 0.
    """

    def __init__(
        self,
        learning_rate: Any = 0.03,
        momentum: float = 0.9,
        l2: float = 0.0,
        name: str = "momentum_sgd",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum, self.l2 = momentum, l2

    def build(self, variables: Iterable[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._momenta = self.add_optimizer_variables(variables, "momentum")

    def _direction(self, gradient: tf.Tensor, variable: keras.Variable) -> tf.Tensor:
        """The term that is added to the momentum, before the learning rate."""
        return gradient + self.l2 * variable

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        momentum = self._momenta[self._get_variable_index(variable)]
        learning_rate = ops.cast(learning_rate, variable.dtype)
        direction = self._direction(ops.cast(gradient, variable.dtype), variable)
        updated = self.momentum * momentum + direction
        self.assign(momentum, updated)
        self.assign_sub(variable, learning_rate * updated)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"momentum": self.momentum, "l2": self.l2}


@keras.saving.register_keras_serializable(package="ifnd_tf")
class LARS(MomentumSGD):
    """Layer-wise adaptive rate scaling (You, Gitman and Ginsburg, 2017), as in SimCLR.

    For every weight that is neither a bias nor of a batch norm, the gradient with its L2
    term is scaled by trust * |w| / |gradient + l2 * w| before it enters the momentum, so a
    step's length follows the weight's own. Biases and batch norm take plain momentum steps.

    Args:
        learning_rate: > 0, a float or a schedule. SimCLR: 0.3 * B / 256.
        trust: the trust coefficient, > 0. You et al. and SimCLR: 0.001.
        **kwargs: as for `MomentumSGD`. SimCLR: l2 = 1e-6.
    """

    def __init__(
        self, learning_rate: Any = 0.3, *, trust: float = 0.001, name: str = "lars", **kwargs: Any
    ):
        super().__init__(learning_rate, name=name, **kwargs)
        self.trust = trust

    def _direction(self, gradient: tf.Tensor, variable: keras.Variable) -> tf.Tensor:
        if is_exempt(variable):
            return gradient
        direction = gradient + self.l2 * variable
        weight_norm, norm = _length(variable), _length(direction)
        # A weight or gradient of 0 has no direction to adapt to: it keeps its plain step.
        defined = ops.logical_and(weight_norm > 0, norm > 0)
        scale = self.trust * weight_norm / ops.where(defined, norm, 1.0)
        return direction * ops.where(defined, scale, 1.0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"trust": self.trust}


def _length(x: Any) -> tf.Tensor:
    """The Euclidean norm of all elements; Keras' `norm` refuses a convolution's four axes."""
    return ops.sqrt(ops.sum(ops.square(x)))


def is_exempt(variable: keras.Variable) -> bool:
    """Whether a weight is a bias or belongs to a batch norm: both are scalars or vectors.

    By rank, not by name, so that any network of keras.applications is treated alike.
    """
    return len(variable.shape) <= 1


OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": MomentumSGD,
    "lars": LARS,
    "adamw": keras.optimizers.AdamW,
    "lamb": keras.optimizers.Lamb,
}


def make(
    name: str,
    variables: Sequence[keras.Variable],
    *,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> keras.optimizers.Optimizer:
    """The optimizer of this name, built, as it must be before a step is traced under a strategy.

    Args:
        name: sgd (`MomentumSGD`, coupled L2 on all weights), lars (`LARS`), adamw or lamb
            (Keras', with decoupled decay; biases and batch norm exempt).
        variables: the trainable variables. Call this in their strategy's scope.
        learning_rate: > 0, or a schedule.
        momentum: of sgd and lars, in [0, 1); adamw and lamb keep Keras' 0.9 and 0.999.
        weight_decay: >= 0.

    Raises:
        UserError: the name is unknown.
    """
    if name not in OPTIMIZERS:
        raise UserError(
            f"--optimizer: expected one of {', '.join(OPTIMIZERS)}. Received: {name!r}."
        )
    if name in ("sgd", "lars"):
        optimizer = OPTIMIZERS[name](learning_rate, momentum=momentum, l2=weight_decay)
    else:
        optimizer = OPTIMIZERS[name](learning_rate, weight_decay=weight_decay)
        optimizer.exclude_from_weight_decay([v for v in variables if is_exempt(v)])
    optimizer.build(variables)
    return optimizer


def overflow_everywhere(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[tf.Tensor]
) -> Sequence[tf.Tensor]:
    """The gradients of this replica, with a NaN if those of any replica are not finite.

    `LossScaleOptimizer` skips a step by the gradients of the first replica in its process, before
    they are summed: an overflow on another would reach the weights, and workers of which one skips
    would deadlock. Without a `LossScaleOptimizer` the gradients stay as they are.
    """
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if not scales or replicas.num_replicas() == 1:
        return gradients
    total = replicas.all_reduce_mean(tf.add_n([tf.reduce_sum(each) for each in gradients]))
    first, *others = gradients
    return [tf.where(tf.math.is_finite(total), first, float("nan")), *others]


def apply_scaled(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[keras.Variable],
    scaled: Sequence[keras.Variable],
    rate: tf.Tensor,
) -> None:
    """One step, in which some variables have only a share of the learning rate.

    Their change is scaled after the step: every optimizer's step, its decay of weights included, is
    proportional to the learning rate.

    Args:
        optimizer: built for `variables`.
        gradients: of each variable.
        variables: the trainable variables.
        scaled: those of them that move by a share; at 0 their values stay as they are.
        rate: the share, float32 [], >= 0.
    """
    before = [tf.identity(variable.value) for variable in scaled]
    optimizer.apply(gradients, variables)
    for variable, old in zip(scaled, before, strict=True):
        variable.assign(old + rate * (variable.value - old))
