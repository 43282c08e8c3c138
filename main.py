"""Trains, evaluates and exports: flags -> one call per stage.

    python main.py                                        # IFND on handwritten digits
    python main.py --flagfile=experiments/imagenet.flags --dataset=folder:/data/imagenet

Flags are read here, in benchmarks/ and in lowering/. In ifnd_tf/:

    config      the settings, which are the flags, and their help
    distribute  strategies, workers and what replicas exchange
    run         run directory, checkpoints, lock, progress on the terminal
    clustering  k-means on the devices
    data        data sets, decoding, views, batches
    models      networks, MoCo and SimCLR, losses, optimisers
    detection   embeddings, detectors, pseudo-labels and their metrics
    evaluation  kNN, probes, fine-tuning, transfer, collapse
    export      SavedModel, Keras, ONNX, model card
    report      the pages of a run and of a comparison
    training    the training loop and its callbacks
    stages      a file for each --mode, and what builds a run from its settings
"""

import contextlib
import dataclasses
import os
import signal
import sys
import tempfile
import typing
from typing import Any

from absl import flags

from ifnd_tf.config import Config, help_text
from ifnd_tf.config.setting import value_type
from ifnd_tf.errors import Stopped, UserError, did_you_mean, did_you_mean_path


def define_flags() -> flags.FlagValues:
    """One flag per field of `Config`, in a set of their own."""
    values = flags.FlagValues()
    for name, short_name in (("help", "h"), ("helpshort", None)):
        flags.DEFINE_boolean(name, False, "", short_name=short_name, flag_values=values)
    # No enums: `Config` knows the choices, and corrects a mistyped one.
    kinds = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    hints = typing.get_type_hints(Config)
    for field in dataclasses.fields(Config):
        define = kinds[value_type(hints[field.name])]
        if field.metadata["repeats"]:
            define = flags.DEFINE_multi_string
        define(field.name, field.default, field.metadata["help"], flag_values=values)
    return values


def parse(arguments: list[str]) -> Config | None:
    """The configuration of arguments and flagfiles; None after --help or --helpshort.

    Raises:
        UserError: for an unknown flag, a stray argument or a value out of range.
    """
    values = define_flags()
    try:
        rest = values(["main.py", *arguments])
    except flags.UnrecognizedFlagError as error:
        known = [f"--{name}" for name in values]
        raise UserError(
            f"--{error.flagname}: no such flag.{did_you_mean('--' + error.flagname, known)} "
            "--helpshort lists the common ones, --help all."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"--flagfile: expected text in UTF-8. Received: other bytes ({error})."
        ) from error
    except flags.Error as error:
        missing = error.__context__
        if isinstance(missing, OSError):
            raise UserError(
                f"--flagfile: expected a file of flags. Received: {missing.filename}."
                f"{did_you_mean_path(str(missing.filename))}"
            ) from error
        raise UserError(f"{error}; --help explains all flags.") from error
    for name, text in (("helpshort", help_text.short), ("help", help_text.full)):
        if values[name].value:
            print(text())
            return None
    if len(rest) > 1:
        meant = f" Did you mean --dataset=folder:{rest[1]}?" if os.path.isdir(rest[1]) else ""
        raise UserError(
            f"expected flags only, as --name=value. Received: {' '.join(rest[1:])}.{meant}"
        )
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(Config):
        value = values[field.name].value
        settings[field.name] = _joined(value) if field.metadata["repeats"] else value
    return Config(**settings)


def _joined(entries: list[str]) -> str:
    """The values of a repeated flag as one; an empty one drops those before it."""
    joined: list[str] = []
    for entry in entries:
        joined = [*joined, entry] if entry else []
    return ",".join(joined)


def parse_flagfile(path: str, *overrides: str) -> Config:
    """The configuration of one flagfile, with flags that override it."""
    config = parse([f"--flagfile={path}", *overrides])
    assert config is not None
    return config


@contextlib.contextmanager
def _quiet_start() -> typing.Iterator[None]:
    """Hides what TensorFlow's C++ prints while it starts, unless the start fails.

    It writes to file descriptor 2, before any log level takes effect.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log, os.fdopen(os.dup(2), "wb") as stderr:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException as error:
            if not isinstance(error, UserError):
                log.seek(0)
                stderr.write(log.read())
            raise
        finally:
            os.dup2(stderr.fileno(), 2)


def main(arguments: list[str]) -> int:
    """Runs the stages of --mode; returns the process's exit status."""
    try:
        config = parse(arguments)
        if config is None:
            return 0
        if config.stages == ("watch",):
            # Imported late, as the stages below: a mistyped flag is answered at once.
            from ifnd_tf.stages.watch import watch

            watch(config.run_path)
            return 0
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _quiet_start():
            from ifnd_tf.distribute import strategies
            from ifnd_tf.report.summary import summary
            from ifnd_tf.stages.modes import run_stages
            from ifnd_tf.stages.run import Run

            strategy = strategies.make_strategy(
                config.strategy,
                tpu=config.tpu,
                deterministic=config.deterministic,
                worker_timeout_seconds=config.worker_timeout_seconds,
            )
        if config.strategy == "multiworker" or "TF_CONFIG" in os.environ:
            strategies.check_same_settings(strategy, dataclasses.asdict(config))
        run = Run(config, strategy)
        run_stages(run)
        if config.stages != ("check",):
            path, results = run.directory.path, run.directory.results()
            run.progress.line(summary(config.experiment, path, results))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Stopped) as stop:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
