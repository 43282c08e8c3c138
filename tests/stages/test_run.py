"""Evaluation and export of one checkpoint, under every strategy."""

import io
import shutil

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages.evaluate import evaluate
from ifnd_tf.stages.export import export_model
from tests import tiny
from tests.conftest import make_strategy
from tests.outcomes import alone

SHARED = ("knn_top1", "untrained_knn_top1", "raw_pixel_knn_top1", "health_embedding_std")


def evaluated(config, strategy):
    """Results, and what the exported encoder makes of some images."""
    run = tiny.run(config, strategy)
    run.splits = tiny.splits()
    evaluate(run)
    export_model(run)
    results = RunDirectory(config.workdir, flags={}, writer=False).results()
    encoder = tf.saved_model.load(f"{config.workdir}/saved_model").signatures["serving_default"]
    images = np.random.default_rng(0).integers(0, 256, (4, 10, 12, 3), np.uint8)
    return results, encoder(images=tf.constant(images))


@pytest.mark.slow
@pytest.mark.distribution
def test_evaluation_and_export_do_not_depend_on_replicas(shared, tmp_path):
    # Embedding on two replicas is tested by itself, and writing what they embed.
    alone("moco-eliminate", shared)
    shutil.copytree(shared / "moco-eliminate", tmp_path / "run")
    config = tiny.config(workdir=str(tmp_path / "run"), protocols="knn")
    expected, features = evaluated(config, make_strategy("default"))
    found, same = evaluated(config, make_strategy("mirrored-2"))
    for name in SHARED:
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    for name, value in features.items():
        np.testing.assert_array_equal(same[name], value, err_msg=name)


def test_flags_that_no_longer_exist_are_named(tmp_path):
    config = tiny.config(workdir=str(tmp_path), seed=3)
    tiny.run(config, make_strategy("default")).directory.claim()
    with (tmp_path / "config.flags").open("a") as file:
        file.write("--checkpoint_share=0.02\n")
    stream = io.StringIO()
    tiny.run(config, make_strategy("default"), Progress(stream))
    assert "no longer exist and are ignored: --checkpoint_share\n" in stream.getvalue()
