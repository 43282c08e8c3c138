"""The runs of `--mode=compare`: `--variants` with alternatives and seeds as settings.

Imports no TensorFlow, so that mistakes in `--variants` are reported at once.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ifnd_tf.config import Config, flagfile, treatments
from ifnd_tf.errors import UserError, did_you_mean

# Flags that a comparison sets itself, or that would make its runs incomparable.
_OWN = ("mode", "variants", "only_variants", "seeds", "tuning_trials", "jobs")
_OF_THE_PROCESS = ("strategy", "tpu", "threads", "deterministic")
_FIXED = {*_OWN, *_OF_THE_PROCESS, "experiment", "workdir", "seed", "stop_after_epoch"}
_DETECTORS: tuple[str, ...] = next(
    field.metadata["choices"] for field in dataclasses.fields(Config) if field.name == "detector"
)
# Names become directories.
_NAME = r"[\w.+%-]+"
# Between the alternatives of a value.
_OR = "|"

Flags = Mapping[str, str]


class Member(NamedTuple):
    """One run of a comparison.

    Attributes:
        variant: the name of its variant.
        number: its seed, or the number of a tuning trial.
        config: all settings; its directory is `<variant>-<seed>` in the comparison's, of a trial
            `tuning/<variant>-<number>`.
        flags: the settings of the variant alone.
        kind: "seed" or "trial".
    """

    variant: str
    number: int
    config: Config
    flags: tuple[tuple[str, str], ...]
    kind: str = "seed"

    @property
    def title(self) -> str:
        """Its name on the terminal."""
        return f"{self.variant}, {self.kind} {self.number}"


def parse(text: str) -> dict[str, dict[str, str]]:
    """Reads `--variants`.

    Args:
        text: a comma list of detectors and of NAME:FLAG=VALUE;FLAG=VALUE. A comma belongs to the
            value before it, unless a detector's name or a NAME: follows that is no rule of
            `--treatment` with its parameter.

    Returns:
        Each variant's name in tables and directories, with its own settings as text, in which |
        separates alternatives.

    Raises:
        UserError: if it does not parse, or names a variant twice.
    """
    found: dict[str, dict[str, str]] = {}
    for entry in _entries(text):
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


def members(config: Config, chosen: Mapping[str, Flags] | None = None) -> list[Member]:
    """The runs of a comparison, in the order of running: every variant once, then the next seed.

    Args:
        config: the comparison's settings.
        chosen: the settings of variants that tuning chose; of others the first alternatives.

    Raises:
        UserError: as `parse`, and for an unknown flag, a value that does not fit, and variants
            that differ in nothing.
    """
    first = {name: settings[0] for name, settings in _alternatives(config).items()}
    whole = dataclasses.replace(config, tuning_trials=0)
    if config.tuning_trials:  # held out to choose by, not in the runs that are compared
        whole = dataclasses.replace(whole, validation_share=0.0)
    _check_differ({name: _apply(whole, name, flags) for name, flags in first.items()})
    flags = {**first, **(chosen or {})}
    return [
        _member(whole, name, flags[name], "seed", seed, f"{config.run_path}/{name}-{seed}", seed)
        for seed in range(config.seed, config.seed + config.seeds)
        for name in first
    ]


def trials(config: Config) -> list[Member]:
    """The tuning trials, in the order of running; none without `--tuning_trials`.

    Every variant has as many: its first alternatives and others drawn at random, the same ones
    every time.

    Raises:
        UserError: as `members`, and for a variant with fewer combinations than trials.
    """
    count, drawn = config.tuning_trials, {}
    for name, settings in _alternatives(config).items() if count else ():
        if len(settings) < count:
            raise UserError(
                f"--tuning_trials: expected at least {count} combinations of alternatives in every "
                f"variant, so that all are tuned alike. Received: {len(settings)} of {name}; add "
                f"some, such as temperature=0.1{_OR}0.2, or ask for fewer trials."
            )
        others = np.random.default_rng(0).permutation(np.arange(1, len(settings)))[: count - 1]
        drawn[name] = [settings[place] for place in (0, *sorted(others))]
    return [
        _member(
            config, name, each[number], "trial", number,
            f"{config.run_path}/tuning/{name}-{number}", config.seed,
        )
        for number in range(count)
        for name, each in drawn.items()
    ]  # fmt: skip


def _member(
    config: Config, name: str, flags: Flags, kind: str, number: int, workdir: str, seed: int
) -> Member:
    found = dataclasses.replace(_apply(config, name, flags), seed=seed, workdir=workdir)
    return Member(name, number, found, tuple(flags.items()), kind)


def _alternatives(config: Config) -> dict[str, list[dict[str, str]]]:
    """Each variant of the comparison with all combinations of its alternatives, checked."""
    found = parse(config.variants)
    only = [name.strip() for name in config.only_variants.split(",") if name.strip()]
    for name in only:
        if name not in found:
            raise UserError(
                f"--only_variants: expected names of --variants ({', '.join(found)}). Received: "
                f"{name!r}.{did_you_mean(name, found)}"
            )
    combined = {
        name: [
            dict(zip(flags, values, strict=True))
            for values in itertools.product(*(value.split(_OR) for value in flags.values()))
        ]
        for name, flags in found.items()
        if not only or name in only
    }
    for name, settings in combined.items():
        for each in settings:
            _apply(config, name, each)
    return combined


def _check_differ(variants: Mapping[str, Config]) -> None:
    """Raises `UserError` if two variants have the same settings."""
    for (name, one), (other_name, other) in itertools.combinations(variants.items(), 2):
        if one == other:
            raise UserError(
                f"--variants: expected variants that differ. Received: {name!r} and "
                f"{other_name!r} with the same settings; remove one, or change a flag of it."
            )


def _entries(text: str) -> Iterator[str]:
    """The text, split at the commas that end an entry."""
    detector = "|".join(_DETECTORS)
    entry = ""
    for part in re.split(rf",\s*(?={_NAME}:|(?:{detector})\s*(?:,|$))", text):
        if entry and _goes_on(entry, part):
            entry = f"{entry},{part}"
            continue
        if entry:
            yield entry
        entry = part
    yield entry


def _goes_on(entry: str, part: str) -> bool:
    """Whether a part is a rule with a parameter, in the value of the entry's treatment."""
    if not re.search(r"[:;]\s*(--)?treatment=[^;]*$", entry):
        return False
    rule, _, rest = part.partition(":")
    known = treatments.declared(rule).parameters if rule in treatments.names() else ()
    return rest.partition("=")[0].strip() in known


