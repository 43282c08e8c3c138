"""The run directory: everything a run leaves behind, and all that a stage needs to resume."""

import contextlib
import io
import json
import os
import socket
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.run import versions


class RunDirectory:
    """Reads and writes one run's files, on disk or gs://.

    Args:
        path: the directory; made if it does not exist.
        flags: the run's flags, name to value as text, compared with those that `claim` wrote.
        free: names of flags that may differ between two runs of one directory, because they
            change how a result is reached or shown, not what is trained.
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
        self.path, self.writer, self._flags = path, writer, flags
        if not writer:
            return
        try:
            tf.io.gfile.makedirs(path)
            self._check_flags(flags, free)
        except (tf.errors.OpError, OSError) as error:
            raise _not_writable(path, error) from error

    def file(self, *parts: str) -> str:
        """The path of a file or folder in the run directory."""
        return "/".join([self.path.rstrip("/"), *parts])

    def claim(self) -> None:
        """Writes config.flags: from now on the directory belongs to a run with these flags.

        Not done before training starts, so that a mistyped flag does not occupy the directory.
        """
        if self.writer:
            lines = [f"--{name}={value}" for name, value in sorted(self._flags.items())]
            self._write("config.flags", "\n".join([f"# {versions.text()}", *lines, ""]))

    def _check_flags(self, flags: Mapping[str, str], free: frozenset[str]) -> None:
        lines = self._read("config.flags").splitlines()
        before = dict(line.removeprefix("--").split("=", 1) for line in lines if "=" in line)
        differ = [
            f"--{name} (was {before.get(name)!r}, is {value!r})"
            for name, value in sorted(flags.items())
            if name not in free and before.get(name, value) != value
        ]
        if differ:
            raise UserError(
                f"--workdir: expected a new directory or a run with the same flags. {self.path!r} "
                f"holds a run with other flags: {', '.join(differ)}; choose another --workdir, "
                "or remove that one."
            )

    def write_text(self, name: str, text: str) -> None:
        """Writes a file, in a folder of its own if the name has one."""
        if not self.writer:
            return
        if "/" in name:
            tf.io.gfile.makedirs(self.file(name.rpartition("/")[0]))
        self._write(name, text)

    def _read(self, name: str) -> str:
        """A file's text, bytes that are not UTF-8 replaced; empty if there is none."""
        path = self.file(name)
        if not tf.io.gfile.exists(path):
            return ""
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read().decode("utf-8", "replace")

    def _write(self, name: str, content: str | bytes) -> None:
        """Writes a file whole or not at all."""
        path = self.file(name)
        try:
            with tf.io.gfile.GFile(path + ".new", "wb") as file:
                file.write(content)
            tf.io.gfile.rename(path + ".new", path, overwrite=True)
        except tf.errors.OpError as error:
            raise _not_writable(self.path, error) from error

    def write_results(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Merges `results` into results.json and returns all of them."""
        merged = {**self.results(), **results}
        if self.writer:
            self._write("results.json", json.dumps(merged, indent=2, sort_keys=True) + "\n")
        return merged

    def results(self) -> dict[str, Any]:
        """What results.json holds; empty if there is none.

        Raises:
            UserError: if it is damaged.
        """
        try:
            results = json.loads(self._read("results.json") or "{}")
        except ValueError as error:
            results = error
        if not isinstance(results, dict):
            raise UserError(
                f"Expected JSON in {self.file('results.json')}. Received: damaged text; remove the "
                "file and run the stages again (--mode=evaluate)."
            )
        return results

    def write_status(self, state: str, text: str) -> None:
        """Writes a sign of life to status.json, for those who watch from elsewhere.

        Left out before `claim`; and a sign that cannot be written is not worth a run.

        Args:
            state: running, finished, stopped or failed.
            text: what the terminal shows, or why the run ended.
        """
        if self.writer and tf.io.gfile.exists(self.file("config.flags")):
            sign = {
                "state": state, "text": text, "time": time.time(),
                "host": socket.gethostname(), "pid": os.getpid(),
            }  # fmt: skip
            with contextlib.suppress(UserError):
                self._write("status.json", json.dumps(sign) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, one per epoch, up to the first that is damaged."""
        records = []
        for line in self._read("metrics.jsonl").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not isinstance(record, dict):
                break
            records.append(record)
        return records

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Replaces metrics.jsonl."""
        if self.writer:
            self._write("metrics.jsonl", "".join(json.dumps(r) + "\n" for r in records))

    def write_detection(
        self, epoch: int, statistics: Mapping[str, Any], **arrays: np.ndarray
    ) -> None:
        """Writes one refresh to detection/: statistics as JSON, arrays as NPZ."""
        if not self.writer:
            return
        tf.io.gfile.makedirs(self.file("detection"))
        self._write(f"detection/{epoch:04d}.json", json.dumps(dict(statistics), indent=2) + "\n")
        packed = io.BytesIO()  # the archive's writer seeks, which gs:// files cannot
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        self._write(f"detection/{epoch:04d}.npz", packed.getvalue())

    def latest_detection(self, before: int) -> tuple[int, dict[str, np.ndarray]] | None:
        """The newest refresh before an epoch.

        Args:
            before: epochs trained; later refreshes were left by a process that died.

        Returns:
            Its epoch (from 0) and the arrays that `write_detection` got, or None.

        Raises:
            UserError: if the file is damaged.
        """
        found = {}
        for path in tf.io.gfile.glob(self.file("detection", "*.npz")):
            name = path.rpartition("/")[2].removesuffix(".npz")
            if name.isdecimal() and int(name) < before:
                found[int(name)] = path
        if not found:
            return None
        epoch, path = max(found.items())
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                arrays = dict(np.load(io.BytesIO(file.read())))  # never unpickles
            if any(arrays[name].ndim != 2 for name in ("labels", "confidence")):
                raise ValueError("other arrays")
            return epoch, arrays
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"Expected the labels of a refresh in {path}. Received: {error}; remove the file, "
                "and the one before it serves."
            ) from error

    def write_unreadable(self, unreadable: Sequence[tuple]) -> None:
        """Lists images that could not be read, one line each: index, name, reason."""
        if self.writer and unreadable:
            rows = ["index\tname\treason", *("\t".join(map(str, row)) for row in unreadable)]
            self._write("unreadable.tsv", "\n".join(rows) + "\n")


def _not_writable(path: str, error: Exception) -> UserError:
    return UserError(
        f"--workdir: expected a directory that can be written. Received: {path!r} ({error}); "
        "choose another."
    )
