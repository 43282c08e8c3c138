"""The notebook runs from top to bottom, and every example on the run that the notebook makes."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf

from examples import finetune, linear_probe, own_model, search, serve
from ifnd_tf.data import datasets

pytestmark = pytest.mark.slow


ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory) -> dict:
    """The variables that docs/quickstart.ipynb ends with, and what it printed."""
    cells = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text())["cells"]
    scope: dict = {"printed": io.StringIO()}
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("notebook"))
    try:
        with contextlib.redirect_stdout(scope["printed"]):
            for cell in cells:
                if cell["cell_type"] == "code":
                    exec("".join(cell["source"]), scope)
        scope["path"] = os.path.abspath(scope["trained"].path)
    finally:
        os.chdir(before)
    return scope


@pytest.fixture(scope="module")
def path(notebook) -> str:
    """The directory of the notebook's run."""
    return notebook["path"]


def test_the_notebook_runs_from_top_to_bottom(notebook):
    assert notebook["features"].shape == (2, 32) and len(notebook["most_confident"]) == 5
    assert "untrained" in notebook["printed"].getvalue()


@pytest.fixture(scope="module")
def digit() -> bytes:
    """The file of the first training image."""
    train, _ = datasets.open_splits("digits")
    return tf.io.encode_png(train.pixels[0]).numpy()


def test_pretrain_returns_networks_that_take_images(notebook):
    trained = notebook["trained"]
    features = trained.encoder(tf.zeros([2, 8, 8, 3]))
    assert trained.projector(features).shape == (2, 128)
    assert trained.results["epochs"] == 2 and trained.results["train_loss"] > 0


def test_detection_in_a_model_of_somebody_else():
    history = own_model.main(epochs=5).history
    assert history["masked_share"][0] == 0 < history["masked_share"][-1]
    assert history["detection_acceptance_rate"][-1] == 1
    assert history["detection_precision"][-1] > 0.2  # chance: 0.1
    assert history["loss"][-1] < history["loss"][0]


def test_a_linear_probe_on_the_exported_features(path):
    assert linear_probe.main(path) > 0.6


def test_fine_tuning_trains_the_saved_models_own_weights(path):
    layer = finetune.SavedEncoder(f"{path}/saved_model")
    own = [weight.value for weight in layer.trainable_weights]
    assert all(a is b for a, b in zip(own, layer.saved.trainable_variables, strict=True))
    # A weight without a gradient would be a warning, and a frozen encoder far from this.
    assert finetune.main(path, epochs=3) > 0.5


def test_an_image_finds_itself_first(path, digit):
    (file, similarity), *others = search.main(path, digit)
    assert similarity == pytest.approx(1, abs=1e-4) and file.startswith("digits ")
    assert len(others) == 4 and all(cosine <= similarity for _, cosine in others)


def test_the_server_answers_with_the_embedding(path, digit):
    server = serve.server(path, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://localhost:{server.server_port}"
        with urllib.request.urlopen(url, data=digit) as answer:
            found = json.load(answer)["embedding"]
        with np.load(f"{path}/embeddings/embeddings.npz") as table:
            embedding = table["embedding"]
        assert max(embedding @ np.array(found)) == pytest.approx(1, abs=1e-4)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, data=b"not an image")
        assert refused.value.code == 400
        refused.value.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_saved_model_is_told_by_its_command_line(path):
    tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "show"]
    options = ["--dir", f"{path}/saved_model", "--tag_set", "serve",
               "--signature_def", "serving_default"]  # fmt: skip
    ran = subprocess.run([*tool, *options], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "DT_UINT8" in ran.stdout, ran.stderr
