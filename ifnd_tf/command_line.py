"""The command `ifnd`, also `python main.py` and `python -m ifnd_tf`: flags -> stages.

Mistakes are reported before TensorFlow is imported: flags, then data set, then run directory.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType

from absl import flags, logging

from ifnd_tf import __version__
from ifnd_tf.config import Config, flagfile, free_flags, help_text, kept
from ifnd_tf.config.combinations import train_first
from ifnd_tf.data import dataset_name, embedding_file
from ifnd_tf.errors import Stopped, UserError, did_you_mean, did_you_mean_path
from ifnd_tf.run import files, image_messages, machine, pretrained
from ifnd_tf.run.garbage import rarely_collected
from ifnd_tf.run.progress import Progress
from ifnd_tf.run.quiet_start import quiet_start
from ifnd_tf.run.records import RunReader, read_run
from ifnd_tf.run.same_flags import other_images, require_same_flags, same_value
from ifnd_tf.stages import compare_variants


def define_flags() -> flags.FlagValues:
    """One flag per field of `Config`, in a set of their own; `Config` parses their text."""
    values = flags.FlagValues()
    for name, short_name in (("help", "h"), ("helpshort", None)):
        flags.DEFINE_boolean(name, False, "", short_name=short_name, flag_values=values)
    for field in dataclasses.fields(Config):
        text = field.metadata["help"]
        if field.metadata["repeats"]:
            flags.DEFINE_multi_string(field.name, None, text, flag_values=values)
        elif field.type is bool:
            flags.DEFINE_boolean(field.name, None, text, flag_values=values)
        else:
            flags.DEFINE_string(field.name, None, text, flag_values=values)
    return values


def parse(arguments: list[str]) -> Config | None:
    """The configuration of arguments and flagfiles; None after --help or --helpshort.

    Stages without training take the settings of an existing run directory from its config.flags,
    with the arguments on top.

    Raises:
        UserError: for an unknown flag, a stray argument or a value out of range.
    """
    arguments = flagfile.expand(arguments)
    for argument in arguments:
        if argument.startswith(("--help=", "-help=", "-h=")):
            print(help_text.one(argument.partition("=")[2]))
            return None
        if argument == "--version":
            print(f"ifnd {__version__}")
            return None
    values = define_flags()
    try:
        rest = values(["ifnd", *arguments])
    except flags.UnrecognizedFlagError as error:
        known = [f"--{name}" for name in values] + ["--flagfile", "--preset"]
        meant = help_text.OTHER_NAMES.get(error.flagname)
        hint = f" Did you mean --{meant}?" if meant else did_you_mean(f"--{error.flagname}", known)
        raise UserError(
            f"--{error.flagname}: no such flag.{hint} --helpshort lists the common, --help all."
        ) from error
    except flags.Error as error:
        raise UserError(f"{error}; --help explains all flags.") from error
    for name, text in (("helpshort", help_text.short), ("help", help_text.full)):
        if values[name].value:
            print(text())
            return None
    if len(rest) > 1:
        raise UserError(
            f"expected flags only, as --name=value. Received: {' '.join(rest[1:])}."
            f"{help_text.meant(rest[1])}"
        )
    given: dict[str, str] = {}
    for field in dataclasses.fields(Config):
        value = values[field.name].value
        if value is not None:
            given[field.name] = _joined(value) if field.metadata["repeats"] else str(value)
    return _with_run(given)


def _with_run(given: Mapping[str, str]) -> Config:
    """The configuration of the flags given, and of the run directory for stages that need a run."""
    demo = {} if "dataset" in given else flagfile.preset_flags("digits")
    config = Config().override({**demo, **given})
    if "dataset" in given:
        config = _apart(config)
    if {"train", "compare", "watch"} & set(config.stages):
        return config
    if before := kept(RunReader(config.run_path).flags()):
        return Config().override({**before, "workdir": config.run_path, **given})
    return _with_start(config, given) if "embed" in config.stages else config


def _with_start(config: Config, given: Mapping[str, str]) -> Config:
    """For embedding with another run's encoder: adds the settings of that encoder not given."""
    found = pretrained.encoder_flags(config.init_from)
    if found and "dataset" not in given:
        raise UserError(
            "--init_from: expected --dataset=, the images to embed. Received: none; for the run's "
            f"own images, --mode=embed --workdir={config.init_from}."
        )
    return config.override({n: t for n, t in found.items() if given.get(n, "auto") == "auto"})


def _apart(config: Config) -> Config:
    """Numbers the default directory if a run of other data, or the one of --init_from, has it."""
    path, number = config.run_path, 1
    while not (config.workdir or config.experiment):
        before = RunReader(path).flags().get("dataset", config.dataset)
        start = same_value("init_from", config.init_from, path)
        if same_value("dataset", before, config.dataset) and not start:
            return dataclasses.replace(config, workdir=path if number > 1 else "")
        number += 1
        path = f"{config.run_path}-{number}"
    return config


