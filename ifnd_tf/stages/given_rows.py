"""Embeddings of the training images that come from elsewhere: a file, or a SavedModel."""

import time
from typing import NamedTuple

import numpy as np

from ifnd_tf.data import embedding_file, eval_batches
from ifnd_tf.data.embedding_file import MODELS, WORDS, Rows
from ifnd_tf.data.source import Source
from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import SEEN, Embedder
from ifnd_tf.evaluation.saved_model import SavedModelFeatures, load_features
from ifnd_tf.run.same_state import SameState
from ifnd_tf.stages import build
from ifnd_tf.stages.run import Run


def same_rows(flag: str, rows: Rows) -> SameState:
    """The identity of the embeddings that a flag names, for checkpoints."""
    return SameState(
        rows.identity,
        f"--{flag}: expected the embeddings that the run was begun with. Received: "
        "others of the same name; bring the file back, or choose another --workdir.",
    )


def find(run: Run) -> dict[str, Rows]:
    """The rows of each flag that names a path, by flag; of one path they are found once.

    Raises:
        UserError: as `embedding_file.read` and `load_features`, and if an embedding is not finite.
    """
    found: dict[str, Rows] = {}
    for path, flags in _used(run).items():
        found |= dict.fromkeys(flags, _rows(run, flags, path))
    return found


class Tried(NamedTuple):
    """The findings of `check` on a file or a SavedModel.

    Attributes:
        width: D of its rows.
        seconds: estimate of the pass over the training images before training; 0 for a file.
    """

    width: int
    seconds: float = 0.0


def check(run: Run) -> dict[str, Tried]:
    """Reads the files and tries the SavedModels, by flag; raises as `find`."""
    found: dict[str, Tried] = {}
    for path, flags in _used(run).items():
        if embedding_file.is_file(path):
            tried = Tried(_rows(run, flags, path).points.shape[1])
        else:
            tried = _tried(run, flags[0], path)
        found |= dict.fromkeys(flags, tried)
    return found


def _tried(run: Run, flag: str, path: str) -> Tried:
    """A SavedModel's width, and the seconds of a pass over all images, estimated from a batch.

    Raises `UserError` if its features of the first images are not finite, or all the same.
    """
    encode, batch = load_saved_model(run, flag, path), run.config.batch_size
    side, source = encode.image_size or run.config.image_size, run.splits.train
    first = eval_batches.ordered_batches(
        source, image_size=side, batch_size=batch, indices=source.readable[:batch]
    )
    images, index = next((each["images"], each["index"].numpy()) for each in first)
    features = encode(images)["features"].numpy()[index >= 0]  # a first call compiles
    seen = images.numpy()[index >= 0]
    centre(f"--{flag}={path}", features, alike=bool(np.all(seen == seen[:1])))
    begin = time.perf_counter()
    encode(images)["features"].numpy()
    batches = len(source.readable) / batch
    return Tried(features.shape[1], batches * (time.perf_counter() - begin))


def _used(run: Run) -> dict[str, list[str]]:
    """The paths that are named, and the flags of each."""
    found: dict[str, list[str]] = {}
    for flag in MODELS:
        path = getattr(run.config, flag)
        if path not in WORDS[flag]:
            found.setdefault(path, []).append(flag)
    return found


def _rows(run: Run, flags: list[str], path: str) -> Rows:
    embedding_file.check_name(flags[0], path)
    source = run.splits.train
    if not embedding_file.is_file(path):
        return _embedded(run, flags[0], path)
    names, others = _names(source), _names(run.splits.evaluation)
    with run.progress.phase(f"reading {path}"):
        flag = " and --".join(flags)
        rows = embedding_file.read(flag, path, names, source.readable, others, lambda: source.sizes)
    run.note_rows(rows.notes)
    return rows


def _names(source: Source | None) -> list[str]:
    """The names of the examples."""
    return [] if source is None else [source.describe(i) for i in range(source.num_examples)]


def _embedded(run: Run, flag: str, path: str) -> Rows:
    """The features of a SavedModel, from one pass over the training images."""
    source = run.splits.train
    encode = load_saved_model(run, flag, path)
    size = encode.image_size or run.config.image_size
    with run.progress.phase(f"embedding by {path}") as count:
        batches = build.ordered_batches(run.config, run.strategy, source, image_size=size)
        found = Embedder(encode, run.strategy)(batches, source.num_examples, count)
    points = found["features"]
    require(f"--{flag}={path}", embedding_file.centred(points) | ~found[SEEN])
    return Rows(points, embedding_file.identity(path))


def centre(source: str, features: np.ndarray, alike: bool) -> None:
    """Brings a model's features to the form of rows, in place, see `embedding_file.centred`.

    Args:
        source: the flag that names the model, and its value, for messages.
        features: float32 [n, D], of images that were read.
        alike: whether the images are all the same, so that their features may be.

    Raises:
        UserError: if features are not finite, or all the same.
    """
    finite = np.isfinite(features).all(axis=1)
    differ = embedding_file.centred(features).any()
    require(source, finite & (alike or differ))


def require(source: str, usable: np.ndarray) -> None:
    """Raises `UserError` unless the features of all images are usable.

    Args:
        source: the flag that names their model, and its value.
        usable: bool [n].
    """
    if bad := int(np.sum(~usable)):
        raise UserError(
            f"{source}: expected finite features that differ. Received: {bad} of {len(usable)} "
            "images with NaN or infinity, or all the same; does the model take pixels in [0, 1]?"
        )


def load_saved_model(run: Run, flag: str, path: str) -> SavedModelFeatures:
    """The signature and output of `--saved_model_signature` and `--saved_model_output`."""
    config = run.config
    with run.strategy.scope():
        return load_features(
            path, config.saved_model_signature, config.saved_model_output, flag=flag
        )
