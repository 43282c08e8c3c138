"""The library's front door: all that it promises is there."""

import pytest

import ifnd_tf


@pytest.mark.parametrize("name", ifnd_tf.__all__)
def test_every_promised_name_is_there_and_documented(name):
    assert getattr(ifnd_tf, name).__doc__
    assert name in dir(ifnd_tf)


def test_kmeans_is_the_module_and_the_others_are_what_their_modules_hold():
    assert callable(ifnd_tf.kmeans.kmeans)
    from ifnd_tf.detection.from_arrays import array_detector

    assert ifnd_tf.array_detector is array_detector


def test_unknown_names_and_settings_are_refused(tmp_path):
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        ifnd_tf.train  # noqa: B018
    with pytest.raises(ifnd_tf.UserError, match="Did you mean batch_size?"):
        ifnd_tf.pretrain("digits", str(tmp_path), batchsize=3)
