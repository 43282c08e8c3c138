"""Checks that a run continues with the same data and embeddings as before."""

from ifnd_tf.errors import UserError


class SameState:
    """The identity of an input of a run, in its checkpoints.

    Args:
        identity: of the input as it is now.
        refusal: the error for a checkpoint that was written with another.
    """

    def __init__(self, identity: str, refusal: str):
        self._identity, self._refusal = identity, refusal

    def get_state(self) -> str:
        """The identity."""
        return self._identity

    def set_state(self, state: str) -> None:
        """Raises `UserError` if a checkpoint was written with another."""
        if state != self._identity:
            raise UserError(self._refusal)
