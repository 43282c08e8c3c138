"""Writes a run directory: everything a run leaves behind, and all that a stage needs to resume."""

import contextlib
import io
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.run import versions
from ifnd_tf.run.files import not_writable
from ifnd_tf.run.records import RunReader
from ifnd_tf.run.same_flags import require_same_flags


class RunDirectory(RunReader):
    """Reads and writes one run's files, on disk or gs://.

    Args:
        path: the directory; made if it does not exist.
        flags: the run's flags, name to value as text, compared with those that `claim` wrote.
        free: names of flags that may differ between two runs of one directory, because they
            change speed or display, not the training.
        writer: whether this process is the chief. Others read only.

    Raises:
        UserError: if the directory holds a run with other flags, or cannot be written.
    """

    def __init__(
        self,
        path: str,
        *,
        flags: Mapping[str, str],
        free: frozenset[str] = frozenset(),
        writer: bool = True,
    ):
        super().__init__(path)
        self.writer, self._flags = writer, flags
        if not writer:
            return
        try:
            tf.io.gfile.makedirs(path)
            require_same_flags(self, flags, free)
        except (tf.errors.OpError, OSError) as error:
            raise not_writable(path, error) from error

    def remove_if_unused(self) -> None:
        """Removes a local directory that holds nothing but a lock, after a try that failed."""
        if self.writer and "://" not in self.path:
            with contextlib.suppress(OSError):
                if set(os.listdir(self.path)) <= {"lock"}:
                    shutil.rmtree(self.path)

    def settle(self, flags: Mapping[str, str]) -> None:
        """Takes the flags that `claim` writes, once none is auto."""
        self._flags = flags

    def claim(self) -> None:
        """Writes config.flags: from now on the directory belongs to a run with these flags.

        Not done before training starts, so that a mistyped flag does not occupy the directory.
        """
        lines = [f"--{name}={value}" for name, value in sorted(self._flags.items())]
        self.write("config.flags", "\n".join([f"# {versions.text()}", *lines, ""]))

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file, whole or not at all, and makes its folder."""
        if not self.writer:
            return
        path = self.file(name)
        try:
            if "/" in name:
                tf.io.gfile.makedirs(path.rpartition("/")[0])
            with tf.io.gfile.GFile(path + ".new", "wb") as file:
                file.write(content)
            tf.io.gfile.rename(path + ".new", path, overwrite=True)
        except tf.errors.OpError as error:
            raise not_writable(self.path, error) from error

    def write_results(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Merges `results` into results.json and returns all of them."""
        merged = {**self.results(), **results}
        self.write("results.json", json.dumps(merged, indent=2, sort_keys=True) + "\n")
        return merged

    def write_status(self, state: str, text: str) -> None:
        """Writes state, time, host and process to status.json, for --mode=watch elsewhere.

        Does nothing before `claim`. A failure to write is ignored, so that it ends no run.

        Args:
            state: running, finished, stopped or failed.
            text: the status line of the terminal, or why the run ended.
        """
        if self.writer and tf.io.gfile.exists(self.file("config.flags")):
            status = {"state": state, "text": text, "time": time.time()}
            status |= {"host": socket.gethostname(), "pid": os.getpid()}
            with contextlib.suppress(UserError):
                self.write("status.json", json.dumps(status) + "\n")

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Replaces metrics.jsonl."""
        self.write("metrics.jsonl", "".join(json.dumps(r) + "\n" for r in records))

    def write_detection(
        self, epoch: int, statistics: Mapping[str, Any], **arrays: np.ndarray
    ) -> None:
        """Writes one refresh to detection/: statistics as JSON, arrays as NPZ."""
        self.write(f"detection/{epoch:04d}.json", json.dumps(dict(statistics), indent=2) + "\n")
        packed = io.BytesIO()  # the archive's writer seeks, which gs:// files cannot
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        self.write(f"detection/{epoch:04d}.npz", packed.getvalue())

    def write_true_labels(self, labels: np.ndarray) -> None:
        """Writes true_labels.npy, see `RunReader.true_labels`."""
        content = io.BytesIO()
        np.save(content, labels)
        self.write("true_labels.npy", content.getvalue())

    def write_unreadable(self, unreadable: Sequence[tuple]) -> None:
        """Lists images that could not be read by index, name and reason; none: removes the list."""
        path = self.file("unreadable.tsv")
        if unreadable:
            rows = ["index\tname\treason", *("\t".join(map(str, row)) for row in unreadable)]
            self.write("unreadable.tsv", "\n".join(rows) + "\n")
        elif self.writer and tf.io.gfile.exists(path):  # all can be read again
            tf.io.gfile.remove(path)
