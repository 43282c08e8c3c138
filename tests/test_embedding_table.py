"""The sharded table against the embeddings of all images at once."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.errors import UserError
from tests import corners


def test_a_sample_is_the_examples_own_embeddings(strategy, monkeypatch):
    monkeypatch.setattr("ifnd_tf.embedding_table._SAMPLE_SIZE", 20)
    table = corners.table(strategy)
    table.refresh()
    sample = table.sample()
    assert len(sample.examples) == 20 and np.all(np.diff(sample.examples) > 0)
    everything = corners.embed(corners.images()).numpy()
    np.testing.assert_allclose(sample.points, everything[sample.examples], atol=1e-6)


def test_a_sample_of_more_than_there_are_is_all():
    table = corners.table(tf.distribute.get_strategy())
    table.refresh()
    np.testing.assert_array_equal(table.sample().examples, np.arange(corners.N))


def test_embeddings_that_are_not_finite_are_counted():
    table = corners.table(tf.distribute.get_strategy(), lambda batch: corners.embed(batch) * np.nan)
    with pytest.raises(UserError, match=f"{corners.N} of {corners.N} examples"):
        table.refresh()
