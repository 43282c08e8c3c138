"""Whether a run goes on, or how it ended."""

import socket
from collections.abc import Mapping
from typing import Any

from ifnd_tf.run.machine import is_alive

# A run on another machine counts as dead after this silence. A phase such as embedding ImageNet
# writes no status for minutes.
_SILENCE_SECONDS = 900


def state(status: Mapping[str, Any], now: float) -> str:
    """running, finished, stopped, failed, or dead: ended without writing its state.

    Args:
        status: of status.json.
        now: seconds since 1970.
    """
    if status.get("state") != "running":
        return status.get("state", "dead")
    if status["host"] == socket.gethostname():
        return "running" if is_alive(status["pid"]) else "dead"
    return "running" if now - status["time"] < _SILENCE_SECONDS else "dead"
