"""Networks of keras.applications and KerasHub, from training to the exported files."""

import importlib.util
import pathlib
import subprocess
import sys

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from ifnd_tf.models import backbones
from tests import tiny
from tests.system.faults.equality import first_difference

ROOT = pathlib.Path(__file__).parents[2]
SIDE = 32
TINY = {**tiny.SETTINGS, "image_size": SIDE, "batch_size": 16, "epochs": 2}
HUB = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="the extra hub is not installed"
)
pytestmark = pytest.mark.slow


def run(path: pathlib.Path, backbone: str, *arguments: str) -> int:
    flags = [f"--{name}={value}" for name, value in TINY.items()]
    data = [
        "--dataset=digits",
        "--queue_size=32",
        "--subset_images=48",
        "--protocols=knn",
        "--seed=1",
    ]
    # In a process of its own: the networks of a few runs take 15 GB that TensorFlow never frees.
    command = [*flags, *data, f"--workdir={path}", f"--backbone={backbone}", *arguments]
    return subprocess.run([sys.executable, ROOT / "main.py", *command], check=False).returncode


def features(path: pathlib.Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Features of the same images by every exported file."""
    saved = tf.saved_model.load(str(path / "saved_model")).signatures["serving_default"]
    found = {"saved_model": saved(images=tf.constant(images))["features"].numpy()}
    found["keras"] = keras.models.load_model(path / "encoder.keras")(images).numpy()
    if (path / "encoder.onnx").exists():
        session = onnxruntime.InferenceSession(str(path / "encoder.onnx"))
        (found["onnx"],) = session.run(None, {"images": images.astype(np.float32)})
    if (path / "encoder.tflite").exists():
        lite = tf.lite.Interpreter(str(path / "encoder.tflite"))
        rows = []
        for image in images.astype(np.float32):
            lite.allocate_tensors()
            lite.set_tensor(lite.get_input_details()[0]["index"], image[None])
            lite.invoke()
            rows.append(lite.get_tensor(lite.get_output_details()[0]["index"])[0])
        found["tflite"] = np.stack(rows)
    return found


@pytest.mark.parametrize(
    "backbone",
    ["keras:EfficientNetB0", pytest.param("hub:vit_tiny_patch8", marks=HUB)],
)
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_it_trains_and_is_exported(backbone, tmp_path):
    names = ["saved_model", "keras", "onnx", "tflite"]
    formats = f"--export_formats={','.join(names)}"
    assert run(tmp_path, backbone, "--mode=train,export", formats) == 0
    images = np.random.default_rng(0).integers(0, 256, [2, SIDE, SIDE, 3], np.uint8)
    found = features(tmp_path, images)
    assert set(found) == set(names)
    expected = found.pop("saved_model")
    assert np.ptp(expected) > 0
    for name, value in found.items():
        np.testing.assert_allclose(
            value, expected, rtol=0, atol=1e-3 * np.abs(expected).max(), err_msg=name
        )


def test_dropout_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """As EfficientNet's; its random states are in the checkpoint."""

    def with_dropout(*args, **options):
        plain = build_encoder(*args, **options)
        return keras.Model(plain.inputs[0], keras.layers.Dropout(0.5)(plain.outputs[0]))

    build_encoder = backbones.build
    monkeypatch.setattr(backbones, "build", with_dropout)
    strategy = tf.distribute.get_strategy()
    for name, stops in (("whole", [0]), ("split", [1, 0])):
        for stop in stops:
            config = tiny.config(detector="none", stop_after_epoch=stop)
            tiny.train(config, strategy, tmp_path / name)
    assert first_difference(str(tmp_path / "whole"), str(tmp_path / "split")) is None


@HUB
def test_a_preset_gives_a_transformer_and_its_weights(tmp_path):
    import keras_hub

    preset = str(tmp_path / "preset")
    theirs = keras_hub.models.ViTBackbone(
        image_shape=(SIDE, SIDE, 3),
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )
    theirs.save_to_preset(preset)
    keras_hub.layers.ViTImageConverter(
        image_size=(SIDE, SIDE), scale=[1 / 127.5] * 3, offset=[-1.0] * 3
    ).save_to_preset(preset)
    start = [f"--init_from={preset}", "--freeze_epochs=2", "--weight_decay=0"]
    assert run(tmp_path / "run", f"hub:{preset}", "--mode=train,export", *start) == 0
    images = np.random.default_rng(0).integers(0, 256, [2, SIDE, SIDE, 3], np.uint8)
    expected = theirs(images / 127.5 - 1.0).numpy()[:, 0]
    for name, value in features(tmp_path / "run", images).items():
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-4, err_msg=name)


@HUB
def test_a_transformer_for_another_size_names_the_layer(tmp_path, capfd):
    import keras_hub

    preset = str(tmp_path / "preset")
    keras_hub.models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16
    ).save_to_preset(preset)
    assert run(tmp_path / "run", f"hub:{preset}", "--mode=train", f"--init_from={preset}") == 1
    assert "position_embedding/embeddings: expected (17, 8), received (5, 8)" in (
        capfd.readouterr().err
    )
