import platform

import tensorflow as tf

from ifnd_tf.run import versions


def test_names_what_runs_here():
    text = versions.text()
    assert f"Python {platform.python_version()}" in text
    assert tf.__version__ in text and "CPUs" in text and "\n" not in text
