"""--init_from: runs that start from the weights of others, continue and change them."""

import gc
import importlib
import shutil
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf

import main
from ifnd_tf.data.photometric import normalise
from ifnd_tf.errors import UserError
from ifnd_tf.export.saved_model import export
from ifnd_tf.models import keras_applications
from ifnd_tf.models.network import Network
from ifnd_tf.models.weights import Weight, misfits, weights_of
from ifnd_tf.stages import build, initial_weights
from tests import tiny
from tests.conftest import make_strategy

TINY = [f"--{name}={value}" for name, value in tiny.SETTINGS.items()]
FILES = ["", "/encoder.keras", "/encoder.weights.h5", "/saved_model"]


def run(*arguments: str) -> int:
    return main.main([*TINY, "--dataset=digits", "--subset_images=160", *arguments])


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> str:
    """A finished run, exported."""
    path = str(tmp_path_factory.mktemp("runs") / "old")
    assert run(f"--workdir={path}", "--mode=train,export") == 0
    return path


def started(report=lambda text: None, **settings):
    config = tiny.config(**settings)
    start = initial_weights.starter(config, report)
    return build.model(config, tf.distribute.get_strategy(), num_examples=160, start=start)


def values(model: keras.Model) -> list[np.ndarray]:
    return [weight.value for weight in weights_of(model)]


def assert_equal(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def differ(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return any(np.any(a != b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_file_of_a_run_gives_its_encoder(old, file):
    before = tf.saved_model.load(f"{old}/saved_model").trainable_variables
    said: list[str] = []
    model = started(said.append, init_from=old + file)
    count = len(model.encoder.trainable_variables)
    assert_equal([v.numpy() for v in model.encoder.trainable_variables],
                 [v.numpy() for v in before[:count]])  # fmt: skip
    assert_equal(values(model.encoder), values(model.key_encoder))
    assert_equal(values(model.projector), values(model.key_projector))
    with_projector = file in ("", "/saved_model")
    assert with_projector == ("encoder and projector from" in said[0])
    projector = [v.numpy() for v in model.projector.trainable_variables]
    assert with_projector != differ(projector, [v.numpy() for v in before[count:]])


def test_batch_statistics_are_taken_too(old):
    fresh, model = started(), started(init_from=old)
    assert differ(
        [v.numpy() for v in fresh.encoder.non_trainable_variables],
        [v.numpy() for v in model.encoder.non_trainable_variables],
    )


@pytest.mark.parametrize("file", FILES)
def test_layers_that_do_not_fit_are_named_with_their_shapes(old, file):
    shapes = r"stem/kernel: expected \(3, 3, 3, 8\), received \(3, 3, 3, 4\)"
    with pytest.raises(UserError, match=shapes) as raised:
        started(init_from=old + file, width=8)
    assert ("That run has --width=4" in str(raised.value)) == (file == "")


@pytest.mark.parametrize("file", FILES)
def test_another_architecture_is_refused(old, file):
    layer = r"\w+/kernel: expected \([\d, ]+\), received (\([\d, ]+\)|none)"
    with pytest.raises(UserError, match=f"(the network|of) resnet_small.*{layer}"):
        started(init_from=old + file, backbone="resnet_small")


def test_a_start_whose_checkpoints_are_damaged_asks_for_another(old, tmp_path):
    shutil.copytree(old, tmp_path / "old")
    for file in (tmp_path / "old" / "checkpoints").rglob("variables*"):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"all damaged \(.*give --init_from another") as raised:
        started(init_from=str(tmp_path / "old"))
    assert "--workdir" not in str(raised.value)


def test_layers_that_lack_are_named():
    two = [Weight(name, np.zeros([3, 4])) for name in ("stem/kernel", "block/kernel")]
    lacks = "block/kernel: expected (3, 4), received none; expected 2 weights, received 1"
    assert misfits(two, two[:1]) == lacks
    more = "block/kernel: expected none, received (3, 4); expected 1 weights, received 2"
    assert misfits(two[:1], two) == more


def test_a_projector_of_another_width_starts_fresh_and_is_named(old):
    said: list[str] = []
    started(said.append, init_from=old, projection_dim=16)
    assert "projection/kernel: expected (4, 16), received (4, 8)" in said[0]


def test_a_savedmodel_of_others_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "theirs"))
    with pytest.raises(UserError, match="SavedModel that --mode=export wrote.*are not listed"):
        started(init_from=str(tmp_path / "theirs"))


def test_a_run_with_other_flags_is_told_how_to_continue(old, capsys):
    assert run(f"--workdir={old}", "--epochs=3", "--mode=train") == 1
    assert f"--init_from={old} --workdir={old}-2" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_continued_with_other_flags(old, tmp_path, capsys):
    new = f"--workdir={tmp_path}/new"
    more = ["--mode=train", "--epochs=3", "--batch_size=16", f"--init_from={old}"]
    assert run(new, *more) == 0
    assert "encoder and projector from" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_has_begun_needs_its_start_no_more(old, tmp_path):
    source = str(tmp_path / "source.keras")
    shutil.copy(f"{old}/encoder.keras", source)
    settings = [f"--workdir={tmp_path}/run", "--mode=train", f"--init_from={source}"]
    assert run(*settings, "--stop_after_epoch=1") == 0
    (tmp_path / "source.keras").unlink()
    assert run(*settings) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    ["default", pytest.param("mirrored-2", marks=[pytest.mark.slow, pytest.mark.distribution])],
)
def test_a_frozen_encoder_waits_for_its_projector_and_resumes(strategy, old, tmp_path):
    settings = {"init_from": old, "freeze_epochs": 1, "detector": "none", "weight_decay": 0.1}
    before = started(**settings)
    strategy, split = make_strategy(strategy), tmp_path / "split"
    frozen, _ = tiny.train(tiny.config(**settings, stop_after_epoch=1), strategy, split)
    assert_equal([v.numpy() for v in before.encoder.trainable_variables],
                 [v.numpy() for v in frozen.encoder.trainable_variables])  # fmt: skip
    assert differ(values(before.projector), values(frozen.projector))
    resumed, _ = tiny.train(tiny.config(**settings), strategy, split)
    whole, _ = tiny.train(tiny.config(**settings), strategy, tmp_path / "whole")
    assert differ(values(frozen.encoder), values(resumed.encoder))
    for part in ("encoder", "projector", "key_encoder"):
        assert_equal(values(getattr(whole, part)), values(getattr(resumed, part)))


