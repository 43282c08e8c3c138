"""TensorFlow's errors in a training step as errors that say what to do."""

import os

import tensorflow as tf

from ifnd_tf.data.skip_unreadable import UNREADABLE
from ifnd_tf.data.source import Source
from ifnd_tf.errors import UserError, cause


def explained(
    error: tf.errors.OpError, *, dataset: str, batch_size: int, source: Source
) -> Exception:
    """A `UserError` that says what to do about an error in a step; else the error itself."""
    if UNREADABLE in str(error):
        names = ", ".join(bad.name for bad in list(source.lost.values())[:3])
        return UserError(
            f"--dataset={dataset}: expected images that can be read. Received: none any "
            f"more, such as {names}; bring the folder back and give the same command again."
        )
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return UserError(
            f"--batch_size: expected a step that fits in memory. Received: {batch_size} "
            f"({cause(error)}); try half of it, or a smaller network."
        )
    lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
    if "TF_CONFIG" in os.environ and isinstance(error, (*lost, tf.errors.DeadlineExceededError)):
        return UserError(
            "--strategy=multiworker: expected all workers to answer. Received: no answer from one "
            f"({cause(error)}); start all of them again with the same command, and they continue "
            "from the last checkpoint."
        )
    return error
