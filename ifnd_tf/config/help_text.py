"""Every setting explained, as --help prints it."""

import dataclasses
import os
import textwrap
import typing
from collections.abc import Iterator

from ifnd_tf.config import GROUPS, flagfile
from ifnd_tf.config.comparison import Comparison
from ifnd_tf.config.evaluation import Evaluation
from ifnd_tf.config.run import STAGES
from ifnd_tf.config.setting import describe_range, value_type
from ifnd_tf.errors import UserError, did_you_mean

OPENING = """\
Pretrains an image encoder without labels; detected false negatives are masked.

  ifnd                                        # a first try, on digits
  ifnd --preset=photos --dataset=folder:PATH  # images of your own
  ifnd --mode=embed --workdir=runs/photos     # a stage of a run that exists
"""

# Dashes that word processors and web pages put in place of two hyphens.
_DASHES = ("\u2012", "\u2013", "\u2014", "\u2015", "\u2212")

# The flags of a first run; `short` must fit a terminal of 24 lines.
COMMON = {
    "dataset": "folder:, list:, tfds:, parquet:",
    "experiment": "the run goes to runs/<experiment>",
    "mode": "stages to run; check: before training",
    "epochs": "passes over the images",
    "image_size": "side of the views, in pixels",
    "augmentation": "random views; moco_v2 for photos",
    "backbone": "the encoder: resnet_small, resnet18, ...",
    "batch_size": "of a training step",
    "queue_size": "negatives; a multiple of the batch",
    "learning_rate": "halve it when the loss is not finite",
    "num_clusters": "numbers, shares such as 1%, or auto",
    "detector": "ifnd, or none for plain MoCo v2",
    "strategy": "devices: none, mirrored, tpu, ...",
}


# The flags of each stage, for --help=STAGE.
STAGE_FLAGS = {
    "check": ("mode", "workdir"),
    "watch": ("mode", "workdir"),
    "train": tuple(COMMON),
    "evaluate": tuple(field.name for field in dataclasses.fields(Evaluation)),
    "export": ("export_formats",),
    "embed": (
        "saved_model", "saved_model_signature", "saved_model_output", "embeddings", "init_from",
        "embed_dataset", "embed_format", "embed_clusters", "embed_folders", "embed_diverse",
        "duplicate_similarity",
    ),
    "report": ("report_examples", "report_share", "teacher_note"),
    "compare": tuple(field.name for field in dataclasses.fields(Comparison)),
}  # fmt: skip

# What other programs call some of the flags.
OTHER_NAMES = {
    "lr": "learning_rate", "bs": "batch_size", "data": "dataset", "model": "backbone",
    "arch": "backbone", "output": "workdir", "output_dir": "workdir", "out": "workdir",
    "logdir": "workdir", "img_size": "image_size", "resolution": "image_size",
    "num_epochs": "epochs", "gpu": "strategy", "gpus": "strategy", "device": "strategy",
    "embedding_source": "detect_with",
}  # fmt: skip


class Explained(typing.NamedTuple):
    """One setting.

    Attributes:
        name: the flag's, without dashes.
        kind: its type, range or choices, in words.
        default: as the command line spells it; empty if other settings decide.
        help: unit and reason.
    """

    name: str
    kind: str
    default: str
    help: str


def explain(field: dataclasses.Field, hint: typing.Any) -> Explained:
    """A setting in words, from its declaration."""
    kind = value_type(hint)
    word = {bool: "true or false", int: "integer", float: "number", str: "text"}[kind]
    if field.metadata["choices"]:
        word = ", ".join(field.metadata["choices"])
    bounds = describe_range(field)
    default = "" if field.default is None else str(field.default)
    return Explained(
        field.name,
        f"{word} {bounds}".strip(),
        default.lower() if kind is bool else default,
        field.metadata["help"],
    )


def groups() -> Iterator[tuple[str, list[Explained]]]:
    """Title and settings of each group, in the order of --help."""
    for group in GROUPS:
        hints = typing.get_type_hints(group)
        explained = [explain(field, hints[field.name]) for field in dataclasses.fields(group)]
        yield (group.__doc__ or "").strip().rstrip("."), explained


def full(width: int = 100) -> str:
    """The text of --help: all groups."""
    lines = [OPENING]
    for title, explained in groups():
        lines += [title, ""]
        lines += [_paragraph(each, width) for each in explained]
        lines.append("")
    lines.append(
        f"--preset=NAME: the flags of an experiment ({', '.join(flagfile.presets())}).\n"
        "--flagfile=FILE: flags from a file, one a line. Later flags override earlier ones.\n"
        "--help=NAME: one flag. --help=STAGE: the flags of a stage, such as embed."
    )
    return "\n".join(lines)


def _paragraph(each: Explained, width: int = 100) -> str:
    text = textwrap.indent(textwrap.fill(each.help, width - 6), " " * 6)
    return f"  --{each.name}={each.default}   ({each.kind})\n{text}"


def one(name: str) -> str:
    """What --help=NAME prints: one flag, or the flags of a stage.

    Raises:
        UserError: if there is neither.
    """
    name = name.lstrip("-")
    explained = {each.name: each for _, settings in groups() for each in settings}
    if name in STAGE_FLAGS:
        flags = [_paragraph(explained[flag]) for flag in STAGE_FLAGS[name]]
        return "\n".join([f"Flags of --mode={name}:", "", *flags])
    if name not in explained:
        known = [*explained, *STAGE_FLAGS]
        raise UserError(f"--help={name}: no such flag or stage.{did_you_mean(name, known)}")
    each = explained[name]
    return "\n".join([f"--{name}={each.default}   ({each.kind})", *textwrap.wrap(each.help, 96)])


def short() -> str:
    """The text of --helpshort: the flags that a first run needs, a line each."""
    defaults = {each.name: each.default for _, explained in groups() for each in explained}
    lines = [OPENING]
    lines += [f"  {f'--{n}={defaults[n]}':<38}{brief}" for n, brief in COMMON.items()]
    lines += ["", "All flags with their ranges and reasons: ifnd --help"]
    return "\n".join(lines)


def meant(word: str) -> str:
    """The question "Did you mean X?" for a stray word of a command line; "" for none."""
    if word in STAGES:
        return f" Did you mean --mode={word}?"
    if word == "help":
        return " Did you mean --help?"
    if word.startswith(_DASHES):
        return f" Did you mean --{word.lstrip('-' + ''.join(_DASHES))}?"
    if word.startswith(("folder:", "list:", "tfds:", "parquet:")):
        return f" Did you mean --dataset={word}?"
    if os.path.isdir(word):
        return f" Did you mean --dataset=folder:{word}?"
    if word in flagfile.presets():
        return f" Did you mean --preset={word}?"
    if word.endswith(".flags") and os.path.isfile(word):
        return f" Did you mean --flagfile={word}?"
    return did_you_mean(word, [f"--mode={stage}" for stage in STAGES]) if "=" in word else ""
