"""The spelling of a data set's name, checked without TensorFlow: mistakes are answered at once."""

import collections
import contextlib
import glob
import os
import re
from collections.abc import Iterator

from ifnd_tf.data.image_formats import (
    ARCHIVES,
    FORMAT_BY_EXTENSION,
    HIDDEN,
    NO_IMAGES,
    SIGNATURE_BYTES,
    format_of,
)
from ifnd_tf.errors import UserError, did_you_mean, did_you_mean_path

_PREFIXES = ("folder", "list", "tfds", "parquet")
KINDS = "digits, folder:PATH, list:FILE, tfds:NAME[/CONFIG] or parquet:GLOB"

# Names that people expect of a catalogue, of tfds.
_CATALOGUE = (
    "caltech101", "cifar10", "cifar100", "cars196", "dtd", "emnist", "eurosat", "fashion_mnist",
    "food101", "imagenet2012", "imagenette", "imagewoof", "kmnist", "mnist", "omniglot",
    "oxford_flowers102", "oxford_iiit_pet", "places365_small", "stanford_dogs", "stl10",
    "svhn_cropped", "tf_flowers",
)  # fmt: skip
# Files after which a walk is left to the run, which counts on the terminal.
_ENOUGH = 10_000
_ALIASES = {"imagenet": "imagenet2012", "svhn": "svhn_cropped", "flowers102": "oxford_flowers102"}


def require_kind(flag: str, dataset: str) -> tuple[str, str]:
    """The kind (digits, folder, list, tfds, parquet) of a data set and the rest of its name.

    Args:
        flag: that gave it, for the message.
        dataset: as the user wrote it.

    Raises:
        UserError: for another spelling, with the right one where it can be guessed.
    """
    kind, _, rest = dataset.partition(":")
    if dataset == "digits" or (rest and kind in _PREFIXES):
        return kind, rest
    raise UserError(f"--{flag}: expected {KINDS}. Received: {dataset!r}.{_meant(flag, dataset)}")


def require_splits(kind: str, train_split: str, eval_split: str) -> None:
    """Raises `UserError` for splits that a kind of data set does not have."""
    if train_split != "train" and kind in ("digits", "list"):
        raise UserError(
            f"--train_split: expected train, because {kind} has no other. Received: "
            f"{train_split!r}."
        )
    if eval_split and kind == "digits":
        raise UserError(
            "--eval_split: expected none, because digits are held out by --holdout_share. "
            f"Received: {eval_split!r}."
        )


def check_name(flag: str, dataset: str, data_dir: str = "") -> None:
    """Raises `UserError` for a spelling or a path on this machine's disk that cannot be right.

    Args:
        flag: that gave it, for the message.
        dataset: as the user wrote it.
        data_dir: folder with the prepared data of tfds, or "" for tfds' own.
    """
    kind, rest = require_kind(flag, dataset)
    if kind == "tfds":
        _check_prepared(flag, rest, data_dir)
    path = os.path.expanduser(rest)
    if kind == "parquet" and os.path.isdir(path):
        files = glob.glob(os.path.join(glob.escape(path), "**", "*.parquet"), recursive=True)
        inside = "**/" * any(os.path.dirname(each) != path.rstrip("/") for each in files)
        raise UserError(
            f"--{flag}: expected a pattern of Parquet files. Received: {rest!r}, a folder with "
            f"{len(files)}. Did you mean --{flag}='parquet:{rest.rstrip('/')}/{inside}*.parquet'?"
        )
    if kind == "parquet" and not glob.glob(path, recursive=True):
        raise UserError(
            f"--{flag}: expected Parquet files. Received: {rest!r}, which matches none; quote the "
            f"pattern, as in --{flag}='parquet:data/*.parquet'.{did_you_mean_path(path)}"
        )
    if kind == "parquet":
        from ifnd_tf.data import parquet_columns  # pyarrow is slow to import

        parquet_columns.check(f"--{flag}={dataset}", sorted(glob.glob(path, recursive=True)))
    if kind not in ("folder", "list") or _remote(path):
        return
    if kind == "folder" and os.path.isdir(path):
        _check_folder(flag, dataset, path)
    start = f"--{flag}={dataset}: expected {'a folder' if kind == 'folder' else 'a readable list'}."
    if not os.path.exists(path):
        raise UserError(f"{start} Received: {path}, which is not there.{did_you_mean_path(path)}")
    if kind == "folder" and not os.path.isdir(path):
        hint = _of_file(flag, path) or f" Did you mean --{flag}=list:{rest}?"
        raise UserError(f"{start} Received: {path}, which is a file.{hint}")
    if kind == "list":
        if os.path.isdir(path):
            hint = f" Did you mean --{flag}=folder:{rest}?"
            raise UserError(f"{start} Received: {path}, which is a folder.{hint}")
        if hint := _of_file(flag, path):
            raise UserError(f"{start} Received: {path}, which is none.{hint}")


