"""Health while training: numbers every epoch, words once."""

import io
import types

import numpy as np
import pytest

from ifnd_tf.evaluation import collapse
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.training.callbacks.health import Health


def make(tmp_path, embeddings, epochs=8):
    stream = io.StringIO()
    run = RunDirectory(str(tmp_path), flags={})
    callback = Health(epochs=epochs, progress=Progress(stream), directory=run)
    callback.set_model(types.SimpleNamespace(newest_embeddings=lambda: embeddings))
    return callback, stream, run


def spread(count=300, width=16):
    points = np.random.default_rng(0).normal(size=(count, width))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_a_healthy_run_has_numbers_and_no_words(tmp_path):
    callback, stream, run = make(tmp_path, spread(6000))
    for epoch in range(3):
        logs = {"positive_similarity": 0.8, "masked_share": 0.1}
        callback.on_epoch_end(epoch, logs)
    # Coordinates of variance 1 / 16, and all 16 directions alike.
    assert logs["health_embedding_std"] == pytest.approx(1, abs=0.01)
    assert logs["health_effective_rank"] == pytest.approx(16, abs=0.1)
    assert logs["health_uniformity"] < -3
    assert logs["health_alignment"] == pytest.approx(0.4)
    assert stream.getvalue() == "" and "training_warnings" not in run.results()


def epoch(callback, run, number, **logs):
    """One epoch's end, and its record, as `Records` writes it."""
    callback.on_epoch_end(number, logs)
    run.write_metrics([*run.metrics(), {"epoch": number + 1, **logs}])


def test_a_collapse_is_said_once_and_kept(tmp_path):
    point = np.repeat(spread(1), 50, axis=0)
    callback, stream, run = make(tmp_path, point)
    for number in range(4):
        epoch(callback, run, number, masked_share=0.1)
    assert stream.getvalue() == ""  # an untrained encoder may look like that
    epoch(callback, run, 4, masked_share=0.1)
    said = stream.getvalue()
    assert "warning: epoch 5: Embedding std 0" in said and "collapse" in said
    assert said.count("warning: ") == 3  # spread, rank and uniformity
    resumed, stream_after, _ = make(tmp_path, point)
    resumed.set_state(callback.get_state())
    for each in (callback, resumed):
        each.on_epoch_end(5, {"masked_share": 0.6})
    for more in (stream.getvalue().removeprefix(said), stream_after.getvalue()):
        assert more.startswith("warning: epoch 6: Masked share 0.6") and more.count("\n") == 1
    assert len(run.results()["training_warnings"]) == 4


def test_a_state_stays_as_it_was_while_a_checkpoint_is_written(tmp_path):
    callback, _, run = make(tmp_path, np.repeat(spread(1), 50, axis=0))
    state = callback.get_state()
    for number in range(5):
        epoch(callback, run, number, masked_share=0.1)
    assert state == {} and callback.get_state()


def test_a_value_that_became_healthy_is_not_warned_of_in_the_end(tmp_path):
    callback, stream, run = make(tmp_path, np.repeat(spread(1), 50, axis=0), epochs=9)
    for number in range(6):
        epoch(callback, run, number, masked_share=0.1)
    assert len(run.results()["training_warnings"]) == 3
    callback.model.newest_embeddings = spread
    callback.on_epoch_end(6, {"masked_share": 0.6})
    assert stream.getvalue().count("warning: ") == 4
    assert [text[:23] for text in run.results()["training_warnings"]] == ["epoch 7: Masked share 0"]


def test_an_encoder_that_spreads_is_not_warned_of(tmp_path):
    callback, stream, run = make(tmp_path, spread(2))
    for number, share in enumerate((0.25, 0.32, 0.41, 0.5, 0.56)):
        cone = spread(1) + share * spread(300)
        callback.model.newest_embeddings = lambda c=cone: c / np.linalg.norm(c, axis=1)[:, None]
        epoch(callback, run, number)
    assert collapse.limit_warnings(run.metrics()[-1])  # it is still outside
    assert stream.getvalue() == ""


def test_an_empty_queue_has_no_health(tmp_path):
    callback, stream, _ = make(tmp_path, np.zeros([0, 16]))
    logs = {"loss": 1.0}
    callback.on_epoch_end(2, logs)
    assert logs == {"loss": 1.0} and stream.getvalue() == ""