def _variant(entry: str) -> tuple[str, dict[str, str]]:
    """Name and flags of a detector or of NAME:FLAG=VALUE;FLAG=VALUE."""
    name, colon, rest = entry.partition(":")
    if not colon:
        if name not in _DETECTORS:
            raise UserError(
                f"--variants: expected a detector ({', '.join(_DETECTORS)}) or NAME:FLAG=VALUE. "
                f"Received: {name!r}.{did_you_mean(name, _DETECTORS)}"
            )
        return name, {"detector": name}
    if not re.fullmatch(_NAME, name):
        raise UserError(
            "--variants: expected a name of letters, digits and . + % _ - before the colon. "
            f"Received: {name!r} in {entry!r}."
        )
    return name, dict(_flags(name, filter(None, map(str.strip, rest.split(";")))))


def _flags(name: str, words: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Flags and values of FLAG=VALUE; of flagfile=FILE those in the file."""
    for word in words:
        flag, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            raise UserError(
                f"--variants: expected FLAG=VALUE;FLAG=VALUE after {name}:. Received: {word!r}."
            )
        flag = flag.removeprefix("--")
        if flag in ("flagfile", "preset"):
            held = _flags(name, iter(flagfile.expand([f"--{flag}={value}"])))
            yield from ((each, text) for each, text in held if each not in _FIXED)
        else:
            yield flag, value


def _apply(config: Config, name: str, flags: Flags) -> Config:
    for flag in sorted(_FIXED & flags.keys()):
        raise UserError(
            f"--variants: {name}: expected flags of the method, the data or the "
            f"evaluation. Received: --{flag}, which is the comparison's own."
        )
    plain = {field.name: field.default for field in dataclasses.fields(Config)}
    own: dict[str, Any] = {each: plain[each] for each in _OWN}
    try:
        return dataclasses.replace(config.override(flags), **own)
    except UserError as error:
        raise UserError(f"--variants: {name}: {error}") from error