def _joined(entries: list[str]) -> str:
    """The values of a repeated flag as one; an empty value drops those before it."""
    joined: list[str] = []
    for entry in entries:
        joined = [*joined, entry] if entry else []
    return ",".join(joined)


def parse_flagfile(path: str, *overrides: str) -> Config:
    """The configuration of one flagfile, with flags that override it."""
    config = parse([f"--flagfile={path}", *overrides])
    assert config is not None
    return config


def _check_data_and_run(config: Config) -> None:
    """Raises `UserError` for mistakes that can be found without TensorFlow."""
    if "watch" in config.stages:
        return
    if not config.saved_model or {"evaluate", "embed"} & set(config.stages):
        dataset_name.check_name("dataset", config.dataset, config.data_dir)
        kind = config.dataset.partition(":")[0]
        dataset_name.require_splits(kind, config.train_split, config.eval_split)
    for flag in ("transfer_dataset", "embed_dataset"):
        if getattr(config, flag):
            dataset_name.check_name(flag, getattr(config, flag), config.data_dir)
    begins, runs = {"check", "train", "compare"} & set(config.stages), [config]
    if "compare" in config.stages:
        runs += [member.config for member in compare_variants.members(config)]
        compare_variants.trials(config)
    for flag in embedding_file.WORDS:
        if begins or flag == "embeddings":
            for each in runs:
                embedding_file.check_name(flag, getattr(each, flag))
    if begins or not os.path.isdir(config.run_path):
        pretrained.check(config.init_from, config.backbone, config.run_path)
    pretrained.check_saved_model(config.saved_model)
    if "://" in config.run_path:
        return
    needs_run = {"evaluate", "export", "embed", "report"} & set(config.stages)
    own = "train" in config.stages or config.saved_model or config.embeddings
    if "embed" in config.stages and (config.init_from != "auto" or pretrained.in_keras_cache()):
        own = own or config.init_from
    if needs_run and not own and not os.path.isdir(config.run_path):
        raise UserError(
            f"--workdir: expected the directory of a run with a checkpoint. Received: "
            f"{config.run_path!r}, which is not there; {train_first(config)}."
            f"{other_images(config.stages, config.dataset if config.dataset != 'digits' else '')}"
            f"{did_you_mean_path(config.run_path)}"
        )
    if "report" in config.stages and not own:
        read_run(config.run_path)
    files.require_writable(config.run_path)
    require_same_flags(RunReader(config.run_path), config.as_flags(), free_flags())


def main(arguments: list[str] | None = None) -> int:
    """Runs the stages of --mode; returns the process's exit status.

    Args:
        arguments: the command line without the program's name; None: `sys.argv`.
    """
    config = None
    try:
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if config is None:
            return 0
        _check_data_and_run(config)
        if config.stages == ("watch",):
            from ifnd_tf.stages.watch import watch

            watch(config.run_path)
            return 0
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:  # training saves first, see preemption
                signal.signal(number, _stop)
        if config.jobs != 1:
            machine.prepare_for_jobs()
        with image_messages.dropped():
            execute(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Stopped) as stop:
        print(f"stopped; the same command {_then(config)}", file=sys.stderr)
        return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)
    return 0


def _then(config: Config | None) -> str:
    """What a stopped command does when it is given again."""
    if config is None or not {"train", "compare"} & set(config.stages):
        return "begins again"
    trained = "compare" in config.stages or "://" in config.run_path
    trained |= os.path.isdir(os.path.join(config.run_path, "checkpoints"))
    return "continues from the last checkpoint" if trained else "begins again"


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def execute(config: Config) -> None:
    """Runs the stages of a configuration on the devices that it names; prints the summary."""
    # Hides C++'s log, errors included: an error that ends a run is raised in Python.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    starting = Progress(enabled=sys.stdout.isatty()).phase("starting TensorFlow")
    with starting, quiet_start(), rarely_collected():
        import tensorflow as tf

        from ifnd_tf.report.summary import summary
        from ifnd_tf.stages import build_strategy
        from ifnd_tf.stages.modes import run_stages
        from ifnd_tf.stages.run import Run

        # Each run, detector and evaluation traces graphs of its own, of which TensorFlow warns.
        tf.get_logger().setLevel("ERROR")
        logging.set_verbosity(logging.ERROR)  # tfds warns of itself
        strategy = build_strategy.strategy(config)
    run = Run(config, strategy)
    run_stages(run)
    if config.stages != ("check",):
        run.progress.line(summary(config.name, read_run(run.directory.path)))
