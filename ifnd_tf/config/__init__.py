"""The settings of one run: `Config` joins a file for each group, and checks them.

Each setting is declared once: name, default, range and the reason for the default. The command
line turns it into a flag of the same name. Empty strings and `None` mean "choose from the other
settings".
"""

import dataclasses
import os
import re
import typing
from collections.abc import Mapping

from ifnd_tf.config import num_clusters
from ifnd_tf.config.comparison import Comparison
from ifnd_tf.config.data import Data
from ifnd_tf.config.detection import Detection
from ifnd_tf.config.devices import Devices
from ifnd_tf.config.evaluation import PROTOCOLS, Evaluation
from ifnd_tf.config.model import RESNETS, Model
from ifnd_tf.config.optimisation import Optimisation
from ifnd_tf.config.results import EXPORTS, Results
from ifnd_tf.config.run import STAGES, Run
from ifnd_tf.config.setting import check, read, value_type
from ifnd_tf.config.start import Start
from ifnd_tf.config.teacher import Teacher
from ifnd_tf.config.treatments import check_settings
from ifnd_tf.config.views import Views
from ifnd_tf.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Config(
    Devices, Comparison, Results, Evaluation, Optimisation, Teacher, Detection, Start, Model, Views,
    Data, Run,
):  # fmt: skip
    """The settings of one run. Symbols (N, B, Q, D, K, L) are those of the method."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check(field.name, field, getattr(self, field.name))
        _check_together(self)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of `mode`, in the order given."""
        return _listed(self.mode)

    @property
    def protocol_names(self) -> tuple[str, ...]:
        """The evaluations of `protocols`, in the order given."""
        return _listed(self.protocols)

    @property
    def export_names(self) -> tuple[str, ...]:
        """The formats of `export_formats`, in the order given."""
        return _listed(self.export_formats)

    @property
    def shares(self) -> tuple[float, ...]:
        """The entries of `label_shares`: float, a share in (0, 1]; int, labels of each class.

        Raises:
            UserError: if they are neither.
        """
        try:
            found = tuple(map(_share, _listed(self.label_shares)))
        except ValueError:
            found = ()
        if not found or not all(
            each > 0 and (isinstance(each, int) or each <= 1) for each in found
        ):
            raise UserError(
                "--label_shares: expected percentages above 0% and up to 100%, such as 1%,10%, or "
                f"numbers of labels of each class, such as 1shot,5shot. Received: "
                f"{self.label_shares!r}."
            )
        return found

    @property
    def run_path(self) -> str:
        """`workdir`, or its default."""
        return self.workdir or f"runs/{self.name}"

    @property
    def name(self) -> str:
        """`experiment`, or a name after the data set."""
        return self.experiment or _data_name(self.dataset)

    @property
    def undecided(self) -> tuple[str, ...]:
        """The settings that the data will decide: see `stages.auto`."""
        settings = (f.name for f in dataclasses.fields(self) if f.metadata["auto"])
        return tuple(name for name in settings if getattr(self, name) == "auto")

    def as_flags(self) -> dict[str, str]:
        """Every setting that has a value, as `config.flags` spells it."""
        without = self.undecided
        return {
            name: str(value)
            for name, value in dataclasses.asdict(self).items()
            if value is not None and name not in without
        }

    def override(self, flags: Mapping[str, str]) -> "Config":
        """Another configuration, with settings given as text.

        Raises:
            UserError: for an unknown setting, or a value of another type or out of range.
        """
        fields = {field.name: field for field in dataclasses.fields(Config)}
        for name in flags:
            if name not in fields:
                raise UserError(f"--{name}: no such flag.{did_you_mean(name, fields)}")
        values = {name: _value(fields[name], text) for name, text in flags.items()}
        return dataclasses.replace(self, **values)


# In the order of --help; a dataclass collects its fields from the last base to the first.
GROUPS = Config.__bases__[::-1]


def free_flags() -> frozenset[str]:
    """Flags that change how, not what, is computed: a run may be continued with others."""
    return frozenset(f.name for f in dataclasses.fields(Config) if f.metadata["free"])


def _value(field: dataclasses.Field, text: str) -> typing.Any:
    """The value of a setting that is given as text."""
    if field.metadata["auto"] and text == "auto":
        return text
    if value_type(field.type) is not field.type and text in ("", "auto"):
        return None
    return read(field.name, text, field.type, auto=field.metadata["auto"])


def _share(text: str) -> float:
    """An entry of `label_shares`: 10% as 0.1, 5shot as the int 5."""
    if text.endswith("shot"):
        return int(text.removesuffix("shot"))
    return float(text.rstrip("% ")) / 100


