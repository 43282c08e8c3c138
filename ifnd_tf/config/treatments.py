"""`--treatment`: the names and declarations of its rules.

The declarations are read from the rules' source, so that a wrong flag is reported before TensorFlow
is imported, and a new rule needs no file but its own. A registry would be filled by importing the
rules, which import TensorFlow, or would hold the declarations in a second file.
"""

import ast
import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

from ifnd_tf.config import setting
from ifnd_tf.errors import UserError, did_you_mean

FOLDER = pathlib.Path(__file__).parents[1] / "models" / "treatments"
_KINDS = {"bool": bool, "int": int, "float": float}


class Declared(NamedTuple):
    """The declarations of a rule's class; see `ifnd_tf.models.rule.Rule`.

    Attributes:
        parameters: by name, type and field.
        sets: parts of the treatment that only one rule may set.
        needs: inputs of the loss that it reads.
    """

    parameters: dict[str, tuple[type, dataclasses.Field]]
    sets: tuple[str, ...]
    needs: tuple[str, ...]


def names() -> list[str]:
    """All rules: the files of `ifnd_tf/models/treatments`."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@functools.cache
def declared(name: str) -> Declared:
    """The declarations in a rule's file: the fields of its class and its `sets` and `needs`."""
    file = FOLDER / f"{name}.py"
    rules = [
        node
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and "Rule" in map(ast.unparse, node.bases)
    ]
    if len(rules) != 1:
        raise ValueError(f"{file}: expected one class that extends Rule. Received: {len(rules)}.")
    parameters: dict[str, tuple[type, dataclasses.Field]] = {}
    others: dict[str, tuple[str, ...]] = {"sets": (), "needs": ()}
    for node in rules[0].body:
        match node:
            case ast.AnnAssign(ast.Name(field), ast.Name(kind), ast.Call(ast.Name(made)) as call):
                arguments = map(ast.literal_eval, call.args)
                named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
                parameters[field] = _KINDS[kind], getattr(setting, made)(*arguments, **named)
            case ast.Assign([ast.Name(attribute)], value) | ast.AnnAssign(
                ast.Name(attribute), _, ast.expr() as value
            ) if attribute in others:
                others[attribute] = ast.literal_eval(value)
    return Declared(parameters, **others)


def parse(text: str) -> dict[str, dict[str, Any]]:
    """Reads `--treatment`, such as "eliminate,sce:lam=0.5:teacher_temperature=0.07".

    Returns:
        Rules in the order given, each with the parameters given.

    Raises:
        UserError: for an unknown rule or parameter, a value out of range, and rules that exclude
            each other.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in text.split(","):
        name, *words = (word.strip() for word in entry.split(":"))
        if name not in names():
            raise UserError(
                f"--treatment: expected a comma list of {', '.join(names())}. Received: {name!r}."
                f"{did_you_mean(name, names())}"
            )
        if name in found:
            raise UserError(
                f"--treatment: expected every rule once. Received: {name!r} twice; remove one."
            )
        found[name] = {}
        for parameter, value in (_parameter(name, word) for word in words):
            if parameter in found[name]:
                raise UserError(
                    f"--treatment={name}: expected every parameter once. Received: {parameter!r} "
                    "twice; remove one."
                )
            found[name][parameter] = value
    _check_together(found)
    return found


def check_settings(text: str, framework: str, detector: str, level_combination: str) -> None:
    """Raises `UserError` if a rule needs another framework's candidates, or other labels."""
    for name in parse(text):
        needs = declared(name).needs
        for need, other in (("queue", "moco"), ("batch", "simclr")):
            if need in needs and framework != other:
                raise UserError(
                    f"--treatment={name}: expected --framework={other}, since its candidates are "
                    f"those of the {need}. Received: --framework={framework}."
                )
        if "confidence" in needs and detector == "none":
            raise UserError(
                f"--treatment={name}: expected a --detector, whose labels and confidences it "
                "weighs by. Received: --detector=none."
            )
        if "confidence" in needs and level_combination != "mean":
            raise UserError(
                f"--treatment={name}: expected --level_combination=mean, since each level has "
                f"confidences of its own. Received: --level_combination={level_combination}."
            )


def _parameter(rule: str, word: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE."""
    name, _, text = map(str.strip, word.partition("="))
    known = declared(rule).parameters
    if name not in known:
        wanted = f"{', '.join(known)}, as {rule}:NAME=VALUE" if known else "no parameters"
        raise UserError(
            f"--treatment={rule}: expected {wanted}. Received: {word!r}.{did_you_mean(name, known)}"
        )
    kind, field = known[name]
    flag = f"treatment={rule}:{name}"
    value = setting.read(flag, text, kind)
    setting.check(flag, field, value)
    return name, value


def _check_together(rules: dict[str, dict[str, Any]]) -> None:
    """Raises `UserError` for two rules that set the same part of a treatment."""
    words = {"target": "what the anchor is pulled to", "sum": "the sum in the denominator"}
    setters: dict[str, str] = {}
    for name in rules:
        if name == "none" and len(rules) > 1:
            raise UserError(
                f"--treatment: expected none alone. Received: {','.join(rules)}; leave none out."
            )
        for part in declared(name).sets:
            if part in setters:
                raise UserError(
                    f"--treatment: expected one rule that sets {words[part]}. Received: "
                    f"{setters[part]} and {name}, which exclude each other; remove one."
                )
            setters[part] = name
