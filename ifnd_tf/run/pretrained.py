"""Recognises the files that `--init_from` and `--backbone` name, without TensorFlow."""

import importlib.util
import os
import zipfile

from ifnd_tf.config.model import VIT
from ifnd_tf.errors import UserError, did_you_mean_path
from ifnd_tf.run.files import is_saved_model
from ifnd_tf.run.records import RunReader

# The network of --init_from=auto, and the file in Keras' cache that holds its ImageNet weights.
AUTO_BACKBONE, _AUTO_FILE = "keras:EfficientNetB0", "efficientnetb0_notop.h5"
# Flags that decide the shapes of an encoder's weights.
NETWORK = ("backbone", "stem", "depth", "width", "image_size", "hidden_dim", "projection_dim")
# Flags that decide how the encoder's images were decoded.
_DECODING = ("background", "sixteen_bits")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_KINDS = (
    "a run directory, a .keras, .weights.h5 or .h5 file, a SavedModel, a KerasHub preset's folder, "
    "or imagenet"
)


def kind(init_from: str) -> str:
    """The kind of `--init_from`: run, keras, weights, saved_model, preset or imagenet.

    Raises:
        UserError: for a path on this machine's disk that does not exist or is none of these.
    """
    if init_from == "imagenet":
        return "imagenet"
    path = os.path.expanduser(init_from)
    if "://" not in path and not os.path.exists(path):
        raise UserError(
            f"--init_from: expected {_KINDS}. Received: {init_from!r}, which is not there."
            f"{did_you_mean_path(path)}"
        )
    found = _kind_of_file(path) if _is_file(path) else _kind_of_folder(path)
    if not found:
        raise UserError(
            f"--init_from: expected {_KINDS}. Received: {init_from!r}, which is none of these."
        )
    return found


def check(init_from: str, backbone: str, run_path: str) -> None:
    """Raises `UserError` for an `--init_from`, or a hub: `--backbone`, that cannot be right.

    Args:
        init_from, backbone: as the flags give them.
        run_path: the run's directory; once it holds a run, `init_from` is not read any more.
    """
    _check_hub(backbone)
    if init_from in ("", "auto"):
        return
    _check_another(init_from, run_path)
    if RunReader(run_path).flags():
        return
    found = kind(init_from)
    if found == "imagenet" and not backbone.startswith("keras:") and backbone != "auto":
        raise UserError(
            "--init_from=imagenet: expected --backbone=keras:NAME, the networks that Keras has "
            f"weights of. Received: --backbone={backbone}; try --backbone={AUTO_BACKBONE}."
        )
    if found == "preset" and not backbone.startswith("hub:"):
        raise UserError(
            f"--init_from={init_from}: expected --backbone=hub:{init_from} with a KerasHub preset. "
            f"Received: --backbone={backbone}."
        )
    if found == "run":
        _check_run(init_from)


def check_saved_model(path: str) -> None:
    """Raises `UserError` if `--saved_model` names no SavedModel on this machine's disk."""
    if path and "://" not in path and not is_saved_model(os.path.expanduser(path)):
        raise no_saved_model("saved_model", path)


def no_saved_model(flag: str, path: str) -> UserError:
    """The error for a folder without a SavedModel."""
    return UserError(
        f"--{flag}: expected the directory of a SavedModel. Received: {path!r}, which has no "
        f"saved_model.pb; correct the path.{did_you_mean_path(os.path.expanduser(path))}"
    )


def encoder_flags(init_from: str) -> dict[str, str]:
    """The encoder's flags of a run, or of the run whose export wrote a file; {} for others."""
    if init_from in ("", "auto", "imagenet"):
        return {}
    path = os.path.expanduser(init_from).rstrip("/")
    flags = RunReader(path).flags() or RunReader(os.path.dirname(path) or ".").flags()
    return {name: flags[name] for name in (*NETWORK, *_DECODING) if name in flags}


def keras_cache() -> str:
    """The folder of the weights that Keras has downloaded."""
    return os.path.join(os.environ.get("KERAS_HOME") or "~/.keras", "models")


def in_keras_cache() -> bool:
    """Whether Keras has downloaded the weights of `AUTO_BACKBONE` before."""
    return os.path.isfile(os.path.join(os.path.expanduser(keras_cache()), _AUTO_FILE))


def auto_start(backbone: str, image_size: int) -> str:
    """The value of `--init_from=auto`."""
    takes = backbone in ("auto", AUTO_BACKBONE) and image_size >= 32
    return "imagenet" if takes and in_keras_cache() else ""


def auto_backbone(init_from: str) -> str:
    """The value of `--backbone=auto` once `--init_from` is decided: the network that it needs."""
    if init_from == "imagenet":
        return AUTO_BACKBONE
    if not init_from or kind(init_from) != "run":
        return "resnet_small"
    return RunReader(os.path.expanduser(init_from)).flags()["backbone"]


def _is_file(path: str) -> bool:
    return path.endswith((".keras", ".h5")) if "://" in path else os.path.isfile(path)


def _kind_of_file(path: str) -> str:
    found = {".keras": "keras", ".h5": "weights"}.get(os.path.splitext(path)[1], "")
    if "://" in path or not found:
        return found
    with open(path, "rb") as file:
        whole = zipfile.is_zipfile(file) if found == "keras" else file.read(8) == _HDF5
    if not whole:
        raise UserError(
            f"--init_from: expected a whole {'.keras' if found == 'keras' else 'HDF5'} file. "
            f"Received: {path!r}, whose contents are something else; copy it again."
        )
    return found


def _kind_of_folder(path: str) -> str:
    if RunReader(path).flags():
        return "run"
    if "://" in path:
        return "saved_model"
    names = {"saved_model.pb": "saved_model", "config.json": "preset"}
    return next((k for n, k in names.items() if os.path.isfile(os.path.join(path, n))), "")


def _check_another(init_from: str, run_path: str) -> None:
    if os.path.realpath(os.path.expanduser(init_from)) == os.path.realpath(run_path):
        raise UserError(
            f"--init_from: expected another directory than the run's own. Received: {init_from!r}; "
            "choose another --workdir for the new run."
        )


def _check_run(init_from: str) -> None:
    if "://" in init_from:
        return
    if not os.path.isdir(os.path.join(os.path.expanduser(init_from), "checkpoints")):
        raise UserError(
            f"--init_from: expected a run with a checkpoint. Received: {init_from!r}, which has "
            "none; train that run first."
        )


def _check_hub(backbone: str) -> None:
    kind_, _, name = backbone.partition(":")
    if kind_ != "hub":
        return
    folder = os.path.expanduser(name)
    if not VIT.fullmatch(name) and not os.path.isfile(os.path.join(folder, "config.json")):
        raise UserError(
            "--backbone: expected hub:vit_SIZE_patchN with a size of tiny, small, base, large or "
            "huge, or hub:FOLDER with a KerasHub preset's config.json in it. Received: "
            f"{backbone!r}.{did_you_mean_path(folder) if os.sep in name else ''}"
        )
    if importlib.util.find_spec("keras_hub") is None:
        raise UserError(
            f"--backbone={backbone}: expected the package keras-hub. Received: none installed; "
            'pip install "ifnd-tf[hub]", or choose another --backbone.'
        )
