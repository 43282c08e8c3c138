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

from ifnd_tf.config.combinations import check_combinations
from ifnd_tf.config.comparison import Comparison
from ifnd_tf.config.data import Data
from ifnd_tf.config.detection import Detection
from ifnd_tf.config.devices import Devices
from ifnd_tf.config.evaluation import Evaluation
from ifnd_tf.config.initial_weights import InitialWeights
from ifnd_tf.config.model import Model
from ifnd_tf.config.optimisation import Optimisation
from ifnd_tf.config.results import Results
from ifnd_tf.config.run import Run
from ifnd_tf.config.setting import check, check_type, read, value_type
from ifnd_tf.config.teacher import Teacher
from ifnd_tf.config.views import Views
from ifnd_tf.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Config(
    Devices, Comparison, Results, Evaluation, Optimisation, Teacher, Detection, InitialWeights,
    Model, Views, Data, Run,
):  # fmt: skip
    """The settings of one run. Symbols (N, B, Q, D, K, L) are those of the method."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_type(field.name, field, getattr(self, field.name))
            check(field.name, field, getattr(self, field.name))
        check_combinations(self)

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
        # Results of another encoder, or of several runs, must not take the directory of a run on
        # the same images.
        apart = {
            "-saved_model": self.saved_model,
            "-embeddings": self.embeddings,
            "-compare": "compare" in self.stages and not self.experiment,
        }
        ending = "".join(ending for ending, given in apart.items() if given)
        return os.path.expanduser(self.workdir) or f"runs/{self.name}{ending}"

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
        """Every setting that has a value and is kept, as `config.flags` spells it."""
        without = self.undecided
        return {
            name: str(value)
            for name, value in kept(dataclasses.asdict(self)).items()
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


def kept(flags: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """The flags, among these, that a later command on the run directory takes over."""
    names = {field.name for field in dataclasses.fields(Config) if not field.metadata["once"]}
    return {name: value for name, value in flags.items() if name in names}


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
    if not text.endswith("%"):
        raise ValueError  # 0.1 may be meant as 10% or as 0.1%
    return float(text.removesuffix("%")) / 100


def _data_name(dataset: str) -> str:
    """The last part of a data set's path without its extension; of tfds, name and configuration."""
    kind, _, rest = dataset.partition(":")
    if kind == "tfds":
        return "_".join(re.split(r"[/:]", re.sub(r":\d.*", "", rest)))
    if kind == "parquet":  # the folder of the files
        rest = os.path.dirname(rest.partition("*")[0]) or "."
    if kind in ("folder", "parquet") and "://" not in rest:
        rest = os.path.abspath(os.path.expanduser(rest))
    last = os.path.basename(rest.rstrip("/"))
    return (os.path.splitext(last)[0] if kind == "list" else last) or kind


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
