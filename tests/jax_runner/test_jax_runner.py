"""A lowered run against the run it was lowered from: Keras' `fit` is the reference."""

import dataclasses
import json
import pathlib
import shutil
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import main
from ifnd_tf.data import photometric
from ifnd_tf.evaluation import few_labels, linear_probe
from ifnd_tf.evaluation.embed import Embedder, Embeddings, labelled
from ifnd_tf.evaluation.knn import weighted_knn
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import build, open_data, sizes
from ifnd_tf.stages import train as training
from ifnd_tf.stages.run import Run
from jax_runner import accelerator, pixels
from jax_runner.artifact import Artifact
from lowering import __main__ as lower
from lowering import lift
from tests.jax_runner.processes import needs_jax, python, refuses, run_lowered

pytestmark = [pytest.mark.lowered, pytest.mark.slow, needs_jax]

# The learning rate is a sixtieth of the digits': at theirs, what float32 rounds differently
# grows to 0.7% of the loss within 50 steps, also between TensorFlow and its own XLA. The true
# labels are masked from the first step, for the same reason: clusters of nearly equal
# embeddings differ in a few labels.
FLAGS = [
    "--backbone=resnet_tiny",
    "--learning_rate=0.001",
    "--detector=oracle",
    "--epochs=5",
    "--online_knn_epochs=0",
    "--batch_norm_splits=2",
    "--protocols=knn,linear,few_labels",
    "--checkpoint_minutes=0",
]
SMALL = [
    *("--variants=none,oracle", "--seeds=1", "--epochs=1", "--protocols=knn", "--width=4"),
    *("--backbone=resnet_tiny", "--batch_size=256", "--queue_size=512", "--online_knn_epochs=0"),
]
CLUSTERED = [
    *FLAGS,
    *("--detector=ifnd", "--epochs=2", "--warmup_epochs=1", "--acceptance=constant"),
    *("--num_clusters=10,20", "--width=8"),
]


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Processes share what JAX compiled, which takes most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="module")
def config():
    return main.parse_flagfile("experiments/digits.flags", *FLAGS)


@pytest.fixture(scope="module")
def splits(config):
    return open_data.decoded(config)[1]


@pytest.fixture(scope="module")
def folder(config, splits, tmp_path_factory):
    path = tmp_path_factory.mktemp("lowered") / "digits"
    lower.lower(config, splits, path)
    lower.write_data(path / "data.npz", splits)
    return path


@pytest.fixture(scope="module")
def ran(folder):
    """A run from its first step to its end."""
    workdir = folder.parent / "whole"
    done = run_lowered(folder, workdir, f"--losses={folder / 'losses.npy'}")
    assert done.returncode == 0, done.stderr
    return workdir


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.means = []

    def on_train_batch_end(self, batch, logs=None):
        self.means.append(float(logs["loss"]))


