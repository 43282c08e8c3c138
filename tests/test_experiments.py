"""Every flagfile parses, says what it is, and makes a model and a pipeline of matching shapes."""

import contextlib
import dataclasses
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import main
from ifnd_tf.config import Config, treatments
from ifnd_tf.config.num_clusters import resolve_num_clusters
from ifnd_tf.config.variants import parse as parse_variants
from ifnd_tf.data import photometric, train_batches
from ifnd_tf.data.source import Source
from ifnd_tf.detection.detectors import DETECTORS
from ifnd_tf.stages import auto, build, compare_variants, sizes

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "experiments").glob("*.flags"))
RUNS = [path for path in FILES if not path.stem.startswith("base")]
FIELDS = {field.name for field in dataclasses.fields(Config)}

# Training images, classes and replicas that each file is written for (the data sets' own pages;
# digits: 1797 less a fifth of each class; ImageNet-100: CMC's list of classes).
SIZES = {
    "digits": (1438, 10, 1),
    "digits_compare": (1438, 10, 1),
    "arena_digits": (1438, 10, 1),
    "noisy_oracle_digits": (1438, 10, 1),
    "arena_omniglot": (3630, 242, 1),
    "arena_cifar10": (50_000, 10, 1),
    "cifar10": (50_000, 10, 1),
    "cifar10_compare": (50_000, 10, 1),
    "cifar10_lowered": (50_000, 10, 1),
    "cifar10_cpu_compare": (50_000, 10, 1),
    "cifar10_teacher_compare": (50_000, 10, 1),
    "cifar10_continue": (25_000, 5, 1),
    "cifar10_cpu": (50_000, 10, 1),
    "cifar100": (50_000, 100, 1),
    "stl10": (105_000, 10, 1),
    "tiny_imagenet": (100_000, 200, 1),
    "imagenet100": (126_689, 100, 1),
    "imagenet": (1_281_167, 1000, 1),
    "imagenet_tpu": (1_281_167, 1000, 32),
    "photos": (5000, 10, 1),
}


def stem(path: pathlib.Path) -> str:
    return path.stem


each_file = pytest.mark.parametrize("path", FILES, ids=stem)
each_run = pytest.mark.parametrize("path", RUNS, ids=stem)


class Unread(Source):
    """N images of which none is ever read: enough for shapes."""

    def __init__(self, num_examples: int):
        super().__init__("unread", num_examples, ("a", "b"))
        self.scanned = True

    @property
    def labels(self):
        return np.arange(self.num_examples, dtype=np.int32) % 2

    def describe(self, index):
        return str(index)

    def fetch(self, index):
        return tf.io.read_file(tf.strings.as_string(index))


class Replicas:
    """As much of a strategy as it takes to build a model for R replicas."""

    def __init__(self, replicas: int):
        self.num_replicas_in_sync = replicas

    def scope(self):
        return contextlib.nullcontext()


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    # The tests' own paths of flagfiles are relative to it.
    monkeypatch.chdir(ROOT)


def lines(path: pathlib.Path) -> list[str]:
    return path.read_text().splitlines()


def inherited(path: pathlib.Path) -> dict[str, str]:
    """Flag -> value that a file gets from those it includes; --variants, which adds up, apart."""
    found: dict[str, str] = {}
    for line in lines(path):
        if line.startswith("--flagfile="):
            other = path.parent / line.removeprefix("--flagfile=")
            found |= inherited(other) | own(other)
    return found


def own(path: pathlib.Path) -> dict[str, str]:
    pairs = [line[2:].split("=", 1) for line in lines(path) if line.startswith("--")]
    return {name: value for name, value in pairs if name not in ("flagfile", "variants")}


def decided(name: str) -> Config:
    """A file's configuration, with what auto chooses on a CPU for photographs of 300 pixels."""
    config = main.parse_flagfile(f"experiments/{name}.flags")
    side = auto.image_size(300, accelerated=False)
    queue = auto.queue_size(config.batch_size, SIZES[name][0])
    values = {"image_size": side, "stem": auto.stem(side), "queue_size": queue}
    values |= {"init_from": "", "backbone": "resnet_small"}
    return dataclasses.replace(config, **{each: values[each] for each in config.undecided})


