"""Training that diverges restores its last checkpoint and continues with other views."""

from collections.abc import Callable

from ifnd_tf.errors import NonFinite


class Rollbacks:
    """Counts rollbacks; saved in checkpoints, since the views depend on the count.

    Attributes:
        count: rollbacks so far.
    """

    def __init__(self) -> None:
        self.count = 0

    def get_state(self) -> int:
        """The count."""
        return self.count

    def set_state(self, state: int) -> None:
        """Restores the count."""
        self.count = state

    def run(
        self,
        fit: Callable[[int, int], None],
        first_step: int,
        *,
        restore: Callable[[], int],
        most: int,
        report: Callable[[str], None],
    ) -> None:
        """Trains to the end, going back where a number is not finite.

        Args:
            fit: trains to the end, given the first step and the rollbacks so far.
            first_step: where to begin.
            restore: restores the last checkpoint and returns its step.
            most: rollbacks that are allowed.
            report: prints a line for each.

        Raises:
            NonFinite: the last, when there were `most` before.
        """
        while True:
            try:
                return fit(first_step, self.count)
            except NonFinite as error:
                count = self.count + 1
                if count > most:
                    raise
                first_step = restore()  # also restores an older count
                self.count = count
                report(f"rollback {count} of {most}, to step {first_step}: {error}")
