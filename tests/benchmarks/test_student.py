"""The student's benchmark: the teacher's rows in the images' order, and the measures."""

import numpy as np

from benchmarks.student import _MEASURES, accuracies, teachers_features


def test_the_teachers_rows_follow_the_images(tmp_path):
    names = np.array(["train/b/1.jpg", "train/a/0.jpg", "train/a/2.jpg"])
    np.savez(tmp_path / "t.npz", path=names, embedding=np.eye(3, dtype=np.float16))
    paths = [tmp_path / "data" / name for name in sorted(names)]
    found = teachers_features(str(tmp_path / "t.npz"), tmp_path / "data", paths)
    np.testing.assert_array_equal(found, np.eye(3)[[1, 2, 0]])


def test_features_that_separate_the_classes_are_right_in_all_measures():
    labels = np.repeat(np.arange(3), 100)
    features = np.random.default_rng(0).normal(np.eye(3)[labels], 0.01).astype(np.float32)
    found = accuracies([features] * 2, [labels] * 2)
    assert [found[name] for name in _MEASURES] == [1.0] * 4
