"""When labels are refreshed, at what rate, and what a refresh leaves."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.detection.callback import IncrementalDetection
from ifnd_tf.detection.detectors import ClusterDetector, Detection
from ifnd_tf.detection.embeddings import Sample
from ifnd_tf.errors import UserError
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress

N = 4
TRUTH = np.array([0, 0, 1, 1], np.int32)


def detector(detect=None, *, num_levels=1, incremental=True):
    return SimpleNamespace(
        num_levels=num_levels,
        incremental=incremental,
        detect=detect,
        can_detect=lambda rate: rate > 0,
    )


def on_a_model(callback):
    callback.set_model(SimpleNamespace(pseudo_labels=tf.Variable(np.full([1, N], -1, np.int32))))
    return callback


def test_by_default_every_epoch_that_accepts_detects_and_the_share_grows_from_nothing_to_all():
    callback = IncrementalDetection(detector(), epochs=5)
    assert [epoch for epoch in range(5) if callback.due(epoch)] == [1, 2, 3, 4]
    rates = [callback.rate(epoch) for epoch in range(5)]
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    for options in ({"start": 0.1}, {"schedule": "constant"}):
        assert IncrementalDetection(detector(), epochs=5, **options).first == 0


def test_detection_begins_after_the_warm_up_and_returns_with_its_period():
    options = {"epochs": 10, "warmup_epochs": 2, "refresh_epochs": 3}
    callback = IncrementalDetection(detector(), **options, start=0.1)
    assert [epoch for epoch in range(10) if callback.due(epoch)] == [2, 5, 8]
    # A rate of 0 accepts nothing: no pass over the images, no k-means.
    callback = IncrementalDetection(detector(), **options)
    assert [epoch for epoch in range(10) if callback.due(epoch)] == [5, 8] and callback.first == 5
    assert IncrementalDetection(detector(), **options, end=0.0).first is None


def test_no_refresh_is_made_at_a_rate_that_accepts_no_pair():
    """Of 12 images the linear schedule accepts 0, 1, 2, 4 and so on."""
    kmeans = SimpleNamespace(
        table=SimpleNamespace(num_examples=12, width=2, strategy=tf.distribute.get_strategy())
    )
    detector = ClusterDetector(kmeans, [2])
    callback = IncrementalDetection(detector, epochs=9, warmup_epochs=1, end=0.7)
    counts = [round(12 * callback.rate(epoch)) for epoch in range(1, 9)]
    assert counts == [0, 1, 2, 4, 5, 6, 7, 8]
    assert [epoch for epoch in range(9) if callback.due(epoch)] == [3, 4, 5, 6, 7, 8]
    callback.on_epoch_begin(2)  # there is nothing to embed
    logs: dict = {}
    callback.on_epoch_end(2, logs)
    assert not logs  # printed as "-"


def test_given_labels_come_once_and_whole():
    callback = IncrementalDetection(detector(incremental=False), epochs=3, warmup_epochs=2, end=0.5)
    assert [callback.due(epoch) for epoch in range(3)] == [True, False, False]
    assert callback.rate(0) == 1.0


def test_a_detector_without_labels_is_never_asked():
    callback = IncrementalDetection(detector(num_levels=0, incremental=False), epochs=2)
    assert not callback.due(0) and not callback.due(1)


def test_acceptance_may_be_complete_before_the_end():
    callback = IncrementalDetection(
        detector(), epochs=10, warmup_epochs=2, start=0.0, end=0.8, end_epoch=7
    )
    # Epochs count from 0 here: the seventh is 6, four after the warm-up.
    assert [callback.rate(epoch) for epoch in (2, 4, 6, 9)] == pytest.approx([0, 0.4, 0.8, 0.8])


def test_one_epoch_after_the_warm_up_is_where_the_schedule_starts():
    callback = IncrementalDetection(detector(), epochs=3, warmup_epochs=2, start=0.25)
    assert callback.rate(2) == 0.25


def test_a_refresh_leaves_labels_statistics_and_files(tmp_path, capsys):
    found = iter(
        Detection(
            np.array([labels], np.int32), np.full([1, N], 0.5, np.float32),
            {"embedded": N, "clusters": [2]}, Sample(np.eye(N, dtype=np.float32), np.arange(N)),
        )
        for labels in ([0, 0, -1, -1], [0, 0, 0, -1])
    )  # fmt: skip
    rates = []

    def detect(rate, phase):
        rates.append(rate)
        with phase("embedding"):
            return next(found)

    run = RunDirectory(str(tmp_path), flags={})
    callback = on_a_model(
        IncrementalDetection(
            detector(detect), epochs=2, start=0.5, true_labels=TRUTH, progress=Progress(), run=run
        )
    )
    callback.on_epoch_begin(0)
    logs = {"loss": 1.0}
    callback.on_epoch_end(0, logs)
    np.testing.assert_array_equal(callback.model.pseudo_labels, [[0, 0, -1, -1]])
    assert logs["loss"] == 1.0 and logs["detection_precision"] == 1.0
    assert logs["detection_recall"] == logs["detection_accepted_share"] == 0.5
    assert logs["detection_acceptance_rate"] == 0.5 and "detection_label_churn" not in logs
    assert "detection_clusters" not in logs and "detection_epoch" not in logs
    assert "detection_neighbour_precision" in logs
    callback.on_epoch_begin(1)
    callback.on_epoch_end(1, logs)
    # Three pairs where there was one; none of the labels of -1 is a pair.
    assert logs["detection_label_churn"] == pytest.approx(2 / 3)
    assert rates == [0.5, 1.0]
    saved = np.load(tmp_path / "detection" / "0001.npz")
    np.testing.assert_array_equal(saved["labels"], [[0, 0, 0, -1]])
    assert saved["confidence"].dtype == np.float16
    assert "fewer images" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [("refresh_epochs", 0), ("warmup_epochs", -1), ("start", -0.1), ("end", 1.5)],
)
def test_an_argument_out_of_its_range_is_named(name, value):
    with pytest.raises(UserError, match=f"{name}: expected a value from .*Received: {value}"):
        IncrementalDetection(detector(), epochs=4, **{name: value})


def test_a_model_that_does_not_fit_is_refused():
    callback = IncrementalDetection(detector(), epochs=1, true_labels=TRUTH[:3])
    with pytest.raises(UserError, match=f"one for each of the {N} examples.*Received: 3"):
        on_a_model(callback)
    with pytest.raises(UserError, match="a model with a .*variable `pseudo_labels`"):
        callback.set_model(SimpleNamespace())


def test_without_true_labels_there_is_no_precision():
    found = Detection(np.zeros([1, N], np.int32), np.ones([1, N]), {})
    for truth in (None, np.full(N, -1)):
        callback = IncrementalDetection(
            detector(lambda rate, phase: found), epochs=1, start=1.0, true_labels=truth
        )
        on_a_model(callback).on_epoch_begin(0)
        assert set(callback.get_state()) == {
            "detection_acceptance_rate", "detection_accepted_share",
        }  # fmt: skip


def test_one_known_class_is_enough_for_a_precision():
    found = Detection(np.zeros([1, N], np.int32), np.ones([1, N]), {})
    callback = IncrementalDetection(
        detector(lambda rate, phase: found),
        epochs=1,
        start=1.0,
        true_labels=np.where(TRUTH == 0, 0, -1),
    )
    on_a_model(callback).on_epoch_begin(0)
    assert callback.get_state()["detection_precision"] == 1.0


def test_where_nothing_was_accepted_nothing_was_measured():
    found = Detection(np.full([1, N], -1, np.int32), np.ones([1, N]), {"clusters": [2]})
    callback = on_a_model(
        IncrementalDetection(
            detector(lambda rate, phase: found), epochs=1, start=0.1, true_labels=TRUTH
        )
    )
    callback.on_epoch_begin(0)
    logs: dict = {}
    callback.on_epoch_end(0, logs)
    assert logs["detection_accepted_share"] == 0.0
    for name in ("precision", "recall", "f1", "nmi", "purity"):
        assert logs[f"detection_{name}"] is None, name


def test_images_that_were_not_embedded_again_are_spoken_of(capsys):
    counts = iter([4, 4, 1])

    def detect(rate, phase):
        return Detection(np.zeros([1, N]), np.ones([1, N]), {"embedded": next(counts)})

    callback = on_a_model(
        IncrementalDetection(detector(detect), epochs=3, start=0.1, progress=Progress())
    )
    said = []
    for epoch in range(3):
        callback.on_epoch_begin(epoch)
        said.append("3 fewer images could be read" in capsys.readouterr().out)
    assert said == [False, False, True]