def _check_folder(flag: str, dataset: str, path: str) -> None:
    """Raises `UserError` if no file of a folder looks like an image."""
    held: collections.Counter[str] = collections.Counter()
    denied: list[OSError] = []
    if _holds_images(path, held, denied):
        return
    listed = [f"{count:,} {extension}" for extension, count in held.most_common(5)]
    listed += [f"{error.filename} ({error.strerror})" for error in denied[:3]]
    hint = " Name the folder that holds the images, or unpack its archive."
    if held[".parquet"]:
        hint = f" Did you mean --{flag}='parquet:{path.rstrip('/')}/**/*.parquet'?"
    raise UserError(
        f"--{flag}={dataset}: expected image files in {path} or its subfolders. Received: none"
        f"{', but ' * bool(listed)}{', '.join(listed)}.{hint}"
    )


def _check_prepared(flag: str, name: str, data_dir: str) -> None:
    """Raises `UserError` if no folder of prepared data has the name. Does not import TensorFlow."""
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.utils.file_utils import list_data_dirs
    except ImportError as error:
        raise UserError(
            f"--{flag}=tfds:{name}: expected tensorflow-datasets to be installed. Received: "
            f"{error}. Run pip install tensorflow-datasets."
        ) from error
    folders = [os.path.expanduser(str(folder)) for folder in list_data_dirs(data_dir or None)]
    start = re.split(r"[/:]", name)[0]
    if any(_remote(each) or os.path.isdir(os.path.join(each, start)) for each in folders):
        return
    where = " or ".join(folders)
    known = tfds.list_builders(with_community_datasets=False)
    if start not in known:
        raise UserError(
            f"--{flag}=tfds:{name}: expected a name that tfds knows or that is prepared in "
            f"{where}. Received: {name!r}.{did_you_mean(start, known)} See "
            "https://www.tensorflow.org/datasets/catalog."
        )
    raise not_prepared(flag, name, where)


def not_prepared(flag: str, name: str, where: str) -> UserError:
    """The error for a name of tfds without data in a folder."""
    return UserError(
        f"--{flag}=tfds:{name}: expected prepared data in {where}. Received: none there. Set "
        '--data_dir, or prepare it once with python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{where}').download_and_prepare()\"."
    )


def _holds_images(path: str, others: collections.Counter[str], denied: list[OSError]) -> bool:
    """Whether any file looks like an image; the walk ends at the first, or after very many files.

    Args:
        path: the folder.
        others: gets the other files by extension.
        denied: gets the errors of folders that cannot be read.
    """
    extensions = tuple(FORMAT_BY_EXTENSION)
    for folder, names in _folders(path, denied):
        for name in names:
            if name.lower().endswith(extensions) or others.total() >= _ENOUGH:
                return True
            extension = os.path.splitext(name)[1].lower()
            others[extension or "no extension"] += 1
            full = os.path.join(folder, name)
            if extension in NO_IMAGES or not os.path.isfile(full):  # a pipe would wait
                continue
            with contextlib.suppress(OSError), open(full, "rb") as file:
                if format_of(file.read(SIGNATURE_BYTES)):
                    return True
    return False


def _folders(path: str, denied: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """The folders below a path with the names of their files; each once, however it is linked."""
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=denied.append):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        yield folder, [name for name in names if not name.startswith(HIDDEN)]


def _meant(flag: str, dataset: str) -> str:
    path, name = os.path.expanduser(dataset), re.sub(r"[-\s]", "_", dataset.lower())
    if re.match(r"https?://", dataset):
        return " Nothing is downloaded here: download and unpack it, and name its folder."
    if os.path.isdir(path):
        return f" Did you mean --{flag}=folder:{dataset}?"
    if path.endswith(".parquet"):
        return f" Did you mean --{flag}=parquet:{dataset}?"
    if os.path.isfile(path):
        return _of_file(flag, path) or f" Did you mean --{flag}=list:{dataset}?"
    name = _ALIASES.get(name, name)
    for known in (name, name.replace("_", "")):
        if known in _CATALOGUE:
            return f" Did you mean --{flag}=tfds:{known}?"
    head, colon, rest = dataset.partition(":")
    if colon and rest and head.lower() in _PREFIXES:
        return f" Did you mean --{flag}={head.lower()}:{rest.strip(chr(34))}?"
    if os.sep in dataset:
        near = did_you_mean_path(path).replace(" Did you mean ", f" Did you mean --{flag}=folder:")
        return near or f" There is no {path}."
    return did_you_mean(dataset, ["digits", *_CATALOGUE])


def _of_file(flag: str, path: str) -> str:
    """The advice for a file that is no list; "" for one that may be."""
    if path.lower().endswith(ARCHIVES):
        return " Unpack the archive, and name the folder that comes out."
    try:
        with open(path, "rb") as file:
            image = format_of(file.read(SIGNATURE_BYTES))
    except OSError:
        return ""
    folder = os.path.dirname(path) or "."
    return f" That is one image; did you mean --{flag}=folder:{folder}?" if image else ""


def _remote(path: str) -> bool:
    return "://" in path
