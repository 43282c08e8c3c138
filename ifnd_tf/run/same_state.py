"""What a run that goes on must find again as it was."""

from ifnd_tf.errors import UserError


class SameState:
    """The identity of something outside a run, in its checkpoints.

    Args:
        identity: of what is there now.
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
