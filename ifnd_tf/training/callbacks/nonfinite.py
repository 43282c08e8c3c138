"""Ends training at the first NaN or infinity, before it can reach a checkpoint."""

import keras

from ifnd_tf.errors import NonFinite


class StopAtNonFinite(keras.callbacks.Callback):
    """Checks the model after every call of its step; comes before `Checkpointing`."""

    def on_train_batch_end(self, batch, logs=None):
        found = self.model.nonfinite()
        if found is not None:
            step, name = found
            raise NonFinite(
                f"Expected finite numbers. Received: NaN or infinity, so training has diverged: at "
                f"step {step}, first in {name}. The checkpoint before is kept; lower "
                "--learning_rate, warm it up, or continue from there with --on_nonfinite=rollback."
            )
