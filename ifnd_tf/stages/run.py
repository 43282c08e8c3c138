"""A run: its settings, strategy, directory and data, which all stages share."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from ifnd_tf.config import Config, free_flags, kept
from ifnd_tf.config.combinations import train_first
from ifnd_tf.config.data import Data
from ifnd_tf.data import datasets
from ifnd_tf.data.contents import Note, require_same
from ifnd_tf.data.scan import require_share
from ifnd_tf.distribute import strategies
from ifnd_tf.errors import UserError
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.models.network import Network
from ifnd_tf.run import lock
from ifnd_tf.run.checkpoints import CheckpointStore
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.run.words import counted
from ifnd_tf.stages import auto, build, initial_weights, open_data, sizes, status


class Run:
    """The settings of one run, with its strategy, its directory and, once needed, its data.

    Args:
        config: the settings, of which some may be auto; kept as `given`.
        strategy: where to compute.
        progress: the terminal; None: standard output, on the chief only.
        opened: data sets opened by the runs of this process, by settings; this run adds its own.
    """

    def __init__(
        self,
        config: Config,
        strategy: tf.distribute.Strategy,
        progress: Progress | None = None,
        opened: dict[tuple, datasets.Splits] | None = None,
    ):
        chief = strategies.is_chief(strategy)
        self.given, self.strategy = config, strategy
        self.progress = progress or Progress(enabled=chief)
        self.opened = {} if opened is None else opened
        self._row_notes: tuple[Note, ...] = ()
        self.directory = RunDirectory(
            config.run_path, flags=config.as_flags(), free=free_flags(), writer=chief
        )
        before = self.directory.flags()
        if gone := sorted(before.keys() - kept(before).keys()):
            self.progress.line(
                f"warning: {self.directory.file('config.flags')} has flags that no longer exist "
                f"and are ignored: {', '.join(f'--{name}' for name in gone)}"
            )

    @functools.cached_property
    def config(self) -> Config:
        """The settings given, with values for those that are auto.

        A run that has begun keeps its values; for a new one the training images decide, and
        `RunDirectory.claim` writes the values.
        """
        before = self.directory.flags() if self.given.undecided else {}
        known = {name: before[name] for name in self.given.undecided if name in before}
        config = self.given.override(known)
        if config.undecided:
            config = auto.decided(config, self.found.train)
        # Each worker has looked at its own machine, such as Keras' cache of weights there.
        chosen = {name: getattr(config, name) for name in self.given.undecided}
        if chosen:
            strategies.check_same_settings(self.strategy, chosen)
        self.directory.settle(config.as_flags())
        return config

    @property
    def decided(self) -> str:
        """The values of the settings that were given as auto, in words; "" for none."""
        values = {name: getattr(self.config, name) for name in self.given.undecided}
        return ", ".join(f"{name} {value}" for name, value in values.items() if value != "")

    @contextlib.contextmanager
    def in_progress(self) -> Iterator[None]:
        """Locks the directory and keeps status.json up to date, while stages run.

        Modes that only look or report do not lock, and leave status.json to the process that may
        be training in the directory.
        """
        stages = set(self.given.stages)
        with contextlib.ExitStack() as stack:
            stack.callback(self.progress.clear)
            if stages - {"check", "report"}:
                if self.directory.writer:
                    stack.enter_context(lock.alone(self.directory.path))
                stack.enter_context(status.written(self.directory, self.progress, self.given))
            stack.callback(self.directory.remove_if_unused)
            yield

    @functools.cached_property
    def splits(self) -> datasets.Splits:
        """The data, opened and scanned once for all stages."""
        splits = self._opened()
        unreadable = [row for source in filter(None, splits) for row in source.unreadable]
        if unreadable:
            said, where = counted(len(unreadable), "unreadable image"), "unreadable.tsv"
            self.progress.line(f"{said} skipped; see {self.directory.file(where)}")
        return splits

    def note_rows(self, notes: Sequence[Note]) -> None:
        """Prints new notes on rows of embeddings, and keeps them for `notes`."""
        new = tuple(note for note in notes if note not in self._row_notes)
        self._row_notes += new
        for note in new:
            self.progress.line(f"warning: {note.text}")

    def notes(self, splits: datasets.Splits) -> list[Note]:
        """The notes on a data set, and on the rows of embeddings read so far."""
        return [*splits.train.contents.notes, *self._row_notes]

    def unused(self, splits: datasets.Splits) -> dict[str, Any]:
        """Images and rows of embeddings that are not used, as results.json holds them."""
        return {
            "unreadable_images": sum(len(source.unreadable) for source in filter(None, splits)),
            "data_notes": [note._asdict() for note in self.notes(splits)],
        }

    @functools.cached_property
    def transfer_splits(self) -> datasets.Splits | None:
        """The data of `--transfer_dataset`, if there is one."""
        dataset = self.given.transfer_dataset
        if not dataset:
            return None
        splits = self._opened(dataset)
        if any(each is None or not each.labelled for each in splits):
            raise UserError(
                "--transfer_dataset: expected labelled images to train a classifier on, and "
                f"others to test it. Received: {dataset} without; choose another."
            )
        return splits

    @property
    def embed_splits(self) -> datasets.Splits:
        """The data to embed: the run's own, or that of `--embed_dataset`."""
        dataset = self.given.embed_dataset
        return self._opened(dataset) if dataset else self.splits

    def _opened(self, dataset: str = "") -> datasets.Splits:
        """The run's data, or another, unless a run with the same settings of data opened it."""
        config = self.config
        key = (dataset, *(getattr(config, field.name) for field in dataclasses.fields(Data)))
        if key not in self.opened:
            splits = open_data.find(config, self.progress, dataset) if dataset else self.found
            if config.scan_images:
                unreadable = open_data.read(config, self.strategy, splits, self.progress, dataset)
                if not dataset:
                    self.directory.write_unreadable(unreadable)
                require_share(list(filter(None, splits)), config.max_corrupt_share)
            self.opened[key] = splits
        return self.opened[key]

    @functools.cached_property
    def found(self) -> datasets.Splits:
        """The run's own data, of which nothing is decoded yet."""
        splits = open_data.find(self.given, self.progress)
        begun, now = self.directory.data(), splits.train.contents
        require_same(self.given.dataset, begun, now, self.directory.path)
        splits.train.set_labels(self.directory.true_labels())
        return splits

    @property
    def labelled(self) -> bool:
        """Whether there are labelled images to train a classifier on, and others to test it."""
        return all(
            source is not None and source.labelled and source.targets is None
            for source in self.splits
        )

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch."""
        return sizes.steps_per_epoch(self.config, self.splits.train)

    def untrained_model(self) -> ContrastiveModel:
        """A model for the training images, with random weights; see `build.model`."""
        return self._model(None, 0)

    def starting_model(self, teacher_width: int = 0) -> ContrastiveModel:
        """A model with the weights of `--init_from`, or random ones where none are given.

        A run with checkpoints does not read `--init_from`, which may be gone by then.
        """
        start = None
        if not CheckpointStore(self.directory.file("checkpoints")).steps():
            start = initial_weights.starter(self.config, self.progress.line)
        return self._model(start, teacher_width)

    def _model(
        self, start: Callable[[Network], None] | None, teacher_width: int
    ) -> ContrastiveModel:
        return build.model(
            self.config,
            self.strategy,
            num_examples=self.splits.train.num_examples,
            steps_per_epoch=self.steps_per_epoch,
            true_labels=self.splits.train.labels,
            start=start,
            teacher_width=teacher_width,
        )

    def trained_model(self) -> ContrastiveModel:
        """The model of the last checkpoint.

        Raises:
            UserError: if there is none.
        """
        model, store = self.untrained_model(), CheckpointStore(self.directory.file("checkpoints"))
        latest = store.latest()
        if latest is None:
            then = train_first(self.given)
            raise UserError(f"Expected a checkpoint in {store.folder}. Received: none; {then}.")
        # Without the checkpoint's optimiser and detector.
        tf.train.Checkpoint(model=model).read(store.prefix(latest)).expect_partial()
        return model
