"""Fine-tuning the whole encoder on few labels."""

from collections.abc import Iterable, Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embedder, labelled
from ifnd_tf.evaluation.linear_probe import accuracies
from ifnd_tf.models.network import Network

# SimCLR's recipe for 256 images a step.
_LEARNING_RATE, _MOMENTUM = 0.05, 0.9


def finetune(
    network: Network,
    *,
    crops: tf.data.Dataset,
    labels: np.ndarray,
    test_batches: Iterable[Mapping[str, tf.Tensor]],
    num_test_examples: int,
    steps: int,
    prefix: str = "finetune",
) -> Iterator[tuple[str, float]]:
    """Trains encoder and a linear classifier on labelled crops, tests, and restores the encoder.

    SimCLR's recipe (Chen et al., ICML 2020, appendix B.5): SGD with Nesterov momentum 0.9, learning
    rate 0.05 for each 256 images of a batch, no warm-up, no weight decay, random crops and flips
    only. Deviations: a small batch keeps the learning rate of 256, or a subset of a few
    images would hardly be learnt; batch norm keeps its running statistics, since those of a few
    images are poor ones; and, as without them ten images make this diverge, the
    gradient's norm is clipped at 1 and the learning rate falls along a cosine. Runs on one
    device, streaming.

    Args:
        network: whose encoder is trained.
        crops: endless batches of the labelled images, as `train_batches.training_batches` makes
            them with uint8 infeed from `source.subset(label_subset(...))`: "index" int32 `[b]`,
            "images" uint8 `[b, 2, S, S, 3]`. Both crops are trained on.
        labels: int32 `[n]` by that index.
        test_batches: as `eval_batches.ordered_batches` makes them, with "label".
        num_test_examples: size of the test split's index space.
        steps: optimiser steps, >= 1; see `finetune_steps`.
        prefix: start of the metrics' names.

    Yields:
        (prefix + "_top1", share in `[0, 1]`), and with more than five classes
        (prefix + "_top5", share).

    Raises:
        UserError: if the labels are all of one class.
    """
    classes = len(np.unique(labels))
    if classes < 2:
        raise UserError(
            "Expected labelled images of at least two classes to fine-tune on. Received: "
            f"{classes}; choose a labelled data set."
        )
    encoder = network.encoder
    classifier = _Classifier(network, int(labels.max()) + 1)

    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": classifier(images)}

    before = [variable.numpy() for variable in encoder.variables]
    try:
        _fit(classifier, crops, labels, steps)
        found = labelled(Embedder(classify)(test_batches, num_test_examples), "scores")
    finally:
        for variable, value in zip(encoder.variables, before, strict=True):
            variable.assign(value)
    yield from accuracies(prefix, found.features, found.labels)


def finetune_steps(num_examples: int, batch_size: int, share: float) -> int:
    """Optimiser steps of SimCLR's fine-tuning, but no fewer than 300.

    SimCLR: 60 epochs for 1% of ImageNet's labels, 30 for 10%; both crops of an image count as one.
    A hundred images make few steps in 60 epochs, hence a least number.

    Args:
        num_examples: labelled images, n.
        batch_size: of the crops' batches, b.
        share: of the labels in (0, 1], or, as an int, labels of each class.
    """
    epochs = 60 if isinstance(share, int) or share < 0.05 else 30
    return max(300, epochs * num_examples // batch_size)


class _Classifier(keras.Model):
    """Scores of images [b, S, S, 3] in 0 to 255; batch norm keeps its running statistics."""

    def __init__(self, network: Network, classes: int):
        super().__init__(name="classifier")
        self.encoder, self._features = network.encoder, network.features
        self.head = keras.layers.Dense(classes, kernel_initializer="zeros", dtype="float32")

    def call(self, images):
        return self.head(self._features(images))


def _fit(classifier: _Classifier, crops: tf.data.Dataset, labels: np.ndarray, steps: int) -> None:
    def both_crops(batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.reshape(batch["images"], [-1, *batch["images"].shape[2:]])
        return images, tf.repeat(tf.gather(labels, batch["index"]), 2)

    images = 2 * crops.element_spec["images"].shape[0]
    rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE * max(images, 256) / 256, steps)
    classifier.compile(
        keras.optimizers.SGD(rate, momentum=_MOMENTUM, nesterov=True, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    classifier.fit(crops.map(both_crops), steps_per_epoch=steps, shuffle=False, verbose=0)
