"""Checkpoints in a folder: written whole, checked by SHA-256, the newest few kept."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from ifnd_tf.errors import UserError, cause
from ifnd_tf.run import machine

MANIFEST = "manifest.json"
_VARIABLES = "variables"
_NOTES = "notes.json"
_BLOCK = 1 << 22


class Snapshot(NamedTuple):
    """The state of a run at one step, copied to the host's memory so that training can continue.

    Attributes:
        step: training steps done.
        folder: where `tf.train.Checkpoint` wrote its files, in memory (ram://).
        notes: the state that is not in variables, as JSON.
    """

    step: int
    folder: str
    notes: dict[str, Any]

    @classmethod
    def take(cls, step: int, checkpoint: tf.train.Checkpoint, notes: dict[str, Any]) -> "Snapshot":
        """Copies the variables. With several workers all must call it, at the same step."""
        folder = f"ram://snapshots/{id(checkpoint)}-{step}"
        # A remote TPU would write to its own host's memory.
        options = tf.train.CheckpointOptions(experimental_io_device=machine.io_device())
        checkpoint.write(f"{folder}/{_VARIABLES}", options=options)
        return cls(step, folder, notes)

    def drop(self) -> None:
        """Frees its memory."""
        tf.io.gfile.rmtree(self.folder)


class CheckpointStore:
    """Checkpoints by step, each a folder with TensorFlow's files, notes and a manifest.

    The manifest holds every file's size and SHA-256 and is written last, by a rename. A folder
    without one was left by a killed process and is ignored.

    Args:
        folder: on disk or gs://.
    """

    def __init__(self, folder: str):
        self.folder = folder

    def path(self, step: int, *parts: str) -> str:
        """The folder of a step's checkpoint, or a file in it."""
        return "/".join([self.folder, f"{step:010d}", *parts])

    def prefix(self, step: int) -> str:
        """The prefix of a checkpoint's files for `tf.train.Checkpoint.read`."""
        return self.path(step, _VARIABLES)

    def notes(self, step: int) -> dict[str, Any]:
        """The `Snapshot.notes` of a checkpoint."""
        return json.loads(_read(self.path(step, _NOTES)))

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, ascending."""
        return [step for step in self._folders() if tf.io.gfile.exists(self.path(step, MANIFEST))]

    def latest(
        self,
        report: Callable[[str], None] = lambda text: None,
        advice: str = "choose another --workdir to start anew",
    ) -> int | None:
        """The step of the newest checkpoint that is undamaged; None if none was ever written.

        Args:
            report: called with a warning for each damaged checkpoint that is skipped.
            advice: what to do where all are damaged and there is no backup.

        Raises:
            UserError: if there are checkpoints and all are damaged.
        """
        damages = []
        for step in reversed(self.steps()):
            damage = self.damage(step)
            if damage is None:
                return step
            damages.append(damage)
            report(f"warning: skipping a damaged checkpoint: {damage}")
        if damages:
            raise UserError(
                f"Expected an undamaged checkpoint in {self.folder}. Received: {len(damages)}, all "
                f"damaged ({damages[0]}); restore one from a backup, or {advice}."
            )
        return None

    def damage(self, step: int) -> str | None:
        """The first damage of a checkpoint, with the file's name; None if it is whole."""
        name = self.path(step, MANIFEST)
        try:
            files = json.loads(_read(name))["files"]
            for file, expected in files.items():
                name = self.path(step, file)
                found = _entry(_blocks(name))
                if found["bytes"] != expected["bytes"]:
                    return f"{name} has {found['bytes']} bytes instead of {expected['bytes']}"
                if found["sha256"] != expected["sha256"]:
                    return f"{name} does not match its SHA-256"
        except (ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError) as error:
            return f"{name} cannot be read ({cause(error)})"
        return None

    def write(self, snapshot: Snapshot) -> None:
        """Writes a snapshot, whole or not at all.

        Raises:
            UserError: if the folder cannot be written.
        """
        step, files = snapshot.step, {}
        try:
            if tf.io.gfile.exists(self.path(step)):
                tf.io.gfile.rmtree(self.path(step))
            tf.io.gfile.makedirs(self.path(step))
            for name in sorted(tf.io.gfile.listdir(snapshot.folder)):
                blocks = _blocks(f"{snapshot.folder}/{name}")
                files[name] = _copy(blocks, self.path(step, name))
            notes = json.dumps(snapshot.notes).encode()
            files[_NOTES] = _copy([notes], self.path(step, _NOTES))
            manifest = json.dumps({"step": step, "files": files}, indent=2).encode()
            _copy([manifest], self.path(step, MANIFEST + ".new"))
            tf.io.gfile.rename(self.path(step, MANIFEST + ".new"), self.path(step, MANIFEST))
        except (tf.errors.OpError, OSError) as error:
            self._remove(step)
            raise UserError(
                f"--workdir: expected room for a checkpoint in {self.folder}. Received: "
                f"{cause(error)}; the checkpoints before are kept. Free "
                "some space or mend the disk, and give the same command again."
            ) from error

    def prune(self, keep: int, newest: int) -> None:
        """Removes all checkpoints but the last ones up to `newest`, the one just written.

        Later steps are of a training that went on from an earlier checkpoint since, for they were
        damaged or an epoch had more steps then. Incomplete ones of killed processes go as well.
        """
        steps = [step for step in self.steps() if step <= newest]
        for step in set(self._folders()).difference(steps[-keep:]):
            self._remove(step)

    def _folders(self) -> list[int]:
        there = tf.io.gfile.isdir(self.folder)
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(self.folder)] if there else []
        return sorted(int(name) for name in names if name.isdecimal())

    def _remove(self, step: int) -> None:
        """Removes the manifest first, so that a half-removed checkpoint is ignored."""
        try:
            if tf.io.gfile.exists(self.path(step, MANIFEST)):
                tf.io.gfile.remove(self.path(step, MANIFEST))
            tf.io.gfile.rmtree(self.path(step))
        except tf.errors.OpError:
            pass  # Tried again when the next one is written.


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def _blocks(path: str) -> Iterator[bytes]:
    with tf.io.gfile.GFile(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _entry(blocks: Iterable[bytes], write: Callable[[bytes], Any] = len) -> dict[str, Any]:
    """Size and SHA-256 of a file's content, handed block by block to `write`."""
    digest, size = hashlib.sha256(), 0
    for block in blocks:
        write(block)
        digest.update(block)
        size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _copy(blocks: Iterable[bytes], path: str) -> dict[str, Any]:
    """Writes a file; returns its manifest entry, of the blocks given rather than read back."""
    with tf.io.gfile.GFile(path, "wb") as file:
        return _entry(blocks, file.write)
