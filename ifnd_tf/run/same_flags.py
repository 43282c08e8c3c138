"""Whether a run directory belongs to a run with the same flags."""

import os
from collections.abc import Collection, Mapping

from ifnd_tf.errors import UserError
from ifnd_tf.run.records import RunReader


def require_same_flags(run: RunReader, flags: Mapping[str, str], free: Collection[str]) -> None:
    """Raises `UserError` that names the flags in which a directory's run differs.

    Args:
        run: the directory.
        flags: of the run to come, name to value as text.
        free: names of flags that may differ, because they do not change what is trained.
    """
    before = run.flags()
    differ = [
        f"--{name} (was {before.get(name)!r}, is {value!r})"
        for name, value in sorted(flags.items())
        if name not in free and not same_value(name, before.get(name, value), value)
    ]
    if differ:
        raise UserError(
            f"--workdir: expected a new directory or a run with the same flags. {run.path!r} "
            f"holds a run with other flags: {', '.join(differ)}. To go on with that one, "
            f"--flagfile={run.file('config.flags')}; for a new run from its weights, the same "
            f"command with --init_from={run.path} --workdir={run.path.rstrip('/')}-2; from "
            "scratch, another --workdir alone."
        )


# Flags that name a file or folder.
_PATHS = ("detect_with", "teacher", "init_from", "saved_model", "embeddings")


def same_value(name: str, before: str, now: str) -> bool:
    """Whether two values of a flag mean the same; a path may be spelt in several ways."""
    whole = _data_path if name == "dataset" else _path if name in _PATHS else None
    return before == now or (whole is not None and whole(before) == whole(now))


def _data_path(dataset: str) -> str:
    kind, _, path = dataset.partition(":")
    return f"{kind}:{_path(path)}" if kind in ("folder", "list", "parquet") else dataset


def _path(path: str) -> str:
    return path if not path or "://" in path else os.path.abspath(os.path.expanduser(path))
