"""The schedule of the acceptance rate."""

import math

from ifnd_tf.errors import UserError

# Levels of the "step" schedule. Few enough that each holds for many refreshes, so that the
# encoder settles on one set of labels before the next grows.
STEPS = 5


def acceptance_rate(progress: float, schedule: str, start: float, end: float) -> float:
    """The share r of labels to accept (method, step 4: r grows while training).

    With p the progress, r = start + (end - start) * g(p), where g is
        linear: p, the paper's;
        cosine: (1 - cos(pi p)) / 2, slow at both ends;
        step: floor(5 p) / 4 up to 1, five equally long steps from start to end;
        constant: 1, that is `end` throughout; `start` is not used.

    Args:
        progress: 0 at the end of warm-up to 1 at the last refresh; clipped to [0, 1].
        schedule: linear | cosine | step | constant.
        start: share at progress 0, in [0, 1].
        end: share at progress 1, in [0, 1].

    Returns:
        r in [0, 1], exactly `end` at progress 1.

    Raises:
        UserError: the schedule is unknown.
    """
    p = min(max(progress, 0.0), 1.0)
    shares = {
        "linear": p,
        "cosine": 0.5 - 0.5 * math.cos(math.pi * p),
        "step": min(math.floor(STEPS * p), STEPS - 1) / (STEPS - 1),
        "constant": 1.0,
    }
    if schedule not in shares:
        raise UserError(
            f"--acceptance: expected one of {', '.join(shares)}. Received: {schedule!r}."
        )
    # This form, not start + (end - start) * share, is exact at both ends.
    return start * (1.0 - shares[schedule]) + end * shares[schedule]
