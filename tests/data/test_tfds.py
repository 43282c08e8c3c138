"""A real tfds builder with several files, prepared here."""

import contextlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from ifnd_tf.data import datasets, decode, eval_batches, recipes, stream_source, train_batches
from ifnd_tf.data.scan import examples, scan
from ifnd_tf.data.skip_unreadable import UNREADABLE
from ifnd_tf.data.stream_source import StreamSource
from ifnd_tf.data.tfds_source import TfdsSource
from ifnd_tf.errors import UserError
from tests.damage import damage, fuzz, spoil
from tests.data.conftest import picture

TRAIN, TEST, SIZE = 50, 12, 16
RECIPE = recipes.recipe("moco_v2")


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Pictures of changing sizes; `number` says which is which."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name="labelled"),
        tfds.core.BuilderConfig(name="plain"),
        tfds.core.BuilderConfig(name="no_image"),
    )

    def _info(self):
        features = {"number": np.int64}
        if self.builder_config.name != "no_image":
            features["photo"] = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        if self.builder_config.name == "labelled":
            features["kind"] = tfds.features.ClassLabel(names=["ape", "bee", "cat"])
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._examples(0, TRAIN), "test": self._examples(1000, TEST)}

    def _examples(self, first, count):
        for number in range(first, first + count):
            example = {"number": number}
            if self.builder_config.name != "no_image":
                example["photo"] = picture(number, 20 + number % 7, 24)
            if self.builder_config.name == "labelled":
                example["kind"] = number % 3
            yield f"key{number}", example

    def _generate_examples(self):
        raise NotImplementedError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """Prepared data: the training split in 4 files, the test split in 4."""
    path = tmp_path_factory.mktemp("tfds")
    for config in ("labelled", "plain", "no_image"):
        builder = TinyPictures(data_dir=path, config=config)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(num_shards=4, try_download_gcs=False)
        )
        assert len(builder.info.splits["train"].shard_lengths) == 4
    return path


def opened(data_dir, config="labelled", **options) -> datasets.Splits:
    return datasets.open_splits(f"tfds:tiny_pictures/{config}", data_dir=str(data_dir), **options)


def by_tfds(data_dir, split) -> list[dict]:
    """What tfds itself reads, with its ids."""
    builder = TinyPictures(data_dir=data_dir, config="labelled")
    config = tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1)
    return list(tfds.as_numpy(builder.as_dataset(split=split, read_config=config)))


def test_indices_labels_and_images_are_those_of_tfds_ids(data_dir):
    source = opened(data_dir).train
    source.read_labels()
    expected = by_tfds(data_dir, "train")
    lengths = TinyPictures(data_dir=data_dir, config="labelled").info.splits["train"].shard_lengths
    assert source.num_examples == TRAIN == len(expected)
    stream = list(source.stream().as_numpy_iterator())
    assert [each["index"] for each in stream] == list(range(TRAIN))
    for index, (ours, theirs) in enumerate(zip(stream, expected, strict=True)):
        name = theirs["tfds_id"].decode()
        file, place = re.fullmatch(r".*-(\d{5})-of-\d{5}__(\d+)", name).groups()
        assert index == sum(lengths[: int(file)]) + int(place)
        assert source.describe(index) == name
        assert ours["label"] == theirs["kind"] == source.labels[index]
        decoded = decode.decode_image(tf.constant(ours["image"])).numpy().astype(int)
        # tfds decodes with TensorFlow's fast transform; other pictures differ by 80 on average.
        assert np.abs(decoded - theirs["photo"]).mean() <= 4
    assert source.class_names == ("ape", "bee", "cat")


@pytest.mark.parametrize("split", ["train[10%:70%]", "train[33:]"])
def test_slices_have_an_index_of_their_own(data_dir, split):
    source = opened(data_dir, train_split=split).train
    source.read_labels()
    expected = by_tfds(data_dir, split)
    assert source.num_examples == len(expected)
    assert [source.describe(i) for i in range(source.num_examples)] == [
        each["tfds_id"].decode() for each in expected
    ]
    np.testing.assert_array_equal(source.labels, [each["kind"] for each in expected])


