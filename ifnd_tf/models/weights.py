"""Weights of another network, as the start of one of ours."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from ifnd_tf.errors import UserError
from ifnd_tf.models.network import Network

# Misfits to name in one message.
_NAMED = 5


class Weight(NamedTuple):
    """One weight: its name, such as "stem/kernel", and its value; None if it is missing."""

    name: str
    value: np.ndarray | None

    @property
    def shape(self) -> str:
        """The value's shape in words."""
        return "none" if self.value is None else str(self.value.shape)


def weights_of(model: keras.Model) -> list[Weight]:
    """A model's weights, in the order of its layers, without statistics that normalise its input.

    Raises:
        UserError: if the model normalises its input by statistics that were never set.
    """
    found = []
    for layer in _layers(model):
        if not isinstance(layer, keras.layers.Normalization):
            found += [Weight(v.path, v.numpy()) for v in layer.weights]
        elif layer.weights and not np.any(layer.adapt_mean.numpy()):
            raise UserError(
                "--init_from: expected a network trained on ImageNet's scale of pixels. Received: "
                f"{model.name}, whose layer {layer.name} has no mean and variance; call its "
                "adapt() with ImageNet's before training, or start from imagenet."
            )
    return found


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def misfits(expected: Sequence[Weight], received: Sequence[Weight]) -> str:
    """The weights that differ in shape or are missing, with both shapes; "" if all fit."""
    missing = Weight("", None)
    rows = [
        f"{wanted.name or given.name}: expected {wanted.shape}, received {given.shape}"
        for wanted, given in itertools.zip_longest(expected, received, fillvalue=missing)
        if wanted.shape != given.shape
    ]
    extra = len(rows) - _NAMED
    if extra > 0:
        rows = [*rows[:_NAMED], f"and {extra} more"]
    if len(expected) != len(received):
        rows.append(f"expected {len(expected)} weights, received {len(received)}")
    return "; ".join(rows)


def assign(
    network: Network, encoder: Sequence[Weight], projector: Sequence[Weight], *, source: str
) -> str:
    """Gives a network weights, the projector only if all of its weights fit.

    Args:
        network: in whose strategy's scope this is called.
        encoder, projector: the weights of each; no projector's where there are none.
        source: where they come from, for messages.

    Returns:
        A line that says which weights were taken.

    Raises:
        UserError: if the encoder's do not fit; names them with their shapes.
    """
    misfit = misfits(weights_of(network.encoder), encoder)
    if misfit:
        raise UserError(
            f"--init_from: expected weights that fit the network {network.encoder.name}. Received: "
            f"{source} ({misfit}); give the flags of that network, or another start."
        )
    _set(network.encoder, encoder)
    if not projector:
        return f"encoder from {source}; the projector starts fresh"
    misfit = misfits(weights_of(network.projector), projector)
    if misfit:
        return f"encoder from {source}; the projector starts fresh, since it differs ({misfit})"
    _set(network.projector, projector)
    return f"encoder and projector from {source}"


def _set(model: keras.Model, weights: Sequence[Weight]) -> None:
    for variable, weight in zip(model.weights, weights, strict=True):
        variable.assign(weight.value)