def test_the_promised_experiments_exist():
    assert set(SIZES) == {path.stem for path in RUNS}


def test_no_flags_is_the_digits_experiment_also_with_others_on_top():
    assert main.parse([]) == main.parse_flagfile("experiments/digits.flags")
    assert main.parse(["--epochs=5"]) == dataclasses.replace(main.parse([]), epochs=5)
    others = main.parse(["--dataset=folder:photos"])
    assert others == dataclasses.replace(Config(), dataset="folder:photos")


@each_run
def test_header_says_what_where_from_how_and_how_long(path):
    header = []
    for line in lines(path):
        if not line.startswith("#"):
            break
        header.append(line.removeprefix("#").strip())
    text = "\n".join(header)
    for part in ("Reference:", "Command:", "Expected metric:", "Time:"):
        assert re.search(rf"^{part} \S", text, re.MULTILINE), f"{part} is missing"
    commands = f"main.py --flagfile=experiments/{path.name}", f"ifnd --preset={path.stem}"
    assert any(command in text for command in commands)
    assert set(re.findall(r"--(\w+)", text)) <= FIELDS | {"flagfile", "preset"}


@each_file
def test_file_holds_only_the_difference(path):
    text = [line for line in lines(path) if line.startswith("--")]
    names = [line.split("=", 1)[0] for line in text]
    once = [name for name in names if name not in ("--flagfile", "--variants")]
    assert len(once) == len(set(once)), "a flag is given twice"
    before = inherited(path)
    assert not {name for name, value in own(path).items() if before.get(name) == value}
    includes = [name for name in names if name == "--flagfile"]
    assert names[: len(includes)] == includes, "what a file includes comes first"


@each_file
def test_every_line_is_a_setting_that_takes_effect(path):
    config = main.parse_flagfile(f"experiments/{path.name}")
    settings = inherited(path) | own(path)
    assert set(settings) <= FIELDS
    for name, value in settings.items():
        got = getattr(config, name)
        assert str(got).lower() == value.lower() or float(got) == float(value), name


@each_run
def test_run_directory_is_named_after_the_file_or_its_data(path):
    config = main.parse_flagfile(f"experiments/{path.name}")
    assert config.name == path.stem
    assert config.run_path == f"runs/{path.stem}"


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("folder:my/v1.0", "v1.0"), ("folder:my/photos/", "photos"), ("list:my/train.csv", "train"),
        ("parquet:my/v2.1/*.parquet", "v2.1"), ("tfds:cifar10", "cifar10"), ("digits", "digits"),
    ],
)  # fmt: skip
def test_a_run_is_named_after_its_data(dataset, name):
    assert Config(dataset=dataset).run_path == f"runs/{name}"


@each_run
def test_sizes_fit_the_data(path):
    config = decided(path.stem)
    examples, classes, _ = SIZES[path.stem]
    assert sizes.steps_per_epoch(config, Unread(examples)) == examples // config.batch_size
    levels = resolve_num_clusters(config.num_clusters, examples)
    tuned = dict.fromkeys(("cifar10_cpu_compare", "cifar10_teacher_compare", "arena_cifar10"), 8)
    fewest = (tuned | {"cifar10_continue": 4}).get(path.stem, classes)  # docs/method.md
    assert len(levels) == 3 and min(levels) >= fewest
    assert config.warmup_epochs < config.epochs


@pytest.mark.parametrize("path", [p for p in RUNS if "\n--mode=compare" in p.read_text()], ids=stem)
def test_variants_are_settings_of_known_methods(path):
    config = main.parse_flagfile(f"experiments/{path.name}")
    runs = compare_variants.members(config)
    trials = compare_variants.trials(config)
    variants = list(dict.fromkeys(run.variant for run in runs))
    assert variants[0] in ("none", "scratch") and len(runs) == config.seeds * len(variants)
    assert len(trials) == config.tuning_trials * len(variants)
    assert all(run.config.validation_share == 0 for run in runs)


