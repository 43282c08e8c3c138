"""Gathers what the report and TensorBoard show as pictures, while the data are at hand."""

from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.source import Source
from ifnd_tf.distribute.strategies import num_input_pipelines
from ifnd_tf.evaluation.embed import SEEN, Embedder
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.report import embedding_map, picture_choice, picture_file, tensorboard
from ifnd_tf.report.picture_file import Exhibits, Picture, Point
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.stages import build

# Enough to recognise an image by, and few enough bytes for thousands in one page.
_THUMBNAIL = 64
_MAPPED = 2000
_CLUSTERS, _MEMBERS = 72, 6  # Clusters over all levels.
_ANCHORS, _REMOVED = 12, 8
_QUERIES, _NEAREST = 12, 8


class Gatherer:
    """Embeds a sample of the training images and keeps pictures of it in the run directory.

    One pass over some thousand images, whatever the size of the data set. All workers must take
    part in a call.

    Args:
        config: the run's settings.
        strategy: where to embed.
        source: the training images.
        model: embedded with its query network, the one that is exported.
        run: where detection left labels, and where the pictures go.
        steps_per_epoch: for the steps that TensorBoard counts in.
    """

    def __init__(
        self,
        config: Config,
        strategy: tf.distribute.Strategy,
        source: Source,
        model: ContrastiveModel,
        run: RunDirectory,
        *,
        steps_per_epoch: int,
    ):
        self._config, self._strategy, self._source, self._run = config, strategy, source, run
        network = model.network

        def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {
                "embedding": network.inference(images)["embedding"],
                "thumbnail": _thumbnails(images),
            }

        self._steps = steps_per_epoch
        self._embedder = Embedder(outputs, strategy)
        sample = np.random.default_rng(config.seed).permutation(source.readable)
        self._sample = sample[: config.report_examples]
        self._encoded: dict[int, str] = {}

    def __call__(self, epoch: int, *, final: bool) -> None:
        """Writes report/pictures.json, and images and the projector's files to events/.

        Args:
            epoch: epochs trained.
            final: whether time may be spent on the map.
        """
        refresh, labels, confidence = self._detection(epoch)
        levels, removed = self._chosen(labels, confidence)
        # Several workers may not all see the run directory; the sample they draw alike.
        several = num_input_pipelines(self._strategy) > 1
        wanted = set() if several else _members(levels, removed)
        indices = np.union1d(self._sample, np.fromiter(wanted, np.int64)).astype(np.int32)
        rows = self._embedded(indices)
        if not self._run.writer:
            return
        row = {int(index): place for place, index in enumerate(indices) if rows[SEEN][place]}
        sample = np.array([index for index in self._sample.tolist() if index in row])
        embedding = rows["embedding"][[row[index] for index in sample.tolist()]]
        mapped = sample[:_MAPPED]
        places, projection = embedding_map.project(
            embedding[:_MAPPED], quick=not final, seed=self._config.seed
        )
        neighbours = picture_choice.neighbours(
            embedding, sample, queries=_QUERIES, nearest=_NEAREST, seed=self._config.seed
        )
        shown = wanted | set(mapped.tolist())
        shown |= {index for found in neighbours for index in (found.query, *found.nearest)}
        gathered = Exhibits(
            epoch=epoch,
            refresh=refresh,
            searched=len(sample),
            projection=projection,
            class_names=list(self._source.class_names),
            pictures={
                str(index): self._picture(index, rows["thumbnail"][row[index]])
                for index in sorted(shown & set(row))
            },
            clusters=levels,
            removed=removed,
            neighbours=neighbours,
            map=[
                Point(int(index), round(float(x), 3), round(float(y), 3), labels[:, index].tolist())
                for index, (x, y) in zip(mapped, places, strict=True)
            ],
        )
        self._run.write_text(picture_file.FILE, gathered.to_json())
        tensorboard.write_pictures(
            self._run.file("events"), gathered, embedding[: len(mapped)], epoch * self._steps
        )

    def _detection(self, epoch: int) -> tuple[int | None, np.ndarray, np.ndarray]:
        """Epoch, labels [L, N] and confidence [L, N] of the last refresh; L = 0 before any."""
        latest = self._run.latest_detection(before=epoch)
        if latest is None:
            none = np.zeros([0, self._source.num_examples])
            return None, none.astype(np.int32), none
        refresh, arrays = latest
        return refresh, arrays["labels"], arrays["confidence"]

    def _chosen(
        self, labels: np.ndarray, confidence: np.ndarray
    ) -> tuple[list[list[picture_choice.Cluster]], list[picture_choice.Removed]]:
        truth = self._source.labels
        most = _CLUSTERS // max(1, len(labels))
        levels = [
            picture_choice.clusters(*level, truth, most=most, members=_MEMBERS)
            for level in zip(labels, confidence, strict=True)
        ]
        return levels, picture_choice.removed(
            labels, truth, anchors=_ANCHORS, shown=_REMOVED, seed=self._config.seed
        )

    def _embedded(self, indices: np.ndarray) -> dict[str, Any]:
        """The outputs for `indices` (ascending), one row each."""
        chosen = self._source.subset(indices)
        batches = build.ordered_batches(self._config, self._strategy, chosen)
        return self._embedder(batches, len(indices))

    def _picture(self, index: int, pixels: np.ndarray) -> Picture:
        if index not in self._encoded:
            self._encoded[index] = picture_file.encode(pixels.astype(np.uint8))
        # The folder says the class, and what is above it says where the machine keeps its data.
        name = "/".join(self._source.describe(index).split("/")[-2:])
        return Picture(name, int(self._source.labels[index]), self._encoded[index])


def _members(
    levels: list[list[picture_choice.Cluster]], removed: list[picture_choice.Removed]
) -> set[int]:
    of_clusters = {i for level in levels for c in level for i in (*c.most, *c.least)}
    return of_clusters | {i for each in removed for i in (each.anchor, *each.shown)}


def _thumbnails(images: tf.Tensor) -> tf.Tensor:
    """uint8 [b, S, S, 3] -> uint8 [b, s, s, 3] with s <= 64, by averaging whole pixels."""
    factor = -(-images.shape[1] // _THUMBNAIL)
    if factor == 1:
        return images
    pooled = tf.nn.avg_pool2d(tf.cast(images, tf.float32), factor, factor, "VALID")
    return tf.cast(tf.round(pooled), tf.uint8)
