"""The random numbers of an example's two views: a function of seed, epoch and index alone."""

import tensorflow as tf

from ifnd_tf.data import crops, photometric
from ifnd_tf.distribute import stateless_random

# Keeps these draws apart from those of the order.
_VIEWS = 1


def view_draws(
    seed: int, epoch: int | tf.Tensor, index: tf.Tensor, *, weak_keys: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """The draws of both views of the examples `index` [b] in an epoch, counted from 0.

    With `weak_keys` the second view is cropped and flipped, and its colours stay.

    Returns:
        float32 [b, 2, GEOMETRIC_DRAWS] for `crops.crop_boxes` and `crops.flips`, and
        float32 [b, 2, PHOTOMETRIC_DRAWS] for `photometric.augment`.
    """
    counts = [crops.GEOMETRIC_DRAWS, photometric.PHOTOMETRIC_DRAWS]
    drawn = stateless_random.uniform([seed, epoch, _VIEWS], index, 2 * sum(counts))
    geometric, draws = tf.split(
        tf.reshape(drawn, [index.shape[0], 2, sum(counts)]), counts, axis=-1
    )
    if weak_keys:  # a change happens where its draw is below a probability, and none is below 1
        draws = tf.stack([draws[:, 0], tf.ones_like(draws[:, 1])], axis=1)
    return geometric, draws