@pytest.mark.parametrize(
    "optimizer", ["sgd", *(pytest.param(x, marks=pytest.mark.slow) for x in ("adamw", "lars"))]
)
def test_the_encoders_learning_rate_is_scaled(optimizer):
    """A step's length is proportional to it, decay included; the projector's is unchanged."""

    def steps(scale: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
        config = tiny.config(
            optimizer=optimizer, weight_decay=0.1, encoder_learning_rate_scale=scale,
            detector="none",
        )  # fmt: skip
        strategy = tf.distribute.get_strategy()
        model = build.model(config, strategy, num_examples=160, steps_per_epoch=5)
        parts = [model.encoder.trainable_variables, model.projector.trainable_variables]
        before = [[v.numpy() for v in part] for part in parts]
        batch = next(iter(build.training_batches(config, strategy, tiny.splits().train, 0)))
        model.train_step(batch)
        return tuple(
            [v.numpy() - old for v, old in zip(part, values, strict=True)]
            for part, values in zip(parts, before, strict=True)
        )

    (encoder, projector), (slower, same) = steps(1.0), steps(0.25)
    for one, quarter in zip(encoder, slower, strict=True):
        np.testing.assert_allclose(quarter, 0.25 * one, rtol=1e-3, atol=1e-7)
    assert_equal(projector, same)
    assert differ(encoder, slower)


@pytest.mark.slow
def test_auto_without_weights_trains_from_scratch_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    auto = ["--backbone=auto", "--init_from=auto", "--mode=train", "--epochs=1"]
    assert run(f"--workdir={tmp_path}/run", "--warmup_epochs=0", *auto) == 0
    told = capsys.readouterr().out
    assert "from scratch; a pretrained encoder would give" in told
    assert "backbone resnet_small, chosen by auto" in told


def test_freezing_random_weights_is_refused():
    with pytest.raises(UserError, match="expected --init_from="):
        tiny.config(freeze_epochs=1)


@pytest.fixture
def keras_cache(monkeypatch):
    """Sets the folder of Keras' cache, for which Keras reads KERAS_HOME at its import alone."""

    def set_to(folder):
        monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(folder))

    return set_to


@pytest.mark.slow
def test_imagenet_without_a_network_says_what_to_fetch(keras_cache, monkeypatch):
    def unreachable(*args, **options):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    keras_cache("/nonexistent")
    fetch = r"fetch https://\S+no_top_v2.h5 on another machine, and put the file into"
    for home in ("~/.keras", "/nonexistent"):
        if home == "/nonexistent":
            monkeypatch.setenv("KERAS_HOME", home)
        else:
            monkeypatch.delenv("KERAS_HOME", raising=False)
        with pytest.raises(UserError, match=f"cache, {home}/models, .*{fetch} {home}/models here"):
            started(backbone="keras:MobileNetV3Small", image_size=32, init_from="imagenet")


