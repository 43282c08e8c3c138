"""The stages of a run. Each needs only the configuration and the run directory."""

import contextlib
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator

import tensorflow as tf

from ifnd_tf.config import Config, free_flags, settings
from ifnd_tf.data import datasets
from ifnd_tf.data.scan import scan
from ifnd_tf.distribute.strategies import is_chief, workers
from ifnd_tf.errors import UserError
from ifnd_tf.export import keras_onnx, model_card, saved_model
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.report import run_page
from ifnd_tf.run import lock
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import (
    build,
)
from ifnd_tf.stages import (
    check as checking,
)
from ifnd_tf.stages import (
    embed as embedding_files,
)
from ifnd_tf.stages import (
    evaluate as evaluating,
)
from ifnd_tf.stages import (
    train as training,
)


class Run:
    """One configuration at work: its strategy, its directory and, once needed, its data.

    Args:
        config: the settings.
        strategy: where to compute.
        progress: the terminal; None: standard output, on the chief only.
        opened: the data that other runs of this process have opened, by settings; it grows.
    """

    def __init__(
        self,
        config: Config,
        strategy: tf.distribute.Strategy,
        progress: Progress | None = None,
        opened: dict[tuple, datasets.Splits] | None = None,
    ):
        chief = is_chief(strategy)
        self.config, self.strategy = config, strategy
        self.progress = progress or Progress(enabled=chief)
        self.opened = {} if opened is None else opened
        self.directory = RunDirectory(
            config.run_path, flags=config.as_flags(), free=free_flags(), writer=chief
        )

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes out of the directory, while this one writes more than a report."""
        writes = self.directory.writer and set(self.config.stages) - {"check", "report"}
        return lock.alone(self.directory.path) if writes else contextlib.nullcontext()

    @functools.cached_property
    def splits(self) -> datasets.Splits:
        """The data, opened and scanned once for all stages."""
        splits = self._open_once("", self._open)
        sources = [source for source in splits if source is not None]
        self.directory.write_unreadable([row for each in sources for row in each.unreadable])
        return splits

    def _open_once(self, name: str, opener: Callable[[], datasets.Splits]) -> datasets.Splits:
        """Opens data, unless a run with the same settings of data has."""
        key = (name, *(getattr(self.config, f.name) for f in dataclasses.fields(settings.Data)))
        if key not in self.opened:
            self.opened[key] = opener()
        return self.opened[key]

    def _open(self) -> datasets.Splits:
        splits = build.open_splits(self.config)
        self._scan(splits, self.config.cache_megabytes)
        lost = sum(len(source.unreadable) for source in splits if source is not None)
        where = self.directory.file("unreadable.tsv")
        if lost:
            self.progress.line(f"{lost} unreadable images are skipped; see {where}")
        return splits

    @functools.cached_property
    def transfer_splits(self) -> datasets.Splits | None:
        """The data of `--transfer_dataset`, if there is one."""
        if not self.config.transfer_dataset:
            return None
        return self._open_once(self.config.transfer_dataset, self._open_transfer)

    def _open_transfer(self) -> datasets.Splits:
        config = self.config
        splits = datasets.open_splits(
            config.transfer_dataset, data_dir=config.data_dir, holdout_share=config.holdout_share
        )
        self._scan(splits, cache_megabytes=0)
        if any(each is None or not each.labelled for each in splits):
            raise UserError(
                "--transfer_dataset: expected labelled images to train a classifier on, and "
                f"others to test it. Received: {config.transfer_dataset} without; choose another."
            )
        return splits

    @property
    def embed_splits(self) -> datasets.Splits:
        """The data to embed: the run's own, or that of `--embed_dataset`."""
        config = self.config
        if not config.embed_dataset:
            return self.splits
        splits = datasets.open_splits(config.embed_dataset, data_dir=config.data_dir)
        self._scan(splits, config.cache_megabytes)
        return splits

    def _scan(self, splits: datasets.Splits, cache_megabytes: int) -> None:
        if not self.config.scan_images:
            return
        with self.progress.phase("reading images"):
            for source in splits:
                if source is not None:
                    scan(
                        source,
                        max_corrupt_share=self.config.max_corrupt_share,
                        cache_megabytes=cache_megabytes,
                        progress=lambda done, total: self.progress.status(
                            f"reading images {done:,}/{total:,}"
                        ),
                        workers=workers(self.strategy),
                    )

    @contextlib.contextmanager
    def signs_of_life(self) -> Iterator[None]:
        """Keeps status.json up to date while stages run, and says how they ended."""
        if self.config.stages == ("check",):  # Somebody else may be at work in the directory.
            yield
            return
        self.progress.mirror = functools.partial(self.directory.write_status, "running")
        try:
            yield
        except KeyboardInterrupt:
            self.directory.write_status("stopped", "stopped at the keyboard")
            raise
        except BaseException as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.directory.write_status("failed", reason)
            raise
        self.directory.write_status("finished", f"finished {', '.join(self.config.stages)}")

    def trained_model(self) -> ContrastiveModel:
        """The model of the last checkpoint.

        Raises:
            UserError: if there is none.
        """
        config, source = self.config, self.splits.train
        steps = build.check_sizes(config, source)
        model = build.build(
            config, self.strategy, num_examples=source.num_examples, steps_per_epoch=steps
        )
        if not training.restore(self.directory, model):
            raise UserError(
                f"Expected a checkpoint in {self.directory.file('checkpoints')}. Received: none; "
                "run --mode=train first."
            )
        return model