def test_the_test_split_is_the_default_for_evaluation(data_dir):
    assert opened(data_dir).evaluation.num_examples == TEST
    parts = opened(data_dir, train_split="train[5:]", eval_split="train[:5]")
    assert parts.evaluation.num_examples == 5


@pytest.mark.parametrize("evaluated", ["train", "train[:5]", "train[10:]+test"])
def test_examples_that_are_trained_on_are_not_evaluated_on(evaluated, data_dir):
    with pytest.raises(UserError, match="--eval_split: expected examples that are not trained on"):
        opened(data_dir, eval_split=evaluated)


def test_data_without_labels(data_dir):
    source = opened(data_dir, "plain").train
    assert source.class_names == () and set(source.labels) == {-1}
    assert source.labels_known and not source.labelled
    assert {int(each["label"]) for each in source.stream().as_numpy_iterator()} == {-1}


@pytest.mark.parametrize("num_shards", [1, 2, 3, 7])
def test_shards_share_out_the_examples(data_dir, num_shards):
    source = opened(data_dir).train
    seen = []
    for shard in range(num_shards):
        got = [
            int(each["index"])
            for each in source.stream(shard=shard, num_shards=num_shards).as_numpy_iterator()
        ]
        np.testing.assert_array_equal(got, source.shard_indices(shard, num_shards))
        seen += got
    assert sorted(seen) == list(range(TRAIN))


@pytest.fixture
def files_read(monkeypatch) -> set[str]:
    """The files that streams read from now on."""
    read: set[str] = set()
    original = TfdsSource.read

    def noted(self, path, skip, take):
        path = tf.numpy_function(lambda p: (read.add(p.decode()[-14:]), p)[1], [path], tf.string)
        return original(self, tf.ensure_shape(path, []), skip, take)

    monkeypatch.setattr(TfdsSource, "read", noted)
    return read


def test_a_host_reads_only_its_own_files(data_dir, files_read):
    list(opened(data_dir).train.stream(shard=1, num_shards=2))
    assert files_read == {"00001-of-00004", "00003-of-00004"}


@pytest.mark.parametrize("folder", ["data_dir", "records_dir"])
def test_a_slice_without_examples_is_refused(folder, request):
    with pytest.raises(UserError, match=r"examples. Received: none in 'train\[5:5\]'"):
        opened(request.getfixturevalue(folder), train_split="train[5:5]")


def test_held_out_examples_are_left_to_evaluation(data_dir):
    whole = opened(data_dir).train
    train, held = datasets.hold_out(whole, 0.2)
    # Classes of 17, 17 and 16: 3 of each are held out.
    assert list(np.bincount(held.labels)) == [3, 3, 3] and train.num_examples == 41
    names = [part.describe(i) for part in (train, held) for i in range(part.num_examples)]
    assert sorted(names) == sorted(whole.describe(i) for i in range(TRAIN))
    for part in (train, held):
        stream = list(part.stream().as_numpy_iterator())
        assert [int(each["index"]) for each in stream] == list(range(part.num_examples))
        assert [int(each["label"]) for each in stream] == list(part.labels)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pass", "training"])
def test_labels_are_learned_in_passing(data_dir, how, monkeypatch):
    monkeypatch.setattr(StreamSource, "read_labels", lambda self: pytest.fail("a pass of its own"))
    source = opened(data_dir).train
    assert source.labelled and not source.labels_known and set(source.labels) == {-1}
    if how == "pass":
        list(eval_batches.ordered_batches(source, image_size=SIZE, batch_size=8))
    else:
        training(source, 5)
    assert source.labels_known
    assert list(source.labels) == [each["kind"] for each in by_tfds(data_dir, "train")]
    part = source.subset(np.arange(0, TRAIN, 2))
    assert part.labels_known and list(part.labels) == list(source.labels[::2])