def _data_name(dataset: str) -> str:
    """The last part of a data set's path without its extension; of tfds, name and configuration."""
    kind, _, rest = dataset.partition(":")
    if kind == "tfds":
        return "_".join(re.split(r"[/:]", re.sub(r":\d.*", "", rest)))
    if kind == "parquet":  # the folder of the files
        rest = os.path.dirname(rest.partition("*")[0]) or "."
    if kind in ("folder", "parquet") and "://" not in rest:
        rest = os.path.abspath(os.path.expanduser(rest))
    return os.path.splitext(os.path.basename(rest.rstrip("/")))[0] or kind


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_stages(config: Config) -> None:
    """Raises `UserError` for a list with an unknown entry, or stages that do not go together."""
    for name, given, known in (
        ("mode", config.stages, STAGES),
        ("protocols", config.protocol_names, PROTOCOLS),
        ("export_formats", config.export_names, EXPORTS),
    ):
        if not given or set(given) - set(known):
            raise UserError(
                f"--{name}: expected a comma list of {', '.join(known)}. "
                f"Received: {getattr(config, name)!r}."
                f"{''.join(did_you_mean(part, known) for part in given if part not in known)}"
            )
    for mode, reason in (
        ("watch", "in a terminal of its own"),
        ("compare", "since it trains and evaluates by itself"),
    ):
        if mode in config.stages and len(config.stages) > 1:
            raise UserError(
                f"--mode: expected {mode} alone, {reason}. Received: {config.mode!r}; try "
                f"--mode={mode} --workdir={config.run_path}."
            )


def _check_others(config: Config) -> None:
    """Raises `UserError` where a SavedModel or a file of embeddings is of no use."""
    for flag, stages in (("saved_model", {"evaluate", "embed"}), ("embeddings", {"embed"})):
        if getattr(config, flag) and set(config.stages) - {"check", "report", *stages}:
            raise UserError(
                f"--{flag}: expected --mode={' or '.join(sorted(stages))}, because nothing is "
                f"trained. Received: --mode={config.mode}."
            )
    if config.saved_model and config.embeddings:
        raise UserError(
            "--embeddings: expected no --saved_model beside it. Received: both; leave one out."
        )


def _check_together(config: Config) -> None:
    """Raises `UserError` naming the first clash of two settings."""
    _check_stages(config)
    known = config.backbone in ("auto", *RESNETS)
    if not known and not config.backbone.startswith(("keras:", "hub:")):
        raise UserError(
            f"--backbone: expected one of {', '.join(RESNETS)}, keras:NAME or hub:NAME. Received: "
            f"{config.backbone!r}.{did_you_mean(config.backbone, RESNETS)}"
        )
    num_clusters.check_spelling(config.num_clusters)
    _ = config.shares  # raises if they do not parse
    _check_others(config)
    if config.saved_model and "finetune" in config.protocol_names:
        raise UserError(
            "--saved_model: expected protocols on frozen features. Received: finetune in "
            f"--protocols={config.protocols}; leave it out."
        )
    check_settings(config.treatment, config.framework, config.detector, config.level_combination)
    if config.tuning_trials and not config.validation_share:
        raise UserError(
            "--tuning_trials: expected --validation_share, the training images to choose by. "
            "Received: --validation_share=0; try --validation_share=0.2."
        )
    if config.detector == "neighbours" and config.level_combination != "union":
        raise UserError(
            "--detector=neighbours: expected --level_combination=union, since each level holds "
            f"some of the pairs. Received: --level_combination={config.level_combination}."
        )
    if config.freeze_epochs and not config.init_from:
        raise UserError(
            "--freeze_epochs: expected --init_from=, since a frozen encoder of random weights "
            f"learns nothing. Received: --freeze_epochs={config.freeze_epochs} without."
        )
    if config.freeze_epochs > config.epochs:
        raise UserError(
            f"--freeze_epochs: expected at most --epochs={config.epochs}. Received: "
            f"{config.freeze_epochs}."
        )
    if config.acceptance_end < config.acceptance_start:
        raise UserError(
            f"--acceptance_end: expected at least --acceptance_start={config.acceptance_start}. "
            f"Received: {config.acceptance_end}."
        )
    ends = config.acceptance_end_epoch
    if ends and not config.warmup_epochs < ends <= config.epochs:
        raise UserError(
            f"--acceptance_end_epoch: expected 0, or an epoch after --warmup_epochs="
            f"{config.warmup_epochs} and up to --epochs={config.epochs}. Received: {ends}."
        )
    queue_given = config.framework == "moco" and "queue_size" not in config.undecided
    if queue_given and config.queue_size % config.batch_size:
        raise UserError(
            f"--queue_size: expected a multiple of --batch_size={config.batch_size}, so that whole "
            f"batches enter the queue. Received: {config.queue_size}; try "
            f"{max(1, round(config.queue_size / config.batch_size)) * config.batch_size}."
        )
