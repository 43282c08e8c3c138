"""The treatments of false negatives: a file for each, named as in `--treatment`.

To add one, write a file with one class, a frozen dataclass and a `Rule`.
"""

import importlib

from ifnd_tf.config.treatments import parse
from ifnd_tf.models.rule import Rule


def rules(text: str) -> tuple[Rule, ...]:
    """The rules of `--treatment`, in the order of applying them.

    Raises:
        UserError: as `ifnd_tf.config.treatments.parse`.
    """
    made = [rule_class(name)(**parameters) for name, parameters in parse(text).items()]
    return tuple(sorted(made, key=lambda rule: "sum" in rule.sets))


def weak_keys(text: str) -> bool:
    """Whether a rule of `--treatment` wants the keys' views to be only cropped and flipped."""
    return any(rule.weak_keys for rule in rules(text))


def rule_class(name: str) -> type[Rule]:
    """The one class of a rule's file."""
    module = importlib.import_module(f"{__name__}.{name}").__name__
    (found,) = (rule for rule in Rule.__subclasses__() if rule.__module__ == module)
    return found