@pytest.mark.slow
@pytest.mark.parametrize("open_parts", [1, 2, 3, 16])
def test_a_start_within_the_order_opens_no_file_before_it(
    data_dir, open_parts, files_read, monkeypatch
):
    monkeypatch.setattr(stream_source, "_open_parts", lambda lengths: min(open_parts, len(lengths)))
    monkeypatch.setattr(stream_source, "_SHUFFLE_CHUNK", 7)
    source = opened(data_dir).train
    among = np.ones(TRAIN, bool)
    among[[3, 17, 40]] = False

    def order(skip):
        stream = source.stream(shuffle_seed=tf.constant(5), among=among, skip=skip)
        return [int(each["index"]) for each in stream.as_numpy_iterator()]

    whole = order(0)
    assert sorted(whole) == list(np.flatnonzero(among)) and whole != sorted(whole)
    for skip in (0, 1, 6, 7, 8, 23, 46, 47):
        assert order(skip) == whole[skip:]
    files_read.clear()
    order(len(whole) - 1)
    assert len(files_read) <= open_parts


@pytest.fixture(scope="module")
def records_dir(tmp_path_factory) -> Path:
    """The same data as ArrayRecord files."""
    path = tmp_path_factory.mktemp("records")
    TinyPictures(data_dir=path, config="labelled", file_format="array_record").download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=4, try_download_gcs=False)
    )
    return path


def test_array_records_are_read_by_index(records_dir):
    train, evaluation = opened(records_dir)
    assert train.random_access and (train.num_examples, evaluation.num_examples) == (TRAIN, TEST)
    assert train.labelled and not train.labels_known
    seen = list(train.fetch_all(np.array([7, 3])).as_numpy_iterator())
    assert [int(each["index"]) for each in seen] == [7, 3]
    for each in seen:
        index = tf.constant(each["index"])
        assert train.fetch(index).numpy() == each["image"]
    train.read_labels()
    assert [int(each["label"]) for each in seen] == [train.labels[7], train.labels[3]]
    assert sorted(np.bincount(train.labels)) == [16, 17, 17]
    names = [train.describe(i) for i in range(TRAIN)]
    assert len(set(names)) == TRAIN and all(re.search(r"-of-\d{5}__\d+$", n) for n in names)
    part = opened(records_dir, train_split="train[10:20]", eval_split="train[20:30]").train
    assert [part.describe(i) for i in range(10)] == names[10:20]
    with pytest.raises(UserError, match="--eval_split: expected examples that are not trained"):
        opened(records_dir, eval_split="train[10:]")


@pytest.mark.slow
def test_array_records_have_one_order_for_any_workers_and_learn_labels(records_dir):
    source = opened(records_dir).train
    whole = training(source, 5)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([each["index"] for each in whole])), np.arange(TRAIN)
    )
    np.testing.assert_array_equal(
        training(source, 2, first_step=3)[0]["images"], whole[3]["images"]
    )
    parts = [
        training(source, 5, input_context=tf.distribute.InputContext(2, worker, 2))
        for worker in range(2)
    ]
    for step, pair in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(
            step["index"], np.concatenate([each["index"] for each in pair])
        )
    assert not source.labels_known
    list(eval_batches.ordered_batches(source, image_size=SIZE, batch_size=8))
    assert source.labels_known and sorted(np.bincount(source.labels)) == [16, 17, 17]
    half = source.subset(np.arange(0, TRAIN, 2))
    assert half.labels_known and half.describe(3) == source.describe(6)


@pytest.mark.slow
@pytest.mark.faults
def test_lost_array_records_count_as_unreadable(records_dir, tmp_path):
    shutil.copytree(records_dir, tmp_path / "copy")
    source = opened(tmp_path / "copy").train
    (path,) = (tmp_path / "copy").rglob("*-train.array_record-00001*")
    path.unlink()
    scan(source, max_corrupt_share=0.5)
    names = [bad.name for bad in source.unreadable]
    assert len(names) in (12, 13) and all("00001-of-00004" in name for name in names)


def training(source, elements, **options):
    options = {"batch_size": 10, "seed": 3, "augmentation": RECIPE, "image_size": SIZE} | options
    return list(
        train_batches.training_batches(source, **options).take(elements).as_numpy_iterator()
    )


