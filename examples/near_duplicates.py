"""At which cosine are two images near duplicates? Precision and recall on copies made for it.

    python -m examples.near_duplicates runs/photos/saved_model folder:photos

Of some images of a data set it makes copies as they come about: encoded anew as JPEG, cropped a
little, made smaller and larger again, brightened. Then it looks for them as --mode=embed does.
Similar images that the data set itself holds twice count as wrong, so precision is a lower bound.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from ifnd_tf.data import datasets
from ifnd_tf.data.crops import centre_view
from ifnd_tf.data.decode import decode_image
from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.duplicates import find_duplicates

THRESHOLDS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)

# Images are compared at the short side of the first, or this many pixels.
_LARGEST = 256


def copies(image: tf.Tensor) -> dict[str, tf.Tensor]:
    """Near copies of one image, uint8 [S, S, 3]."""
    side = image.shape[0]

    def resized(part: tf.Tensor, size: int) -> tf.Tensor:
        found = tf.image.resize(tf.cast(part, tf.float32), [size, size], antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(found), 0, 255), tf.uint8)

    def cropped(share: float) -> tf.Tensor:
        edge = max(1, round(side * share / 2))
        return resized(image[edge:-edge, edge:-edge], side)

    return {
        "JPEG, quality 75": tf.io.decode_jpeg(tf.io.encode_jpeg(image, quality=75)),
        "JPEG, quality 40": tf.io.decode_jpeg(tf.io.encode_jpeg(image, quality=40)),
        "5% cropped": cropped(0.05),
        "10% cropped": cropped(0.1),
        "three quarters of the size": resized(resized(image, side * 3 // 4), side),
        "a tenth brighter": tf.cast(tf.minimum(tf.cast(image, tf.float32) * 1.1, 255.0), tf.uint8),
    }


def features(path: str, images: np.ndarray) -> np.ndarray:
    """Float32 [n, F] of uint8 images [n, S, S, 3], from a SavedModel."""
    encoder = tf.saved_model.load(path)
    signature = encoder.signatures["serving_default"]
    parts = [
        signature(images=tf.constant(images[start : start + 256]))["features"].numpy()
        for start in range(0, len(images), 256)
    ]
    return np.concatenate(parts)


def rows(found: np.ndarray, count: int, kinds: list[str]) -> list[str]:
    """Precision and recall at each threshold.

    Args:
        found: features of `count` images, then of the copies: every kind of image 0, of image 1, …
        count: of images.
        kinds: of copies, by name.
    """
    source = np.concatenate([np.arange(count), np.repeat(np.arange(count), len(kinds))])
    number = len(found) - count
    kind = np.arange(number) % len(kinds)
    # A tenth of the images has one copy: what a folder of photographs may look like.
    chosen = np.flatnonzero(np.random.default_rng(0).random(number) < 0.1 / len(kinds)) + count
    kept = np.concatenate([np.arange(count), chosen])
    text = []
    for threshold in THRESHOLDS:
        pairs = find_duplicates(
            np.arange(len(kept)), found[kept], np.zeros(len(kept), int), threshold
        )
        right = source[kept][pairs.repeat] == source[kept][pairs.original]
        recalled = np.isin(np.arange(count, len(kept)), pairs.repeat[right])
        precision = right.mean() if len(right) else float("nan")
        text.append(f"| {threshold:g} | {precision:.2f} | {recalled.mean():.2f} |")
    centred = found - found[kept].mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    cosine = np.sum(unit[count:] * unit[source[count:]], axis=1)
    nearest = unit[:count] @ unit[:count].T - 2 * np.eye(count)
    text.append(f"nearest other image: median {np.median(nearest.max(1)):.3f}")
    for i, name in enumerate(kinds):
        low, middle = np.quantile(cosine[kind == i], [0.05, 0.5])
        text.append(f"{name}: cosine with the original {middle:.3f}, 5% below {low:.3f}")
    return text


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("saved_model", help="the encoder")
    parser.add_argument("dataset", help="as main.py's --dataset")
    parser.add_argument("--images", type=int, default=2000, help="of the training split")
    options = parser.parse_args(arguments)
    try:
        source = datasets.open_splits(options.dataset).train
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    chosen = np.random.default_rng(0).permutation(source.num_examples)[: options.images]
    images, side = list[tf.Tensor](), 0
    for index in chosen:
        image = source.fetch(tf.constant(index, tf.int32))
        image = decode_image(image) if image.dtype == tf.string else image
        side = side or min(_LARGEST, *image.shape[:2])
        images.append(centre_view(image, side))
    made = [list(copies(image).items()) for image in images]
    kinds = [name for name, _ in made[0]]
    whole = np.stack([*images, *(copy for each in made for _, copy in each)])
    print("| threshold | precision | recall |\n| --- | --- | --- |")
    print("\n".join(rows(features(options.saved_model, whole), len(images), kinds)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
