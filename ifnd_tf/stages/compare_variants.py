"""The runs of `--mode=compare`: `--variants` and `--seeds` as configurations."""

import dataclasses
import itertools
import re
from typing import Any, NamedTuple

from ifnd_tf.config import Config
from ifnd_tf.detection import detectors
from ifnd_tf.errors import UserError, did_you_mean

# Flags that a comparison sets itself, or that would make its runs incomparable.
_FIXED = {"mode", "experiment", "workdir", "seed", "seeds", "variants", "stop_after_epoch"}
# Names become directories.
_NAME = r"[\w.+%-]+"


class Member(NamedTuple):
    """One run of a comparison.

    Attributes:
        variant: the name of its variant.
        seed: its seed.
        config: all settings; its directory is `<variant>-<seed>` in the comparison's.
    """

    variant: str
    seed: int
    config: Config


def parse(text: str) -> dict[str, dict[str, str]]:
    """Reads `--variants`.

    Args:
        text: a comma list of detectors and of NAME:FLAG=VALUE;FLAG=VALUE. A comma belongs to the
            value before it, unless a detector's name or a NAME: follows.

    Returns:
        Each variant's name in tables and directories, with its own settings as text.

    Raises:
        UserError: if it does not parse, or names a variant twice.
    """
    found: dict[str, dict[str, str]] = {}
    detector = "|".join(detectors.DETECTORS)
    for entry in re.split(rf",\s*(?={_NAME}:|(?:{detector})\s*(?:,|$))", text):
        words = [entry] if ":" in entry else entry.split(",")
        for word in filter(None, map(str.strip, words)):
            name, flags = _variant(word)
            if name in found:
                raise UserError(
                    f"--variants: expected every name once. Received: {name!r} twice; rename one, "
                    "or put an empty --variants= before the entries that replace a flagfile's."
                )
            found[name] = flags
    if not found:
        raise UserError("--variants: expected at least one. Received: none; try none,ifnd.")
    return found


def members(config: Config) -> list[Member]:
    """All runs of a comparison, in the order of running: every variant once, then the next seed.

    Raises:
        UserError: as `parse`, and for an unknown flag, a value that does not fit, and variants
            that differ in nothing.
    """
    variants = {n: _apply(config, n, flags) for n, flags in parse(config.variants).items()}
    for (name, one), (other_name, other) in itertools.combinations(variants.items(), 2):
        if one == other:
            raise UserError(
                f"--variants: expected variants that differ. Received: {name!r} and "
                f"{other_name!r} with the same settings; remove one, or change a flag of it."
            )
    return [
        Member(
            name,
            seed,
            dataclasses.replace(one, seed=seed, workdir=f"{config.run_path}/{name}-{seed}"),
        )
        for seed in range(config.seed, config.seed + config.seeds)
        for name, one in variants.items()
    ]


def _variant(entry: str) -> tuple[str, dict[str, str]]:
    """Name and flags of a detector or of NAME:FLAG=VALUE;FLAG=VALUE."""
    name, colon, rest = entry.partition(":")
    if not colon:
        known = list(detectors.DETECTORS)
        if name not in known:
            raise UserError(
                f"--variants: expected a detector ({', '.join(known)}) or NAME:FLAG=VALUE. "
                f"Received: {name!r}.{did_you_mean(name, known)}"
            )
        return name, {"detector": name}
    if not re.fullmatch(_NAME, name):
        raise UserError(
            "--variants: expected a name of letters, digits and . + % _ - before the colon. "
            f"Received: {name!r} in {entry!r}."
        )
    flags = {}
    for part in filter(None, map(str.strip, rest.split(";"))):
        flag, equals, value = part.partition("=")
        if not equals:
            raise UserError(
                f"--variants: expected FLAG=VALUE;FLAG=VALUE after {name}:. Received: {part!r}."
            )
        flags[flag.strip().removeprefix("--")] = value.strip()
    return name, flags


def _apply(config: Config, name: str, flags: dict[str, str]) -> Config:
    for flag in sorted(_FIXED & flags.keys()):
        raise UserError(
            f"--variants: {name}: expected flags of the method, the data or the "
            f"evaluation. Received: --{flag}, which is the comparison's own."
        )
    plain = {field.name: field.default for field in dataclasses.fields(Config)}
    own: dict[str, Any] = {each: plain[each] for each in ("mode", "variants", "seeds")}
    try:
        return dataclasses.replace(config.override(flags), **own)
    except UserError as error:
        raise UserError(f"--variants: {name}: {error}") from error
