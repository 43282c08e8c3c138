"""Collects the pictures of the report and of TensorBoard, which need the images and the model."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.data.source import Source
from ifnd_tf.report import embedding_map, picture_choice, pictures, tensorboard
from ifnd_tf.report.pictures import Cluster, Pictures, Point, Removed, Thumbnail
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.records import PICTURES

# Enough to recognise an image by, and few enough bytes for thousands in one page.
_THUMBNAIL = 64
_MAPPED = 2000
_CLUSTERS, _MEMBERS = 72, 6  # Clusters over all levels.
_ANCHORS, _REMOVED = 12, 8
_QUERIES, _NEAREST = 12, 8


class PictureCollector:
    """Embeds a sample of the training images and keeps pictures of it in the run directory.

    One pass over some thousand images, whatever the size of the data set. All workers must take
    part in a call.

    Args:
        source: the training images.
        embed: indices, ascending -> a row each of "embedding" float [n, D], "thumbnail" uint8
            [n, s, s, 3] and "seen" bool [n], False for unreadable images.
        directory: the run directory, with the labels of detection.
        examples: images of the sample.
        seed: of the sample and the choices.
        steps_per_epoch: for the steps that TensorBoard counts in.
        several_workers: whether there are several. They may not all see the run directory, so what
            they embed must not depend on it.
    """

    def __init__(
        self,
        source: Source,
        embed: Callable[[np.ndarray], Mapping[str, Any]],
        directory: RunDirectory,
        *,
        examples: int,
        seed: int,
        steps_per_epoch: int,
        several_workers: bool = False,
    ):
        self._source, self._embed, self._directory = source, embed, directory
        self._seed, self._steps, self._several = seed, steps_per_epoch, several_workers
        self._sample = np.random.default_rng(seed).permutation(source.readable)[:examples]
        self._encoded: dict[int, str] = {}

    def __call__(self, epoch: int, *, final: bool) -> None:
        """Writes report/pictures.json, and images and the projector's files to events/.

        Args:
            epoch: epochs trained.
            final: whether time may be spent on the map.
        """
        latest = self._directory.latest_detection(before=epoch)
        refresh, arrays = latest or (None, {})
        none = np.zeros([0, self._source.num_examples], np.int32)
        labels = arrays.get("labels", none)
        clusters, removed = self._choose(labels, arrays.get("confidence", none))
        wanted = set() if self._several else _members(clusters, removed)
        indices = np.union1d(self._sample, np.fromiter(wanted, np.int64)).astype(np.int32)
        rows = self._embed(indices)
        if not self._directory.writer:
            return
        row = {int(index): place for place, index in enumerate(indices) if rows["seen"][place]}
        sample = np.array([index for index in self._sample.tolist() if index in row])
        embedding = rows["embedding"][[row[index] for index in sample.tolist()]]
        mapped, mapped_embedding = sample[:_MAPPED], embedding[:_MAPPED]
        places, projection = embedding_map.project(
            mapped_embedding, quick=not final, seed=self._seed
        )
        neighbours = picture_choice.neighbours(
            embedding, sample, queries=_QUERIES, nearest=_NEAREST, seed=self._seed
        )
        shown = wanted | set(mapped.tolist())
        shown |= {index for found in neighbours for index in (found.query, *found.nearest)}
        found = Pictures(
            epoch=epoch,
            refresh=refresh,
            searched=len(sample),
            projection=projection,
            class_names=list(self._source.class_names),
            pictures={
                index: self._thumbnail(index, rows["thumbnail"][row[index]])
                for index in sorted(shown & set(row))
            },
            clusters=clusters,
            removed=removed,
            neighbours=neighbours,
            map=[
                Point(int(index), round(float(x), 3), round(float(y), 3), labels[:, index].tolist())
                for index, (x, y) in zip(mapped, places, strict=True)
            ],
        )
        self._directory.write(PICTURES, found.to_json())
        events = self._directory.file("events")
        tensorboard.write_pictures(events, found, mapped_embedding, epoch * self._steps)

    def _choose(
        self, labels: np.ndarray, confidence: np.ndarray
    ) -> tuple[list[list[Cluster]], list[Removed]]:
        truth, most = self._source.labels, _CLUSTERS // max(1, len(labels))
        clusters = [
            picture_choice.clusters(*level, truth, most=most, members=_MEMBERS)
            for level in zip(labels, confidence, strict=True)
        ]
        return clusters, picture_choice.removed(
            labels, truth, anchors=_ANCHORS, shown=_REMOVED, seed=self._seed
        )

    def _thumbnail(self, index: int, pixels: np.ndarray) -> Thumbnail:
        if index not in self._encoded:
            self._encoded[index] = pictures.encode(pixels.astype(np.uint8))
        # The last folder names the class; those above it are the machine's own.
        name = "/".join(self._source.describe(index).split("/")[-2:])
        return Thumbnail(name, int(self._source.labels[index]), self._encoded[index])


def thumbnails(images: tf.Tensor, side: int = _THUMBNAIL) -> tf.Tensor:
    """uint8 [b, S, S, 3] -> uint8 [b, s, s, 3] with s <= side, by averaging whole pixels."""
    factor = -(-images.shape[1] // side)
    if factor == 1:
        return images
    pooled = tf.nn.avg_pool2d(tf.cast(images, tf.float32), factor, factor, "VALID")
    return tf.cast(tf.round(pooled), tf.uint8)


def _members(clusters: list[list[Cluster]], removed: list[Removed]) -> set[int]:
    """The images of clusters and removed negatives."""
    of_clusters = {i for level in clusters for c in level for i in (*c.most, *c.least)}
    return of_clusters | {i for each in removed for i in (each.anchor, *each.shown)}