def check(run: Run) -> None:
    """Says what the run would meet, and what to change before it."""
    checking.check(run.config, run.strategy, run.splits, run.directory, run.progress)


def check_fit(run: Run) -> None:
    """Raises `UserError` if training or evaluation would not fit the data or the devices."""
    build.check_sizes(run.config, run.splits.train)
    build.num_clusters(run.config, run.splits.train.num_examples)
    build.batch_norm_policy(run.config, run.strategy)
    if "evaluate" in run.config.stages and training.splits_are_labelled(run.splits):
        evaluating.check(run.config, run.strategy, run.splits)
        _ = run.transfer_splits  # opened now: a mistyped name must not cost a training


def train(run: Run) -> None:
    """Trains to the end of the schedule, from the last checkpoint if there is one."""
    start = time.monotonic()
    check_fit(run)
    model = training.train(run.config, run.strategy, run.splits, run.directory, run.progress)
    records = run.directory.metrics()
    if not records:
        return
    last, before = records[-1], run.directory.results().get("wall_seconds", 0.0)
    run.directory.write_results(
        {
            "epochs": last["epoch"],
            "num_examples": len(run.splits.train.readable),
            "num_parameters": model.encoder.count_params(),
            "train_loss": last["loss"],
            "random_loss": training.random_loss(run.config, run.splits.train.num_examples),
            "train_images_per_second": statistics.median(r["images_per_second"] for r in records),
            "train_seconds": sum(r["epoch_seconds"] for r in records),
            "wall_seconds": before + time.monotonic() - start,
            **{
                name: last[name]
                for name in ("detection_precision", "detection_recall", "detection_f1")
                if name in last
            },
        }
    )


def evaluate(run: Run) -> None:
    """Runs the protocols on the trained encoder or `--saved_model`, beside raw pixels."""
    if not training.splits_are_labelled(run.splits):
        if "train" not in run.config.stages:
            raise UserError(
                "--mode=evaluate: expected labelled images to train a classifier on, and others "
                f"to test it. Received: {run.splits.train.name} without; put them into class "
                "folders or name them in --dataset=list:FILE, or look at them by "
                "--mode=embed,report."
            )
        run.progress.line("evaluation: left out, since the images have no labels")
        return
    start = time.monotonic()
    evaluating.check(run.config, run.strategy, run.splits)
    network = None if run.config.saved_model else run.trained_model().network
    if network is None:
        run.directory.claim()  # its results are this model's alone
    with run.progress.phase("evaluating"):
        results = evaluating.evaluate(
            run.config,
            run.strategy,
            run.splits,
            network=network,
            transfer_splits=run.transfer_splits,
        )
    seconds = time.monotonic() - start
    run.directory.write_results(
        {
            **results,
            "evaluate_seconds": seconds,
            "wall_seconds": run.directory.results().get("wall_seconds", 0.0) + seconds,
        }
    )


def export_model(run: Run) -> None:
    """Writes the trained encoder in files that need nothing of this project."""
    model, names = run.trained_model(), run.config.export_names
    if not run.directory.writer:
        return
    path, size = run.directory.file("encoder"), run.config.image_size
    written = []
    if "saved_model" in names:
        written.append(run.directory.file("saved_model"))
        saved_model.export(
            written[0], encoder=model.encoder, projector=model.projector, image_size=size
        )
    if {"keras", "onnx"} & set(names):
        encoder = keras_onnx.keras_encoder(model.encoder, size)
        written += keras_onnx.write_keras(path, encoder) if "keras" in names else []
        written += keras_onnx.write_onnx(path, encoder) if "onnx" in names else []
    written.append(model_card.write(run.directory.path))
    run.progress.line("\n".join(f"exported {each}" for each in written))


def embed(run: Run) -> None:
    """Writes features, clusters and duplicates of all images."""
    embedding_files.write(
        run.config,
        run.strategy,
        run.embed_splits,
        run.trained_model(),
        run.directory,
        run.progress,
    )


def write_report(run: Run) -> None:
    """Writes report.html."""
    if run.directory.writer:
        run.progress.detail(f"report {run_page.write(run.directory.path)}")


STAGES: dict[str, Callable[[Run], None]] = {
    "check": check,
    "train": train,
    "evaluate": evaluate,
    "export": export_model,
    "embed": embed,
    "report": write_report,
}