@pytest.fixture(scope="module")
def fitted(config, splits, tmp_path_factory):
    """What main.py makes of the same flags: the model, and the losses."""
    losses, run = Losses(), RunDirectory(str(tmp_path_factory.mktemp("fit")), flags={})
    whole = training.fit

    def with_losses(*arguments, callbacks, **options):
        whole(*arguments, callbacks=[*callbacks, losses], **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit", with_losses)
        fitted = Run(
            dataclasses.replace(config, workdir=run.path),
            tf.distribute.get_strategy(),
            Progress(enabled=False),
        )
        fitted.splits, fitted.directory = splits, run
        model = training.train_model(fitted)
    return model, losses.means


def single(means, steps: int) -> np.ndarray:
    """Each step's own loss, from the running means of epochs."""
    sums = np.reshape(means, [-1, steps]) * np.arange(1, steps + 1)
    return np.diff(sums, axis=1, prepend=0.0).ravel()


def test_losses_equal_those_of_fit_for_50_steps(config, splits, folder, ran, fitted):
    steps = sizes.steps_per_epoch(config, splits.train)
    ours = single(np.load(folder / "losses.npy"), steps)
    theirs = single(fitted[1], steps)
    assert len(ours) == len(theirs) >= 50
    # The first step of an empty queue has a loss of 0.
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert values(ran, "masked_share")[-1] > 0.05


def test_both_reach_the_same_knn(config, splits, ran, fitted):
    def features(images):
        return {"features": fitted[0].encoder(photometric.normalise(images), training=False)}

    train, test = (
        labelled(
            Embedder(features)(
                build.ordered_batches(config, tf.distribute.get_strategy(), source),
                source.num_examples,
            )
        )
        for source in splits
    )
    options = {"neighbors": config.knn_neighbors, "temperature": config.knn_temperature}
    expected = dict(weighted_knn(train, test, **options))
    results = json.loads((ran / "results.json").read_text())
    assert abs(results["knn_top1"] - expected["knn_top1"]) < 0.02
    assert results["knn_top1"] > results["untrained_knn_top1"]
    few = dict(few_labels.label_subset_probe(train, test))
    for name in ("linear_1pct_top1", "linear_10pct_top1"):
        assert abs(results[name] - few[name]) < 0.03


def values(workdir: pathlib.Path, name: str) -> list:
    return [json.loads(x).get(name) for x in (workdir / "metrics.jsonl").read_text().splitlines()]


def lowered_clustering(path: pathlib.Path, splits, source: str) -> pathlib.Path:
    """A lowered run that detects false negatives before its second and last epoch."""
    flags = [*CLUSTERED, f"--detect_with={source}"]
    lower.lower(main.parse_flagfile("experiments/digits.flags", *flags), splits, path)
    lower.write_data(path / "data.npz", splits)
    return path


def test_a_run_with_detection_goes_on_in_the_middle_of_an_epoch(splits, tmp_path):
    folder = lowered_clustering(tmp_path / "lowered", splits, "encoder")
    stopped = run_lowered(folder, tmp_path / "parts", "--minutes=0")  # one step is done even so
    assert "after 1 of" in stopped.stdout and "out of time" in stopped.stdout
    assert run_lowered(folder, tmp_path / "parts").returncode == 0
    assert run_lowered(folder, tmp_path / "whole").returncode == 0
    for name in ("loss", "detection_nmi", "masked_share"):
        assert values(tmp_path / "parts", name) == values(tmp_path / "whole", name), name
    statistics = json.loads((tmp_path / "whole" / "detection" / "0001.json").read_text())
    assert statistics["accepted_share"] == pytest.approx(1.0, abs=0.001)
    assert statistics["precision"] > 0.12  # a tenth by chance


def test_kept_keys_are_clustered_where_they_are(splits, tmp_path):
    folder = lowered_clustering(tmp_path / "lowered", splits, "keys")
    # No images go in.
    assert all("state" in e for e in Artifact(folder).manifest["programs"]["embed"]["inputs"])
    done = run_lowered(folder, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    statistics = json.loads((tmp_path / "run" / "detection" / "0001.json").read_text())
    # What did not fill a batch in the first epoch, 30 of 1,438, has no key yet.
    assert statistics["accepted_share"] == pytest.approx(1408 / 1438, abs=0.001)
    assert statistics["precision"] > 0.12


def test_weights_come_back_and_the_saved_model_has_the_same_features(folder, ran, tmp_path):
    """Features by the lowered program, in jax, against the SavedModel that main.py exports."""
    shutil.copytree(ran, tmp_path / "run")
    program = (
        "import sys, pathlib, numpy as np, jax\n"
        "jax.config.update('jax_enable_x64', True)\n"
        "from jax_runner.artifact import Artifact\n"
        "from jax_runner.run_directory import read_state\n"
        "folder, run = map(pathlib.Path, sys.argv[1:])\n"
        "artifact = Artifact(folder)\n"
        "arrays, _ = read_state(run / 'state.npz', artifact.digest)\n"
        "state = [arrays[str(i)] for i in range(len(artifact.manifest['state']))]\n"
        "images = np.load(folder / 'data.npz')['test_images'][:128]\n"
        "from jax_runner.devices import chosen\n"
        "found = artifact.compile('features', chosen(None, 1, None))(state, images=images)\n"
        "np.save(run / 'features.npy', found['features'])\n"
    )
    done = python("-c", program, folder, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert lift.main([str(folder), str(tmp_path / "run")]) == 0

    flags = [f"--flagfile={tmp_path / 'run' / 'config.flags'}", f"--workdir={tmp_path / 'run'}"]
    assert main.main([*flags, "--mode=export"]) == 0
    saved = tf.saved_model.load(str(tmp_path / "run" / "saved_model"))
    images = tf.constant(np.load(folder / "data.npz")["test_images"][:128])
    ours = saved.signatures["serving_default"](images=images)["features"]
    expected = np.load(tmp_path / "run" / "features.npy")
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    assert main.main([*flags, "--mode=report"]) == 0


def test_a_comparison_runs_by_one_command_and_main_reads_it(tmp_path, capsys):
    lowered, runs = tmp_path / "lowered", tmp_path / "runs"
    flags = ["--flagfile=experiments/digits_compare.flags", *SMALL, f"--workdir={runs}"]
    assert lower.main([f"--out={lowered}", f"--write_data={lowered / 'data.npz'}", *flags]) == 0
    stopped = run_lowered(lowered, runs, "--minutes=0")
    assert "none-0  after 1 of 5 steps" in stopped.stdout
    assert not (runs / "oracle-0").exists()  # its turn has not come
    ended = run_lowered(lowered, runs)
    assert "all 2 finished" in ended.stdout, ended.stderr
    before = (runs / "none-0" / "results.json").read_text()
    assert "none-0  finished" in run_lowered(lowered, runs).stdout
    assert (runs / "none-0" / "results.json").read_text() == before

    capsys.readouterr()
    assert main.main(flags) == 0
    assert "2 runs to compare, 2 of them finished" in capsys.readouterr().out
    found = json.loads((runs / "compare.json").read_text())["variants"]
    assert found["none"]["metrics"]["knn_top1"]["mean"] == json.loads(before)["knn_top1"]
    assert (runs / "compare.html").stat().st_size > 10_000
    for name in ("none-0", "oracle-0"):
        config = f"--flagfile={runs / name / 'config.flags'}"
        assert main.main([config, f"--workdir={runs / name}", "--mode=report"]) == 0
        report = (runs / name / "report.html").read_text()
        results = json.loads((runs / name / "results.json").read_text())
        assert "kNN accuracy" in report and f"{results['knn_top1']:.1%}" in report


def test_the_probe_is_scikit_learns(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600).astype(np.int32)
    features = rng.normal(size=(600, 8)) + 0.8 * np.eye(8)[labels]
    features = (features * np.logspace(-2, 2, 8)).astype(np.float32)
    features[:, 3] = 1.0
    np.savez(tmp_path / "clouds.npz", features=features, labels=labels)
    program = (
        "import sys, numpy as np, jax\n"
        "jax.config.update('jax_enable_x64', True)\n"
        "from jax_runner import probe\n"
        "clouds = np.load(sys.argv[1])\n"
        "features, labels = clouds['features'], clouds['labels']\n"
        "np.save(sys.argv[2], probe.lbfgs_scores(features[:400], labels[:400], features[400:]))\n"
    )
    done = python("-c", program, tmp_path / "clouds.npz", tmp_path / "scores.npy")
    assert done.returncode == 0, done.stderr
    train = Embeddings(features[:400], labels[:400])
    expected = linear_probe.lbfgs_scores(train, features[400:])
    # Scores are determined up to a number per example.
    centred = [x - x.mean(1, keepdims=True) for x in (np.load(tmp_path / "scores.npy"), expected)]
    np.testing.assert_allclose(*centred, atol=2e-3)


def changed(folder: pathlib.Path, to: pathlib.Path, change) -> pathlib.Path:
    """A copy of the folder with another manifest."""
    shutil.copytree(folder, to)
    manifest = json.loads((to / "manifest.json").read_text())
    change(manifest)
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


def test_an_artifact_of_another_version_is_refused(folder, tmp_path):
    other = changed(folder, tmp_path / "a", lambda manifest: manifest.update(format=99))
    refuses(run_lowered(other, tmp_path / "run"), "format", "Received: 99")


def test_a_state_of_another_manifest_is_refused(folder, ran, tmp_path):
    other = changed(folder, tmp_path / "a", lambda manifest: manifest.update(random_loss=1.0))
    shutil.copytree(ran, tmp_path / "run")
    refuses(run_lowered(other, tmp_path / "run"), "state of this manifest")
    assert lift.main([str(other), str(tmp_path / "run")]) == 1


def test_other_data_is_refused(folder, tmp_path):
    data = dict(np.load(folder / "data.npz"))
    for name in ("train_images", "train_labels"):
        np.savez(tmp_path / "fewer.npz", **{**data, name: data[name][:-1]})
        done = run_lowered(folder, tmp_path / "run", f"--data={tmp_path / 'fewer.npz'}")
        refuses(done, "train_images as uint8", "1437")


def test_a_device_with_too_little_memory_is_refused(folder, tmp_path):
    done = run_lowered(folder, tmp_path / "run", "--memory_gigabytes=0.001")
    refuses(done, "a device with", "--batch_size")


def test_a_damaged_program_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "a")
    (tmp_path / "a" / "train.vhlo").write_bytes(b"?")
    refuses(run_lowered(tmp_path / "a", tmp_path / "run"), "train.vhlo", "another file")


def test_the_k_means_iteration_is_timed_against_its_products(tmp_path):
    assert lower.main([f"--out={tmp_path}", "--kmeans=4096x16x32"]) == 0
    done = python(tmp_path / "run.pyz", tmp_path, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "k-means of 4,096 x 16, K = 32" in done.stdout and "times the floor" in done.stdout
    assert json.loads((tmp_path / "run" / "kmeans.json").read_text())["iteration_seconds"] > 0


def test_a_session_measures_trains_and_brings_the_weights_back(splits, tmp_path):
    photos = tmp_path / "photos"
    for part, source in zip(("train", "test"), splits, strict=True):
        for index in range(64):
            path = photos / part / str(source.labels[index]) / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_png(source.pixels[index]).numpy())
    with tarfile.open(tmp_path / "images.tgz", "w:gz") as archive:
        archive.add(photos, "photos")
    flags = [f"--dataset=folder:{photos}", "--detector=none", "--epochs=11", "--protocols=knn"]
    flags += ["--width=4", "--batch_size=32", "--queue_size=64", "--batch_norm_splits=2"]
    assert lower.main([f"--out={tmp_path / 'lowered' / 'run'}", *flags]) == 0
    assert lower.main([f"--out={tmp_path / 'lowered' / 'kmeans'}", "--kmeans=512x8x16"]) == 0
    packing = [str(tmp_path / "lowered"), f"--images={tmp_path / 'images.tgz'}"]
    assert accelerator.main(["pack", *packing, f"--out={tmp_path / 'pack.tar.xz'}"]) == 0

    # Decoded here, as the environment there has no Pillow.
    pack = accelerator.unpack(tmp_path / "pack.tar.xz")
    assert pixels.main([str(pack / "images.tgz"), str(pack / "images.npz")]) == 0
    session = ("run", pack, f"--out={tmp_path / 'out'}", "--no-peer")
    done = python("-m", "jax_runner.accelerator", *session)
    assert "all 2 finished" in done.stdout, done.stderr
    # k-means comes first; of the epochs the tenth and the last have a line.
    lines = [line for line in done.stdout.splitlines() if "images/s" in line and "/11" in line]
    assert [line.split()[2] for line in lines] == ["10/11", "11/11"]
    assert done.stdout.index("k-means of 512") < done.stdout.index("epoch 10/11")

    with tarfile.open(tmp_path / "out" / "runs.tar.gz") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    folder, run = tmp_path / "lowered" / "run", tmp_path / "out" / "run"
    assert lift.main([str(folder), str(run)]) == 0
    before = json.loads((run / "results.json").read_text())["knn_top1"]
    config = [f"--flagfile={run / 'config.flags'}", f"--workdir={run}", "--mode=evaluate"]
    assert main.main(config) == 0
    after = json.loads((run / "results.json").read_text())["knn_top1"]
    assert abs(after - before) < 0.05
