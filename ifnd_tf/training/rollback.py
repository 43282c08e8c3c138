"""Training that diverges goes back to its last checkpoint and tries another way, a few times."""

from collections.abc import Callable

from ifnd_tf.errors import NonFinite


class Rollbacks:
    """Counts how often a run went back. Checkpoints remember it, as what comes next depends on it.

    Attributes:
        count: rollbacks so far.
    """

    def __init__(self) -> None:
        self.count = 0

    def get_state(self) -> int:
        """The count."""
        return self.count

    def set_state(self, state: int) -> None:
        """Takes it back."""
        self.count = state

    def run(
        self,
        go_on: Callable[[int], None],
        first_step: int,
        *,
        restore: Callable[[], int],
        most: int,
        report: Callable[[str], None],
    ) -> None:
        """Trains to the end, going back where a number is not finite.

        Args:
            go_on: trains from a step to the end, in a way that depends on `count`.
            first_step: where to begin.
            restore: restores the last checkpoint and returns its step.
            most: rollbacks that are allowed.
            report: told of each.

        Raises:
            NonFinite: the last, when there were `most` before.
        """
        while True:
            try:
                return go_on(first_step)
            except NonFinite as error:
                count = self.count + 1
                if count > most:
                    raise
                first_step = restore()  # which recalls an older count
                self.count = count
                report(f"rollback {count} of {most}, to step {first_step}: {error}")
