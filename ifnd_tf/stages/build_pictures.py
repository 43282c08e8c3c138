"""The collector of the report's pictures, from a `Config`."""

from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.source import Source
from ifnd_tf.distribute.strategies import num_input_pipelines
from ifnd_tf.evaluation.embed import Embedder
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.report.collect_pictures import PictureCollector, thumbnails
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.stages import build


def picture_collector(
    config: Config,
    strategy: tf.distribute.Strategy,
    source: Source,
    model: ContrastiveModel,
    run: RunDirectory,
    *,
    steps_per_epoch: int,
) -> PictureCollector:
    """A collector that embeds `source` with the query network, the one that is exported."""

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        embedding = build.inference(model.network, images)["embedding"]
        return {"embedding": embedding, "thumbnail": thumbnails(images)}

    embedder = Embedder(outputs, strategy)

    def embed(indices: np.ndarray) -> dict[str, Any]:
        batches = build.ordered_batches(config, strategy, source.subset(indices))
        return embedder(batches, len(indices))

    return PictureCollector(
        source,
        embed,
        run,
        examples=config.report_examples,
        seed=config.seed,
        steps_per_epoch=steps_per_epoch,
        several_workers=num_input_pipelines(strategy) > 1,
    )
