"""`--variants`: what a comparison compares, as names with flags of their own.

Imports no TensorFlow, so that mistakes are reported at once.
"""

import dataclasses
import re
from collections.abc import Iterator

from ifnd_tf.config import Config, flagfile, treatments
from ifnd_tf.errors import UserError, did_you_mean

# Flags that a comparison sets itself, or that would make its runs incomparable.
OWN = ("mode", "variants", "only_variants", "seeds", "tuning_trials", "jobs")
_OF_THE_PROCESS = ("strategy", "tpu", "threads", "deterministic")
_OF_THE_MEASURES = ("validation_share", "protocols", "label_shares", "label_subsets")
FIXED = {
    *OWN, *_OF_THE_PROCESS, *_OF_THE_MEASURES, "experiment", "workdir", "seed", "stop_after_epoch",
}  # fmt: skip
_DETECTORS: tuple[str, ...] = next(
    field.metadata["choices"] for field in dataclasses.fields(Config) if field.name == "detector"
)
# Names become directories.
_NAME = r"[\w.+%-]+"
# Between the alternatives of a value.
OR = "|"


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


def _entries(text: str) -> Iterator[str]:
    """The text, split at the commas that end an entry."""
    detector = "|".join(_DETECTORS)
    entry = ""
    for part in re.split(rf",\s*(?=[^,:;=|]*:|(?:{detector})\s*(?:,|$))", text):
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
    # A variant may have a rule's name, and a flag that of its parameter: glofnd:learning_rate=.
    again = re.search(r";\s*(--)?treatment=", rest)
    return rest.partition("=")[0].strip() in known and not again


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
    given = set()
    for word in words:
        flag, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            raise UserError(
                f"--variants: expected FLAG=VALUE;FLAG=VALUE after {name}:. Received: {word!r}."
            )
        flag = flag.removeprefix("--")
        if flag in given:
            raise UserError(
                f"--variants: {name}: expected every flag once. Received: --{flag} twice; remove "
                f"one, or give alternatives as {flag}=A{OR}B."
            )
        given.add(flag)
        if flag in ("flagfile", "preset"):
            held = _flags(name, iter(flagfile.expand([f"--{flag}={value}"])))
            yield from ((each, text) for each, text in held if each not in FIXED)
        else:
            yield flag, value
