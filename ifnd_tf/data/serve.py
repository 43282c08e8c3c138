"""The processes of a tf.data service, for `--data_service`.

    python -m ifnd_tf.data.serve dispatcher PORT
    python -m ifnd_tf.data.serve worker HOST:PORT [NAME[:PORT]]

The dispatcher tells workers what to make; a worker makes it. NAME is the worker's address for
trainers, by default its host name; its PORT is any free one by default. Both processes run whatever
is sent to their ports: use them in a trusted network only.
"""

import os
import re
import signal
import socket
import sys
import time
from typing import Any

from ifnd_tf.errors import UserError

_DISPATCHER_SECONDS = 300.0


def main(arguments: list[str] | None = None, *, seconds: float = _DISPATCHER_SECONDS) -> int:
    """Serves until it is stopped; returns the process's exit status.

    Args:
        arguments: the command line without the program's name; None: `sys.argv`.
        seconds: how long a worker waits for its dispatcher.
    """
    try:
        match sys.argv[1:] if arguments is None else arguments:
            case ["dispatcher", port] if port.isdigit():
                server = _dispatcher(int(port))
            case ["worker", address] if _is_address(address):
                server = _worker(address, socket.gethostname(), seconds)
            case ["worker", address, name] if _is_address(address) and _is_name(name):
                server = _worker(address, name, seconds)
            case received:
                raise UserError(
                    "expected dispatcher PORT, or worker HOST:PORT [NAME[:PORT]]. Received: "
                    f"{' '.join(received) or 'nothing'}."
                )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print("serving", flush=True)
        while server is not None:  # TensorFlow's `join` would let no signal through
            time.sleep(3600)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Without TensorFlow's own shutdown, which waits for ever for a trainer that is gone.
        os._exit(0)
    return 0


def _is_address(text: str) -> bool:
    return re.fullmatch(r"[^/\s]+:\d+", text) is not None


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[^/:\s]+(:\d+)?", text) is not None


def _require_free(port: int) -> None:
    """Raises `UserError` unless the port can be taken: TensorFlow would share it with another."""
    try:
        with socket.socket() as probe:
            # As servers do, so that one may start again right after its end.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port or -1))
    except (OSError, OverflowError) as error:
        raise UserError(f"expected a free port from 1 to 65535. Received: {port}.") from error


def _dispatcher(port: int) -> Any:
    import tensorflow as tf

    _require_free(port)
    service = tf.data.experimental.service
    return service.DispatchServer(service.DispatcherConfig(port=port))


def _worker(dispatcher: str, name: str, seconds: float) -> Any:
    import tensorflow as tf

    from ifnd_tf.distribute.strategies import listens

    until = time.monotonic() + seconds
    while not listens(dispatcher):
        if time.monotonic() > until:
            raise UserError(
                f"expected a dispatcher that answers within {seconds:g} seconds. Received: no "
                f"answer from {dispatcher}; start it first."
            )
        time.sleep(0.2)
    host, _, port = name.partition(":")
    if port:
        _require_free(int(port))
    service = tf.data.experimental.service
    return service.WorkerServer(
        service.WorkerConfig(
            dispatcher_address=dispatcher,
            worker_address=f"{host}:{port or '%port%'}",
            port=int(port or 0),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
