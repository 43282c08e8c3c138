"""`--init_from`: the weights that a network starts with."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Sequence

import tensorflow as tf

from ifnd_tf.config import Config, kept
from ifnd_tf.errors import UserError, cause
from ifnd_tf.export import keras_formats, saved_model
from ifnd_tf.models import keras_applications, keras_hub_networks
from ifnd_tf.models.network import Network
from ifnd_tf.models.weights import Weight, assign, weights_of
from ifnd_tf.run import pretrained
from ifnd_tf.run.checkpoints import CheckpointStore
from ifnd_tf.run.records import RunReader
from ifnd_tf.stages import build

_Parts = tuple[Sequence[Weight], Sequence[Weight]]


def starter(
    config: Config, report: Callable[[str], None] = lambda text: None
) -> Callable[[Network], None] | None:
    """A function that gives a fresh network the weights of `--init_from`; None without.

    Args:
        config: the run's settings, none of them auto.
        report: called with a line that says what was taken.
    """
    if not config.init_from:
        return None
    path = os.path.expanduser(config.init_from)
    return functools.partial(_start, dataclasses.replace(config, init_from=path), report)


def _start(config: Config, report: Callable[[str], None], network: Network) -> None:
    kind = pretrained.kind(config.init_from)
    encoder, projector = _READERS[kind](config, network)
    try:
        report(assign(network, encoder, projector, source=config.init_from))
    except UserError as error:
        raise UserError(f"{error}{_other_flags(config) if kind == 'run' else ''}") from error


def _of_run(config: Config, network: Network) -> _Parts:
    """The newest undamaged checkpoint of a run; its network is built as its flags say."""
    run = RunReader(config.init_from)
    store = CheckpointStore(run.file("checkpoints"))
    latest = store.latest(advice="give --init_from another start")
    if latest is None:
        raise UserError(
            f"--init_from: expected a run with a checkpoint. Received: {config.init_from!r}, which "
            "has none; train that run first."
        )
    before = build.network(Config().override(kept(run.flags())))
    # Under the names that they have in a model's checkpoint.
    parts = tf.train.Checkpoint(encoder=before.encoder, projector=before.projector)
    read = tf.train.Checkpoint(model=parts).read(store.prefix(latest))
    try:
        read.assert_existing_objects_matched().expect_partial()
    except AssertionError as error:
        raise UserError(
            f"--init_from: expected a checkpoint of this version. Received: {store.path(latest)} "
            f"({cause(error)}); start from its SavedModel or .keras file instead."
        ) from error
    return weights_of(before.encoder), weights_of(before.projector)


def _of_keras_file(config: Config, network: Network) -> _Parts:
    return weights_of(keras_formats.read_keras(config.init_from)), ()


def _of_weights_file(config: Config, network: Network) -> _Parts:
    if config.backbone.startswith("keras:") and not keras_formats.is_export(config.init_from):
        name = config.backbone.removeprefix("keras:")
        try:
            return weights_of(keras_applications.pretrained(name, config.init_from)), ()
        except ValueError as error:
            raise UserError(
                f"--init_from: expected weights of keras:{name} without its classifier. Received: "
                f"{config.init_from!r} ({cause(error)}); choose another file or --backbone."
            ) from error
    found = keras_formats.read_weights(config.init_from, network.encoder, config.image_size)
    return found, ()


def _of_saved_model(config: Config, network: Network) -> _Parts:
    return saved_model.read_weights(config.init_from, network)


def _of_preset(config: Config, network: Network) -> _Parts:
    try:
        return weights_of(keras_hub_networks.pretrained(config.init_from)), ()
    except (ValueError, OSError) as error:
        raise UserError(
            "--init_from: expected a KerasHub preset's folder with weights. Received: "
            f"{config.init_from!r} ({cause(error)}); name the folder that KerasHub's "
            "save_to_preset wrote."
        ) from error


def _of_imagenet(config: Config, network: Network) -> _Parts:
    try:
        model = keras_applications.pretrained(config.backbone.removeprefix("keras:"), "imagenet")
    except UserError:
        raise
    except Exception as error:  # Keras raises no narrower one when a download fails
        cache = pretrained.keras_cache()
        url = re.search(r"https?://[^\s:]+", str(error))
        raise UserError(
            f"--init_from=imagenet: expected the weights in Keras' cache, {cache}, or a "
            f"network to fetch them from. Received: {str(error).rpartition(' -- ')[2]}; fetch "
            f"{url.group() if url else 'them'} on another machine, and put the file into "
            f"{cache} here or name it as --init_from=FILE.h5."
        ) from error
    return weights_of(model), ()


_READERS: dict[str, Callable[[Config, Network], _Parts]] = {
    "run": _of_run,
    "keras": _of_keras_file,
    "weights": _of_weights_file,
    "saved_model": _of_saved_model,
    "preset": _of_preset,
    "imagenet": _of_imagenet,
}


def _other_flags(config: Config) -> str:
    """The flags of the network of a run that differ from these."""
    now = config.as_flags()
    before = RunReader(config.init_from).flags()
    differ = [f"--{n}={before[n]}" for n in pretrained.NETWORK if before.get(n, now[n]) != now[n]]
    return f" That run has {' '.join(differ)}." if differ else ""
