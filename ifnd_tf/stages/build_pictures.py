"""Builds the collector of the report's pictures."""

from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.distribute.strategies import num_input_pipelines
from ifnd_tf.evaluation.embed import Embedder
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.report.collect_pictures import PictureCollector, thumbnails
from ifnd_tf.stages import build
from ifnd_tf.stages.run import Run


def picture_collector(run: Run, model: ContrastiveModel) -> PictureCollector:
    """A collector that embeds training images with the query network, the one that is exported."""
    config, source = run.config, run.splits.train

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        embedding = model.network.inference(images)["embedding"]
        return {"embedding": embedding, "thumbnail": thumbnails(images)}

    embedder = Embedder(outputs, run.strategy)

    def embed(indices: np.ndarray) -> dict[str, Any]:
        batches = build.ordered_batches(config, run.strategy, source.subset(indices))
        return embedder(batches, len(indices))

    return PictureCollector(
        source,
        embed,
        run.directory,
        examples=config.report_examples,
        seed=config.seed,
        steps_per_epoch=run.steps_per_epoch,
        several_workers=num_input_pipelines(run.strategy) > 1,
    )
