"""Rescales normalised images to the pixel scale that a published network was trained with."""

from typing import NamedTuple

import keras
import numpy as np

from ifnd_tf.data.photometric import MEAN, STD


class InputScale(NamedTuple):
    """The scale of pixels that a network expects: x * scale + offset of 0 to 255, perhaps as BGR.

    Attributes:
        scale, offset: float [3], in the order red, green, blue.
        reverse: whether blue comes first.
    """

    scale: np.ndarray
    offset: np.ndarray
    reverse: bool = False

    def of_normalised(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Images [b, S, S, 3] normalised by `photometric.normalise`, on this scale."""
        scale, offset = 255 * STD * self.scale, 255 * MEAN * self.scale + self.offset
        if not (np.allclose(scale, 1, atol=1e-5) and np.allclose(offset, 0, atol=1e-5)):
            # In float32, since bfloat16 cannot tell all pixels' levels apart after an offset.
            images = keras.layers.Rescaling(
                scale.tolist(), offset.tolist(), dtype="float32", name="input_scale"
            )(images)
        return images[..., ::-1] if self.reverse else images
