"""The runs of `--mode=compare`: `--variants` and `--seeds` as configurations."""

import collections
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


class Variant(NamedTuple):
    """One column of a comparison.

    Attributes:
        name: its name in tables and directories.
        flags: its own settings, as text.
    """

    name: str
    flags: dict[str, str]


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


def parse(text: str) -> list[Variant]:
    """Reads `--variants`.

    Args:
        text: a comma list of detectors and of NAME:FLAG=VALUE;FLAG=VALUE. A comma belongs to the
            value before it, unless a detector's name or a NAME: follows.

    Raises:
        UserError: if it does not parse, or names a variant twice.
    """
    known = list(detectors.DETECTORS)
    found: list[Variant] = []
    for entry in re.split(rf",\s*(?={_NAME}:|(?:{'|'.join(known)})\s*(?:,|$))", text):
        if ":" in entry:
            found.append(_with_flags(entry.strip()))
            continue
        for word in filter(None, map(str.strip, entry.split(","))):
            if word not in known:
                raise UserError(
                    f"--variants: expected a detector ({', '.join(known)}) or NAME:FLAG=VALUE. "
                    f"Received: {word!r}.{did_you_mean(word, known)}"
                )
            found.append(Variant(word, {"detector": word}))
    if not found:
        raise UserError("--variants: expected at least one. Received: none; try none,ifnd.")
    name, times = collections.Counter(variant.name for variant in found).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"--variants: expected every name once. Received: {name!r} {times} times; rename one, "
            "or put an empty --variants= before the entries that replace a flagfile's."
        )
    return found


def members(config: Config) -> list[Member]:
    """All runs of a comparison, in the order of running: every variant once, then the next seed.

    Raises:
        UserError: as `parse`, and for an unknown flag, a value that does not fit, and variants
            that differ in nothing.
    """
    variants = {variant.name: _apply(config, variant) for variant in parse(config.variants)}
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


def _with_flags(entry: str) -> Variant:
    name, _, rest = entry.partition(":")
    if not re.fullmatch(_NAME, name):
        raise UserError(
            "--variants: expected a name of letters, digits and . + % _ - before the colon. "
            f"Received: {name!r} in {entry!r}."
        )
    parts = [part.strip() for part in rest.split(";") if part.strip()]
    for part in parts:
        if "=" not in part:
            raise UserError(
                f"--variants: expected FLAG=VALUE;FLAG=VALUE after {name}:. Received: {part!r}."
            )
    pairs = (part.split("=", 1) for part in parts)
    return Variant(name, {flag.strip().removeprefix("--"): value.strip() for flag, value in pairs})


def _apply(config: Config, variant: Variant) -> Config:
    for flag in sorted(_FIXED & variant.flags.keys()):
        raise UserError(
            f"--variants: {variant.name}: expected flags of the method, the data or the "
            f"evaluation. Received: --{flag}, which is the comparison's own."
        )
    plain = {field.name: field.default for field in dataclasses.fields(Config)}
    own: dict[str, Any] = {name: plain[name] for name in ("mode", "variants", "seeds")}
    try:
        found = dataclasses.replace(config.override(variant.flags), **own)
        detectors.named(found.detector)
        return found
    except UserError as error:
        raise UserError(f"--variants: {variant.name}: {error}") from error
