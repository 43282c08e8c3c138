"""The progress line while training."""

import io

from ifnd_tf.run.progress import Progress
from ifnd_tf.training.callbacks.terminal import Terminal


def test_phases_before_training_are_of_no_epoch():
    progress = Progress(io.StringIO())
    with progress.phase("reading images"):
        pass
    callback = Terminal(progress, steps_per_epoch=2, batch_size=8, epochs=3)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    with progress.phase("clustering"):
        pass
    callback.on_train_batch_end(0, {"loss": 1.0})
    logs = {"loss": 1.0}
    callback.on_epoch_end(0, logs)
    assert [name for name in logs if name.startswith("seconds_")] == ["seconds_clustering"]
