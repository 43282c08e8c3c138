"""Whether a run directory belongs to a run with the same flags."""

import os
import shlex
from collections.abc import Collection, Mapping

from ifnd_tf.errors import UserError
from ifnd_tf.run.records import RunReader

# Flags that name a file or folder.
_PATHS = ("detect_with", "teacher", "init_from", "saved_model", "embeddings")


def require_same_flags(run: RunReader, flags: Mapping[str, str], free: Collection[str]) -> None:
    """Raises `UserError` that names the flags in which a directory's run differs.

    Args:
        run: the directory.
        flags: of the run to come, name to value as text.
        free: names of flags that may differ, because they do not change what is trained.
    """
    before = run.flags()
    differ = {
        name: (before.get(name), value)
        for name, value in sorted(flags.items())
        if name not in free and not same_value(name, before.get(name, value), value)
    }
    if differ:
        listed = ", ".join(
            f"--{name} (was {was!r}, is {now!r})" for name, (was, now) in differ.items()
        )
        raise UserError(
            f"--workdir: expected a new directory or a run with the same flags. {run.path!r} "
            f"holds a run with other flags: {listed}. {_way_out(run, flags, differ)}"
        )


def _way_out(run: RunReader, flags: Mapping[str, str], differ: Collection[str]) -> str:
    """What to do instead, which depends on the stages that were asked for."""
    stages = flags.get("mode", "train").split(",")
    if stages == ["check"]:
        return (
            "To check that run, leave out what differs; to check a new one, name another --workdir."
        )
    if "train" not in stages:
        other = "DATASET" if {"train_split", "eval_split"} & set(differ) else ""
        return (
            "These stages use the run's own flags: leave out what differs, or choose another "
            "--workdir." + other_images(stages, flags["dataset"] if "dataset" in differ else other)
        )
    return (
        f"To continue that run, --flagfile={shlex.quote(run.file('config.flags'))}; to start a new "
        f"one from its weights, the same command with --init_from={shlex.quote(run.path)} "
        f"--workdir={shlex.quote(run.path.rstrip('/') + '-2')}; to start from scratch, another "
        "--workdir alone."
    )


def other_images(stages: Collection[str], dataset: str) -> str:
    """The flags of stages that look at other images with a trained encoder; "" for none.

    Args:
        stages: of `--mode`.
        dataset: the other images, as `--dataset` spells them; "" gives "".
    """
    if not dataset:
        return ""
    uses = {
        "evaluate": ("transfer_dataset", "evaluates its encoder on them, if they have labels"),
        "embed": ("embed_dataset", "embeds them with its encoder"),
    }
    return "".join(
        f" For those images, --{flag}={shlex.quote(dataset)} {use}."
        for stage, (flag, use) in uses.items()
        if stage in stages
    )


def same_value(name: str, before: str, now: str) -> bool:
    """Whether two values of a flag mean the same; a path may be spelt in several ways."""
    whole = _data_path if name == "dataset" else _path if name in _PATHS else None
    return before == now or (whole is not None and whole(before) == whole(now))


def _data_path(dataset: str) -> str:
    kind, _, path = dataset.partition(":")
    return f"{kind}:{_path(path)}" if kind in ("folder", "list", "parquet") else dataset


def _path(path: str) -> str:
    return path if not path or "://" in path else os.path.abspath(os.path.expanduser(path))