def test_the_arena_has_every_method():
    variants = parse_variants(main.parse_flagfile("experiments/arena_digits.flags").variants)
    text = " ".join(value for flags in variants.values() for value in flags.values())
    assert set(treatments.names()) <= set(re.findall(r"\w+", text))
    detectors = {flags["detector"] for flags in variants.values()}
    assert detectors == set(DETECTORS) - {"noisy_oracle"}


def pipeline(config: Config, examples: int, replicas: int) -> tf.data.Dataset:
    return train_batches.training_batches(
        Unread(examples),
        augmentation=build.augmentation(config),
        image_size=config.image_size,
        batch_size=config.batch_size,
        seed=config.seed,
        infeed_dtype=config.infeed_dtype,
        input_context=tf.distribute.InputContext(1, 0, replicas),
    )


@each_run
def test_pipeline_has_static_shapes(path):
    config = decided(path.stem)
    examples, _, replicas = SIZES[path.stem]
    rows, side = config.batch_size // replicas, config.image_size
    assert pipeline(config, examples, replicas).element_spec == {
        "index": tf.TensorSpec((rows,), tf.int32),
        "images": tf.TensorSpec((rows, 2, side, side, 3), tf.uint8),
        "draws": tf.TensorSpec((rows, 2, photometric.PHOTOMETRIC_DRAWS), tf.float32),
    }


# Features that the networks end in (He et al. 2016, table 1); resnet_small's last stage is four
# times its first.
WIDTHS = {"resnet18": 512, "resnet50": 2048}
# Networks take seconds to build: by default two files stand for all.
QUICK = {"digits", "cifar10"}


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[] if p.stem in QUICK else pytest.mark.slow, id=p.stem) for p in RUNS],
)
def test_model_has_the_experiments_shapes(path):
    config = decided(path.stem)
    examples, _, replicas = SIZES[path.stem]
    model = build.model(config, Replicas(replicas), num_examples=examples)
    features = model.encoder(keras.KerasTensor((4, config.image_size, config.image_size, 3)))
    # A small ResNet's third stage has four times the width of its first.
    assert features.shape == (4, WIDTHS.get(config.backbone, 4 * config.width))
    keys = model.projector(features)
    assert (keys.shape, keys.dtype) == ((4, config.projection_dim), "float32")
    assert model.pseudo_labels.shape == (3, examples)
    assert config.queue_size % config.batch_size == 0 and 0 < config.queue_size <= examples
    assert model.queue.shape == (config.queue_size, config.projection_dim)


# Settings that decide what a step is made of, beside sizes.
PARTS = (
    "framework", "treatment", "rescale_negatives", "level_combination", "detect_with",
    "augmentation", "blur_probability", "infeed_dtype", "precision", "optimizer",
)  # fmt: skip


def of_each_kind() -> list[str]:
    """The first file of one replica of each kind of step."""
    kinds: dict[tuple, str] = {}
    for name in [*sorted(QUICK), *SIZES]:
        config = main.parse_flagfile(f"experiments/{name}.flags")
        if SIZES[name][2] == 1:
            kinds.setdefault(tuple(getattr(config, part) for part in PARTS), name)
    return sorted(kinds.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", of_each_kind())
def test_the_step_takes_what_the_pipeline_gives(name):
    # Traced, not run: shapes and types must meet from the crops to the queue. One block stands
    # for each encoder, whose own shapes the test above holds, but for one of each kind.
    config = decided(name)
    if name not in QUICK:
        config = dataclasses.replace(config, backbone="resnet_tiny")
    model = build.model(config, Replicas(1), num_examples=SIZES[name][0])
    spec = pipeline(config, SIZES[name][0], 1).element_spec
    traced = tf.function(model.train_step).get_concrete_function(spec)
    assert "loss" in traced.structured_outputs
    assert all(output.shape == () for output in traced.structured_outputs.values())