@pytest.fixture(scope="module")
def two_epochs(data_dir) -> list:
    """The ten batches that two epochs of a stream hold."""
    source = opened(data_dir).train
    steps = train_batches.steps_per_epoch(source, 10)
    return training(source, 2 * steps)


@pytest.mark.slow
def test_a_stream_trains_on_each_example_once_an_epoch(two_epochs):
    indices = np.concatenate([each["index"] for each in two_epochs]).reshape(2, -1)
    for epoch in indices:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(TRAIN))
    assert (indices[0] != indices[1]).any() and (indices[0] != np.arange(TRAIN)).any()


@pytest.mark.slow
def test_a_stream_resumes_where_it_stopped(data_dir, two_epochs):
    rest = training(opened(data_dir).train, 4, first_step=6)
    for expected, received in zip(two_epochs[6:], rest, strict=True):
        for key, value in expected.items():
            np.testing.assert_array_equal(received[key], value)


@pytest.mark.slow
def test_streamed_views_follow_from_seed_epoch_and_index_alone(data_dir, two_epochs):
    """Two workers read in another order, and the scanned data is read at random."""
    source = opened(data_dir).train
    scanned = opened(data_dir).train
    scan(scanned)
    assert scanned.pixels is None  # Their sizes differ.
    parts = [two_epochs[:5]]
    for worker in range(2):
        context = tf.distribute.InputContext(2, worker, 2)
        parts.append(training(source, 4, input_context=context))
    views = {}
    for part in parts:
        for element in part:
            for n, index in enumerate(element["index"]):
                view = (element["images"][n], element["draws"][n])
                known = views.setdefault(int(index), view)
                np.testing.assert_array_equal(known[0], view[0])
                np.testing.assert_array_equal(known[1], view[1])
    assert len(views) == TRAIN


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "replicas"), [(1, 1), (2, 2), (3, 1)])
def test_an_ordered_pass_over_a_stream_covers_each_example_once(data_dir, workers, replicas):
    source = opened(data_dir).train
    parts = []
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, workers * replicas)
        batches = eval_batches.ordered_batches(
            source, image_size=SIZE, batch_size=4, input_context=context
        )
        parts.append(list(batches.as_numpy_iterator()))
        assert len(parts[-1]) == int(batches.cardinality())
    steps = eval_batches.pass_steps(
        source,
        image_size=SIZE,
        batch_size=4,
        num_replicas=workers * replicas,
        num_workers=workers,
    )
    assert [len(part) for part in parts] == [steps * replicas] * workers
    indices = np.concatenate([each["index"] for part in parts for each in part])
    np.testing.assert_array_equal(np.sort(indices[indices >= 0]), np.arange(TRAIN))


@pytest.mark.slow
def test_a_scan_keeps_a_stream_of_one_size_in_memory(data_dir):
    whole = opened(data_dir).train
    whole.read_labels()
    decoded = [
        decode.decode_image(tf.constant(each["image"])).numpy()
        for each in whole.stream().as_numpy_iterator()
    ]
    same_size = np.flatnonzero([image.shape == decoded[0].shape for image in decoded])
    assert 1 < len(same_size) < TRAIN
    source = whole.subset(same_size)
    scan(source)
    for index, raw in enumerate(same_size):
        np.testing.assert_array_equal(source.pixels[index], decoded[raw])
    np.testing.assert_array_equal(source.labels, whole.labels[same_size])
    element = training(source, 1, batch_size=len(same_size))[0]
    np.testing.assert_array_equal(np.sort(element["index"]), np.arange(len(same_size)))


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_scan_learns_the_labels(data_dir, records_dir, kept):
    for folder in (data_dir, records_dir):
        source = opened(folder).train
        if kept:  # Only images of one size are.
            shapes = [
                decode.decode_image(tf.constant(each["image"])).shape
                for each in examples(source).as_numpy_iterator()
            ]
            source = source.subset(np.flatnonzero([shape == shapes[0] for shape in shapes]))
        scan(source)
        assert source.labels_known and np.all(source.labels >= 0)
        assert (source.pixels is not None) == kept
        batches = eval_batches.ordered_batches(source, image_size=SIZE, batch_size=4)
        for each in batches.as_numpy_iterator():
            real = each["index"] >= 0
            np.testing.assert_array_equal(each["label"][real], source.labels[each["index"][real]])


