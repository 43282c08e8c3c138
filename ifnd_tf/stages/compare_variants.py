"""The runs of `--mode=compare`: `--variants` with alternatives and seeds as settings.

Imports no TensorFlow, so that mistakes in `--variants` are reported at once.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ifnd_tf.config import Config
from ifnd_tf.config.variants import FIXED, OR, OWN, parse
from ifnd_tf.errors import UserError, did_you_mean

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
                f"some, such as temperature=0.1{OR}0.2, or ask for fewer trials."
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
            for values in itertools.product(
                *(dict.fromkeys(map(str.strip, value.split(OR))) for value in flags.values())
            )
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


def _apply(config: Config, name: str, flags: Flags) -> Config:
    for flag in sorted(FIXED & flags.keys()):
        raise UserError(
            f"--variants: {name}: expected flags of the method or the data. Received: --{flag}, "
            "which all variants share; give it to the comparison."
        )
    plain = {field.name: field.default for field in dataclasses.fields(Config)}
    own: dict[str, Any] = {each: plain[each] for each in OWN}
    try:
        return dataclasses.replace(config.override(flags), **own)
    except UserError as error:
        raise UserError(f"--variants: {name}: {error}") from error