# The smallest network of each module of keras.applications.
FAMILIES = (
    "ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2",
    "InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50",
    "ResNet50V2", "VGG16", "VGG19", "Xception",
)  # fmt: skip
SIDE = 76  # what Inception needs, and one


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, [2, SIDE, SIDE, 3], np.uint8)


def prepared(name: str, images: np.ndarray) -> np.ndarray:
    """Images as the preprocess_input of a network's family prepares them."""
    module = importlib.import_module(getattr(keras.applications, name).__module__)
    return module.preprocess_input(images.astype(np.float32))


def keras_features(model: keras.Model, name: str, images: np.ndarray) -> np.ndarray:
    """Features by Keras alone."""
    return model(prepared(name, images), training=False).numpy()


def exported_features(network: Network, images: np.ndarray, path) -> np.ndarray:
    export(str(path), network, images.shape[1])
    loaded = tf.saved_model.load(str(path))
    return loaded.signatures["serving_default"](images=tf.constant(images))["features"].numpy()


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_input_scale_of_a_family_is_that_of_its_preprocess_input(name, images):
    view = keras.Input([SIDE, SIDE, 3])
    scaled = keras.Model(view, keras_applications.input_scale(name).of_normalised(view) + 0.0)
    found = scaled(normalise(tf.constant(images))).numpy()
    np.testing.assert_allclose(found, prepared(name, images), rtol=1e-5, atol=1e-3)


@pytest.fixture
def freed():
    """Frees the networks of a test, of which some take a gigabyte."""
    yield
    keras.backend.clear_session()
    gc.collect()


# One for each scale of the input, in the network or before it; all families: the test above.
@pytest.mark.slow
@pytest.mark.usefixtures("freed")
@pytest.mark.parametrize("name", ["ConvNeXtTiny", "EfficientNetB0", "MobileNetV2", "VGG16"])
def test_a_network_of_keras_gets_images_as_keras_prepares_them(name, images, tmp_path):
    theirs = getattr(keras.applications, name)(
        include_top=False, pooling="avg", weights=None, input_shape=(SIDE, SIDE, 3)
    )
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            # EfficientNet's: as ImageNet's weights set it, with the factor that Keras adds.
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign(np.square([0.229, 0.224, 0.225]))
            layer.finalize_state()
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    config = tiny.config(
        backbone=f"keras:{name}", image_size=SIDE, init_from=str(tmp_path / "theirs.weights.h5")
    )
    network = build.network(config)
    initial_weights.starter(config)(network)
    expected = keras_features(theirs, name, images)
    assert_close(network.features(tf.constant(images)).numpy(), expected)
    if name == "VGG16":  # channels reversed, means subtracted; the others' exports take longer
        assert_close(exported_features(network, images, tmp_path / "saved"), expected)


@pytest.mark.slow
def test_imagenet_weights_come_from_keras_cache(images, keras_cache, tmp_path, monkeypatch):
    """EfficientNet's in particular, whose network differs with and without them."""
    keras_cache(tmp_path)
    monkeypatch.setattr("keras.src.utils.file_utils.validate_file", lambda *args, **options: True)
    file = tmp_path / "models" / "efficientnetb0_notop.h5"
    file.parent.mkdir()
    random = keras.applications.EfficientNetB0(include_top=False, weights=None, pooling="avg")
    for layer in random.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign([0.229, 0.224, 0.225])  # squares of what is meant
    random.save_weights(tmp_path / "file.weights.h5")
    shutil.move(tmp_path / "file.weights.h5", file)

    def load(self, path, *args, **options):  # the cache's names end as those of Keras 2
        shutil.copy(path, tmp_path / "copy.weights.h5")
        original(self, tmp_path / "copy.weights.h5")

    original = keras.Model.load_weights
    monkeypatch.setattr(keras.Model, "load_weights", load)
    theirs = keras.applications.EfficientNetB0(
        include_top=False, pooling="avg", weights="imagenet", input_shape=(SIDE, SIDE, 3)
    )
    config = tiny.config(backbone="keras:EfficientNetB0", image_size=SIDE, init_from="imagenet")
    network = build.network(config)
    initial_weights.starter(config)(network)
    expected = keras_features(theirs, "EfficientNetB0", images)
    assert_close(network.features(tf.constant(images)).numpy(), expected)


def test_an_efficientnet_that_never_saw_imagenets_statistics_is_refused(tmp_path):
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Normalization(axis=-1)(images))
    with pytest.raises(UserError, match="has no mean and variance"):
        weights_of(model)
