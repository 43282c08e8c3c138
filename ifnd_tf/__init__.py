"""Contrastive pretraining that finds false negatives and stops pushing them away.

Importing this package reads no flags, starts no device work and does not import TensorFlow:
the names in `__all__` are imported on first use.

- `pretrain`: a whole run in one call; `embed`: features by its encoder.
- `IncrementalDetection`, `array_detector`: detection for a Keras model of your own.
- `masked_info_nce`, `false_negatives`, `ContrastiveLoss`: the loss without detected negatives.
- `kmeans`: the module of k-means on the devices.
- `UserError`: the one exception that means that the input is wrong.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # What `__getattr__` brings in, for type checkers and editors.
    from ifnd_tf.api import Pretrained, embed, pretrain
    from ifnd_tf.clustering import kmeans
    from ifnd_tf.detection.callback import IncrementalDetection
    from ifnd_tf.detection.from_arrays import array_detector
    from ifnd_tf.errors import UserError
    from ifnd_tf.models.loss import ContrastiveLoss, false_negatives, masked_info_nce

__version__ = "0.1.0"

__all__ = [
    "ContrastiveLoss",
    "IncrementalDetection",
    "Pretrained",
    "UserError",
    "array_detector",
    "embed",
    "false_negatives",
    "kmeans",
    "masked_info_nce",
    "pretrain",
]

_HOMES = {
    "ContrastiveLoss": "models.loss",
    "IncrementalDetection": "detection.callback",
    "Pretrained": "api",
    "UserError": "errors",
    "array_detector": "detection.from_arrays",
    "embed": "api",
    "false_negatives": "models.loss",
    "masked_info_nce": "models.loss",
    "pretrain": "api",
}


def __getattr__(name: str) -> Any:
    if name == "kmeans":
        return importlib.import_module("ifnd_tf.clustering.kmeans")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"ifnd_tf.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
