"""One setting: a dataclass field with its help, its choices and its range."""

import dataclasses
import functools
import math
import numbers
import operator
import typing
from typing import Any

from ifnd_tf.errors import UserError, did_you_mean


def setting(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    *,
    free: bool = False,
    repeats: bool = False,
    auto: bool = False,
    once: bool = False,
    **bounds: float,
) -> Any:
    """A dataclass field that describes a flag.

    Args:
        default: value without the flag.
        help: unit and the reason for the default; the range is said by `describe_range`.
        choices: the values that a string may have; empty: any.
        free: whether a run may be continued with another value, because the flag changes how a
            result is reached or shown, not what is trained.
        repeats: whether the flag may be given several times; its values are joined by commas.
        auto: whether "auto" leaves the value to the data. `stages.auto` replaces it when the data
            is open, before anything is built, so that those who read a setting get its own type.
        once: whether the flag is for the command alone that gives it: config.flags does not keep
            it, so a later command on the same directory does not repeat it.
        **bounds: the range of a number: low or above, the least value, itself allowed or not; high
            or below, the greatest, itself allowed or not.
    """
    metadata = {
        "help": help, "choices": choices, "free": free, "repeats": repeats, "auto": auto,
        "once": once, "bounds": bounds,
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


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def describe_range(field: dataclasses.Field) -> str:
    """A setting's bounds in words, such as ">= 0 and < 1" or ">= 1 or auto"; empty without."""
    bounds = field.metadata["bounds"].items()
    words = " and ".join(f"{_BOUNDS[name][0]} {bound:g}" for name, bound in bounds)
    return f"{words} or auto" if words and field.metadata["auto"] else words


def in_range(field: dataclasses.Field, value: float) -> bool:
    """Whether a number meets the setting's bounds; NaN meets none."""
    return all(_BOUNDS[name][1](value, bound) for name, bound in field.metadata["bounds"].items())


def read(name: str, text: str, hint: Any, *, auto: bool = False) -> Any:
    """The value of a setting that is given as text; `auto`: whether that is a value too.

    Raises:
        UserError: if it is of another type.
    """
    kind = value_type(hint)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        word = _WORDS[kind] + (", or auto" if auto else "")
        raise UserError(f"--{name}: expected {word}. Received: {text!r}.") from None


def check_type(name: str, field: dataclasses.Field, value: object) -> None:
    """Raises `UserError` if a value given from Python, perhaps by NumPy, is of another type."""
    kind = value_type(field.type)
    if (value is None and kind is not field.type) or (value == "auto" and field.metadata["auto"]):
        return
    kinds: dict[type, type] = {int: numbers.Integral, float: numbers.Real}
    truth = isinstance(value, bool)  # which Python counts among the integers
    if truth != (kind is bool) or not isinstance(value, kinds.get(kind, kind)):
        word = _WORDS[kind] + (", or auto" if field.metadata["auto"] else "")
        raise UserError(f"--{name}: expected {word}. Received: {value!r}.")


def check(name: str, field: dataclasses.Field, value: object) -> None:
    """Raises `UserError` if a setting is not one of its choices or outside its range."""
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise UserError(
            f"--{name}: expected one of {', '.join(choices)}. Received: {value!r}."
            f"{did_you_mean(str(value), choices)}"
        )
    if isinstance(value, float) and math.isinf(value):
        raise UserError(f"--{name}: expected a finite number. Received: {value}.")
    if isinstance(value, (int, float)) and not in_range(field, value):
        raise UserError(f"--{name}: expected a value {describe_range(field)}. Received: {value}.")
