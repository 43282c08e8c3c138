"""The spelling of a data set's name, checked without TensorFlow: mistakes are reported at once."""

import glob
import os
import re

from ifnd_tf.data import first_look
from ifnd_tf.data.image_formats import ARCHIVES, SIGNATURE_BYTES, format_of
from ifnd_tf.errors import UserError, did_you_mean, did_you_mean_path

_WEB = ("http://", "https://")
_OF_WEB = " Nothing is downloaded here: download and unpack it, and name its folder."
_PREFIXES = ("folder", "list", "tfds", "parquet")
KINDS = "digits, folder:PATH, list:FILE, tfds:NAME[/CONFIG] or parquet:GLOB"

# Data sets of tfds that people name without "tfds:".
_CATALOGUE = (
    "caltech101", "cifar10", "cifar100", "cars196", "dtd", "emnist", "eurosat", "fashion_mnist",
    "food101", "imagenet2012", "imagenette", "imagewoof", "kmnist", "mnist", "omniglot",
    "oxford_flowers102", "oxford_iiit_pet", "places365_small", "stanford_dogs", "stl10",
    "svhn_cropped", "tf_flowers",
)  # fmt: skip
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
        deeper = any(os.path.dirname(each) != path.rstrip("/") for each in files)
        inside = "**/" if deeper else ""
        raise UserError(
            f"--{flag}: expected a pattern of Parquet files. Received: {rest!r}, a folder with "
            f"{len(files)}. Did you mean --{flag}='parquet:{rest.rstrip('/')}/{inside}*.parquet'?"
        )
    if kind == "parquet":
        files = sorted(glob.glob(path, recursive=True))
        if not files:
            raise UserError(
                f"--{flag}: expected Parquet files. Received: {rest!r}, which matches none; quote "
                f"the pattern, as in --{flag}='parquet:data/*.parquet'.{did_you_mean_path(path)}"
            )
        from ifnd_tf.data import parquet_columns  # pyarrow is slow to import

        parquet_columns.check(f"--{flag}={dataset}", files)
    if kind in ("folder", "list") and path.startswith(_WEB):
        raise UserError(f"--{flag}: expected a path. Received: {rest!r}.{_OF_WEB}")
    if kind not in ("folder", "list") or _remote(path):
        return
    if kind == "folder" and os.path.isdir(path):
        first_look.folder(f"--{flag}={dataset}", flag, path)
    start = f"--{flag}={dataset}: expected {'a folder' if kind == 'folder' else 'a readable list'}."
    if not os.path.exists(path):
        hint = _of_missing(flag, kind, path)
        raise UserError(f"{start} Received: {path!r}, which is not there.{hint}")
    if kind == "folder" and not os.path.isdir(path):
        hint = _of_file(flag, path) or f" Did you mean --{flag}=list:{rest}?"
        raise UserError(f"{start} Received: {path}, which is a file.{hint}")
    if kind == "list":
        if os.path.isdir(path):
            hint = f" Did you mean --{flag}=folder:{rest}?"
            raise UserError(f"{start} Received: {path}, which is a folder.{hint}")
        if hint := _of_file(flag, path):
            raise UserError(f"{start} Received: {path}, which is none.{hint}")
        first_look.image_list(path, data_dir)


def _of_missing(flag: str, kind: str, path: str) -> str:
    """The advice for a path that is not there."""
    meant, folder = f" Did you mean --{flag}={kind}:", path
    if os.path.exists(path.strip()):
        return f"{meant}{path.strip()}, without the space?"
    while kind == "folder" and set("*?") & set(folder):
        folder = os.path.dirname(folder) or "."
    if folder != path and os.path.isdir(folder):
        return f"{meant}{folder}? {kind}: takes no pattern."
    return did_you_mean_path(path).replace(" Did you mean ", meant)


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


def _meant(flag: str, dataset: str) -> str:
    path, name = os.path.expanduser(dataset), re.sub(r"[-\s]", "_", dataset.lower())
    if dataset.startswith(_WEB):
        return _OF_WEB
    if re.match(r"(hf|huggingface)\b", dataset):
        return (
            " Nothing is downloaded here: download the data set's Parquet files, and name them, as "
            f"in --{flag}='parquet:FOLDER/**/*.parquet'."
        )
    if os.path.isdir(path) or (_remote(path) and not os.path.splitext(path)[1]):
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
    if os.sep in dataset and not _remote(path):
        near = did_you_mean_path(path).replace(" Did you mean ", f" Did you mean --{flag}=folder:")
        return near or f" There is no {path}."
    near = did_you_mean(dataset, ["digits", *_CATALOGUE])
    return near if "digits" in near else near.replace("mean ", f"mean --{flag}=tfds:")


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
