"""What lowered runs do in NumPy, against what main.py does in TensorFlow and scikit-learn."""

import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data.array_source import ArraySource
from ifnd_tf.data.datasets import open_splits
from ifnd_tf.data.permutation import permuted
from ifnd_tf.data.scan import scan
from ifnd_tf.errors import UserError
from ifnd_tf.evaluation import linear_probe
from ifnd_tf.evaluation.embed import Embeddings
from jax_runner import order, pixels, probe
from jax_runner.artifact import Artifact
from lowering import __main__ as lower
from lowering import programs, stablehlo, write
from tests import tiny


@pytest.mark.parametrize(
    ("count", "seed", "epoch"),
    [(1, 0, 0), (2, 0, 0), (1437, 5, 7), (50_000, 2**31 + 1, 199), (65_537, 0, 0), (300_000, 3, 2)],
)
def test_epochs_have_the_order_of_the_pipeline(count, seed, epoch):
    expected = permuted(
        tf.range(count, dtype=tf.int64), count, tf.constant([seed & 0x7FFFFFFF, epoch])
    )
    np.testing.assert_array_equal(order.epoch_order(count, seed, epoch), expected)


@pytest.fixture
def clouds() -> tuple[Embeddings, Embeddings]:
    """Three classes that overlap, in 8 features of unlike scales, one of them constant."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600).astype(np.int32)
    features = rng.normal(size=(600, 8)) + 0.8 * np.eye(8)[labels]
    features = (features * np.logspace(-2, 2, 8)).astype(np.float32)
    features[:, 3] = 1.0
    return Embeddings(features[:400], labels[:400]), Embeddings(features[400:], labels[400:])


def test_the_sgd_probe_is_the_products(clouds):
    train, test = clouds
    options = {"epochs": 5, "learning_rate": 3.0, "seed": 1, "batch_size": 64}
    expected = linear_probe.sgd_scores(train, test.features, **options)
    np.testing.assert_allclose(
        probe.sgd_scores(*train, test.features, **options), expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_pixels_are_those_of_the_folder_source(tmp_path):
    rng = np.random.default_rng(0)
    for part, number in (("train", 5), ("test", 2)):
        for label in ("b", "a"):
            folder = tmp_path / "data" / part / label
            folder.mkdir(parents=True)
            for i in range(number):
                image = tf.constant(rng.integers(0, 256, (8, 8, 3)), tf.uint8)
                tf.io.write_file(str(folder / f"{i}.jpg"), tf.io.encode_jpeg(image))
    with tarfile.open(tmp_path / "data.tgz", "w:gz") as archive:
        archive.add(tmp_path / "data", "data")
    splits = open_splits(f"folder:{tmp_path / 'data'}")
    for source in (tmp_path / "data", tmp_path / "data.tgz"):
        found = pixels.read(source)
        for part, expected in zip(("train", "test"), splits, strict=True):
            scan(expected)
            np.testing.assert_array_equal(found[f"{part}_images"], expected.pixels)
            np.testing.assert_array_equal(found[f"{part}_labels"], expected.labels)


def test_what_is_no_folder_of_classes_is_refused(tmp_path, capsys):
    (tmp_path / "x.txt").write_text("no archive")
    for source in (tmp_path, tmp_path / "x.txt"):
        assert pixels.main([str(source), str(tmp_path / "out.npz")]) == 1
        assert capsys.readouterr().err.startswith("error: expected")


def test_a_program_is_portable_and_names_what_it_changes():
    counter = tf.Variable(2.0)
    unread = tf.Variable(0.0)

    def step(x):
        counter.assign_add(tf.reduce_sum(x))
        return {"twice": x * 2.0 + unread}

    found = stablehlo.lower(step, {"x": tf.TensorSpec([3])}, [unread, counter])
    assert found.content.startswith(b"ML\xefR\rStableHLO_v1.0.0")
    assert [e.get("name", e.get("state")) for e in found.inputs] == ["x", 1, 0]
    assert [e.get("name", e.get("state")) for e in found.outputs] == ["twice", 1]
    assert float(counter) == 2.0  # lowering runs nothing
    assert str(write.ROOT).encode() not in found.content


@pytest.mark.parametrize("flag", ["--hierarchy=nested", "--infeed_dtype=float32"])
def test_settings_that_a_lowered_run_lacks_are_refused(flag, tmp_path, capsys):
    assert lower.main([f"--out={tmp_path / 'out'}", flag]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {flag.partition('=')[0]}: expected")


def test_images_that_must_be_reduced_are_refused():
    images = np.zeros((4, 9, 9, 3), np.uint8)
    source = ArraySource("large", images, np.zeros(4, np.int32))
    with pytest.raises(UserError, match="at most --image_size"):
        programs.sizes(tiny.config(image_size=8), source, None)


def test_the_runner_imports_neither_tensorflow_nor_scikit_learn(tmp_path):
    write.write_runner(tmp_path / "run.pyz")
    program = (
        "import sys, runpy\n"
        "for name in ('tensorflow', 'keras', 'sklearn'): sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(tmp_path / 'run.pyz')!r})\n"
        "from jax_runner import detection, evaluation, images, measure, order, probe\n"
        "from jax_runner import run_directory, training\n"
        "assert 'run.pyz' in training.__file__\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match="lowering wrote"):
        Artifact(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(UserError, match="expected an artifact of format 3. Received: 0"):
        Artifact(tmp_path)
