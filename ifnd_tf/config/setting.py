"""One setting: a dataclass field with its help, its choices and its range."""

import dataclasses
import functools
import operator
import typing
from typing import Any


def setting(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    free: bool = False,
    repeats: bool = False,
) -> Any:
    """A dataclass field that describes a flag.

    Args:
        default: value without the flag.
        help: unit and the reason for the default; the range is said by `describe_range`.
        choices: the values that a string may have; empty: any.
        low, above: least value, itself allowed or not; None: unbounded.
        high, below: greatest value, itself allowed or not; None: unbounded.
        free: whether a run may be continued with another value, because the flag changes how a
            result is reached or shown, not what is trained.
        repeats: whether the flag may be given several times; its values are joined by commas.
    """
    metadata = {
        "help": help, "choices": choices, "low": low, "above": above, "high": high, "below": below,
        "free": free, "repeats": repeats,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


# A setting that may change when a run is continued, and a share or probability.
changeable = functools.partial(setting, free=True)
share = functools.partial(setting, low=0, high=1)


def value_type(hint: Any) -> type:
    """The type of a setting's value: float for `float | None`, an optional number."""
    return next(iter(typing.get_args(hint)), hint)


# How a bound is written, and when a value meets it.
_BOUNDS = {
    "low": (">=", operator.ge),
    "above": (">", operator.gt),
    "high": ("<=", operator.le),
    "below": ("<", operator.lt),
}


def describe_range(field: dataclasses.Field) -> str:
    """A setting's bounds in words, such as ">= 0 and < 1"; empty if it has none."""
    bounds = {name: field.metadata[name] for name in _BOUNDS if field.metadata[name] is not None}
    return " and ".join(f"{_BOUNDS[name][0]} {bound:g}" for name, bound in bounds.items())


def in_range(field: dataclasses.Field, value: float) -> bool:
    """Whether a number meets the setting's bounds; NaN meets none."""
    return all(
        meets(value, field.metadata[name])
        for name, (_, meets) in _BOUNDS.items()
        if field.metadata[name] is not None
    )