@pytest.mark.slow
def test_a_scan_of_a_stream_names_what_cannot_be_read(data_dir):
    source = opened(data_dir).train
    original, broken = source.parse, [3, 20]
    read = {int(each["index"]): each["image"] for each in examples(source).as_numpy_iterator()}

    def parse(stored):
        image, label = original(stored)
        bad = tf.reduce_any(image == [read[index] for index in broken])
        return tf.where(bad, b"no image", image), label

    source.parse = parse
    scan(source, max_corrupt_share=0.1)
    assert [bad.index for bad in source.unreadable] == broken
    assert [bad.name for bad in source.unreadable] == [source.describe(i) for i in broken]
    indices = np.concatenate([each["index"] for each in training(source, 6, batch_size=8)])
    np.testing.assert_array_equal(np.sort(indices), np.setdiff1d(np.arange(TRAIN), broken))


def test_what_is_not_prepared_says_how(data_dir, tmp_path):
    with pytest.raises(UserError, match=r"expected prepared data in .*download_and_prepare"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"a name that tfds knows .*Received: 'no_such_set'"):
        datasets.open_splits("tfds:no_such_set", data_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"expected a split among train, test.*Received: 'dev'"):
        opened(data_dir, train_split="dev")
    with pytest.raises(UserError, match="expected a data set with an image feature"):
        opened(data_dir, "no_image")


@pytest.fixture
def damaged(data_dir, tmp_path) -> list[Path]:
    """A copy whose training files, of 12 to 13 records, may be damaged."""
    shutil.copytree(data_dir, tmp_path / "copy")
    return sorted((tmp_path / "copy" / "tiny_pictures" / "labelled").rglob("*-train.tfrecord-*"))


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("how", ["lost", "cut", "flipped"])
def test_what_a_damaged_file_lacks_counts_as_unreadable(how, damaged, tmp_path):
    content = bytearray(damaged[1].read_bytes())
    if how == "lost":
        damaged[1].unlink()
    elif how == "cut":
        damaged[1].write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        damaged[1].write_bytes(content)
    source = opened(tmp_path / "copy").train
    with pytest.raises(UserError, match="unreadable"):
        scan(source, max_corrupt_share=0.0)
    bad = [source.describe(index) for index in sorted(row.index for row in source.unreadable)]
    lengths = TinyPictures(data_dir=tmp_path / "copy", config="labelled").info.splits["train"]
    places = [int(name.rpartition("__")[2]) for name in bad]
    assert all(damaged[1].name in name for name in bad)
    assert places == list(range(places[0], lengths.shard_lengths[1]))
    assert (places[0] == 0) == (how == "lost")


@pytest.mark.slow
@pytest.mark.faults
def test_files_that_vanished_are_an_error_and_no_hang(damaged, tmp_path):
    batches = train_batches.training_batches(
        opened(tmp_path / "copy").train, batch_size=10, augmentation=RECIPE, image_size=SIZE, seed=3
    )
    for path in damaged:
        path.unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=UNREADABLE):
        next(iter(batches))


@pytest.mark.slow
@pytest.mark.faults
@given(st.sampled_from(["dataset_info", "features", "test.tfrecord-00001"]), damage())
@fuzz(6)
def test_damaged_directories(data_dir, tmp_path_factory, part, what):
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(data_dir, copy, dirs_exist_ok=True)
    (path,) = (copy / "tiny_pictures" / "labelled").rglob(f"*{part}*")
    spoil(path, *what)
    with contextlib.suppress(UserError):
        source = opened(copy).evaluation
        scan(source, max_corrupt_share=1.0)
        assert source.num_examples == TEST
