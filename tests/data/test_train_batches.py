"""Training and ordered batches: what they hold at any number of replicas, workers and restarts."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data import (
    crops,
    datasets,
    decode,
    eval_batches,
    photometric,
    recipes,
    train_batches,
)
from ifnd_tf.data.array_source import ArraySource
from ifnd_tf.data.scan import scan
from ifnd_tf.distribute import stateless_random
from ifnd_tf.errors import UserError
from tests.data.conftest import write_class_folders

SIZE = 16
RECIPE = recipes.recipe("moco_v2")


def batches(source, elements: int, **options) -> list[dict[str, np.ndarray]]:
    """The first elements of the training pipeline, by default 8 examples a step."""
    options = {"batch_size": 8, "seed": 7, "augmentation": RECIPE, "image_size": SIZE} | options
    return list(
        train_batches.training_batches(source, **options).take(elements).as_numpy_iterator()
    )


def joined(elements: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([each[key] for each in elements]) for key in elements[0]}


def contexts(workers: int, replicas: int) -> list[tf.distribute.InputContext]:
    return [tf.distribute.InputContext(workers, w, workers * replicas) for w in range(workers)]


@pytest.fixture(scope="module")
def scanned_files(tmp_path_factory):
    folder = write_class_folders(tmp_path_factory.mktemp("scanned"))
    result = datasets.open_splits(f"folder:{folder}", holdout_share=0.01).train
    scan(result)
    assert result.pixels is None  # Their sizes differ.
    return result


@pytest.fixture(params=["memory_source", "scanned_files"], ids=["memory", "files"])
def source(request):
    """Images in memory that are cut a batch at a time, and files that are cut one by one."""
    return request.getfixturevalue(request.param)


def test_elements_have_static_shapes(source):
    spec = train_batches.training_batches(
        source, augmentation=RECIPE, image_size=SIZE, batch_size=8, seed=0,
        input_context=contexts(1, 2)[0],
    ).element_spec  # fmt: skip
    assert spec == {
        "index": tf.TensorSpec([4], tf.int32),
        "images": tf.TensorSpec([4, 2, SIZE, SIZE, 3], tf.uint8),
        "draws": tf.TensorSpec([4, 2, photometric.PHOTOMETRIC_DRAWS], tf.float32),
    }


def test_an_epoch_holds_each_example_once_in_another_order_each_time(source):
    steps = train_batches.steps_per_epoch(source, 5)
    assert steps == source.num_examples // 5
    indices = joined(batches(source, 2 * steps, batch_size=5))["index"].reshape(2, -1)
    for epoch in indices:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(source.num_examples))
    assert (indices[0] != indices[1]).any()
    assert (indices[0] != joined(batches(source, steps, batch_size=5, seed=8))["index"]).any()


def test_views_follow_from_seed_epoch_and_index_alone(source):
    """The same example at another place of another batch looks the same."""
    steps_of_5, steps_of_3 = source.num_examples // 5, source.num_examples // 3
    one = joined(batches(source, steps_of_5, batch_size=5))
    other = joined(batches(source, steps_of_3, batch_size=3))
    assert (one["index"][: len(other["index"])] == other["index"]).all()
    for key in ("images", "draws"):
        np.testing.assert_array_equal(one[key][: len(other[key])], other[key])
    place = {int(index): n for n, index in enumerate(one["index"])}
    later = joined(batches(source, steps_of_5, batch_size=5, first_step=steps_of_5))
    same = [place[int(index)] for index in later["index"]]
    assert (one["draws"][same] != later["draws"]).mean() > 0.99


@pytest.mark.parametrize("infeed_dtype", ["uint8", "float32"])
def test_weak_keys_are_the_crops_alone(memory_source, infeed_dtype):
    (strong,), (weak,) = (
        batches(memory_source, 1, weak_keys=weak, infeed_dtype=infeed_dtype)
        for weak in (False, True)
    )
    np.testing.assert_array_equal(weak["images"][:, 0], strong["images"][:, 0])
    (cut,) = batches(memory_source, 1)
    if infeed_dtype == "uint8":
        crops_alone = photometric.normalise(cut["images"][:, 1])
        always = RECIPE._replace(jitter_probability=1.0, gray_probability=1.0, blur_probability=1.0)
        shown = photometric.augment(weak["images"][:, 1], weak["draws"][:, 1], always)
        np.testing.assert_allclose(shown, crops_alone, atol=1e-5)
        np.testing.assert_array_equal(weak["draws"][:, 0], strong["draws"][:, 0])
    else:
        np.testing.assert_allclose(
            weak["images"][:, 1], photometric.normalise(cut["images"][:, 1]), atol=1e-5
        )
        assert (weak["images"][:, 1] != strong["images"][:, 1]).any()


def test_views_are_those_of_the_example_with_its_draws(memory_source):
    """Against the batch made by hand: draws of (seed, epoch, index), boxes, one image each."""
    batch = batches(memory_source, 1)[0]
    count = crops.GEOMETRIC_DRAWS + photometric.PHOTOMETRIC_DRAWS
    draws = tf.reshape(
        stateless_random.uniform([7, 0, 1], batch["index"], 2 * count), [8, 2, count]
    )
    np.testing.assert_array_equal(batch["draws"], draws[..., crops.GEOMETRIC_DRAWS :])
    boxes = crops.crop_boxes(draws, 12, 12, RECIPE)
    flips = crops.flips(draws, RECIPE)
    for n, index in enumerate(batch["index"]):
        image = tf.constant(memory_source.pixels[index])
        views = crops.cut_views(image[None], boxes[n : n + 1], flips[n : n + 1], SIZE)
        np.testing.assert_array_equal(batch["images"][n], views[0])
    assert (batch["images"][:, 0] != batch["images"][:, 1]).any()


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "replicas"), [(1, 4), (2, 2)])
def test_replicas_and_workers_share_the_same_global_batches(source, workers, replicas):
    steps = 2 * train_batches.steps_per_epoch(source, 8) - 1
    alone = batches(source, steps)
    parts = [
        batches(source, steps * replicas, input_context=context)
        for context in contexts(workers, replicas)
    ]
    for step in range(steps):
        together = joined(
            [e for part in parts for e in part[step * replicas : (step + 1) * replicas]]
        )
        for key, value in alone[step].items():
            np.testing.assert_array_equal(together[key], value)


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_same_batches(source):
    steps = train_batches.steps_per_epoch(source, 8) + 3
    whole = batches(source, steps)
    rest = batches(source, 2, first_step=steps - 2)
    for expected, received in zip(whole[-2:], rest, strict=True):
        for key, value in expected.items():
            np.testing.assert_array_equal(received[key], value)


def test_images_in_memory_that_are_larger_than_the_views_are_reduced(memory_source):
    """Doubled pixels in twice the size, seen at half the size of the boxes: the same pictures."""
    doubled = memory_source.pixels.numpy().repeat(2, axis=1).repeat(2, axis=2)
    large = ArraySource("large", doubled, memory_source.labels)
    whole = recipes.recipe("digits", crop_min_area=1.0)
    small_views = batches(memory_source, 2, augmentation=whole, image_size=12)
    large_views = batches(large, 2, augmentation=whole, image_size=12)
    for small, reduced in zip(small_views, large_views, strict=True):
        np.testing.assert_array_equal(reduced["index"], small["index"])
        np.testing.assert_allclose(
            reduced["images"].astype(int), small["images"].astype(int), atol=1
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_finished_views_are_what_the_device_would_make(memory_source, dtype):
    raw = batches(memory_source, 1)[0]
    finished = batches(memory_source, 1, infeed_dtype=dtype)[0]
    assert set(finished) == {"index", "images"} and finished["images"].dtype == dtype
    expected = photometric.augment(
        tf.reshape(raw["images"], [16, SIZE, SIZE, 3]), tf.reshape(raw["draws"], [16, -1]), RECIPE
    )
    tolerance = 1e-5 if dtype == "float32" else 0.02  # 8 bits of numbers up to 2.6.
    np.testing.assert_allclose(
        finished["images"].astype(np.float32).reshape(expected.shape), expected, atol=tolerance
    )


@pytest.mark.slow
def test_unreadable_images_never_turn_up(class_folders):
    broken = sorted(class_folders.rglob("*.jpg"))[4]
    broken.write_bytes(b"no image")
    source = datasets.open_splits(f"folder:{class_folders}", holdout_share=0.01).train
    scan(source, max_corrupt_share=0.1)
    assert [bad.index for bad in source.unreadable] == [4]
    steps = train_batches.steps_per_epoch(source, 1)
    assert steps == 29
    indices = joined(batches(source, steps, batch_size=1))["index"]
    np.testing.assert_array_equal(np.sort(indices), np.setdiff1d(np.arange(30), [4]))


@pytest.mark.slow
def test_without_a_scan_a_bad_image_leaves_the_other_places_as_they_were(class_folders):
    whole = datasets.open_splits(f"folder:{class_folders}", holdout_share=0.01).train
    expected = batches(whole, 6)
    first, second = expected[0]["index"][0], expected[1]["index"][3]
    for bad in (first, second):
        Path(whole.describe(bad)).write_bytes(b"no image")
    damaged = datasets.open_splits(f"folder:{class_folders}", holdout_share=0.01).train
    received = batches(damaged, 6)
    for before, after in zip(expected, received, strict=True):
        gone = np.isin(before["index"], [first, second])
        np.testing.assert_array_equal(after["index"][~gone], before["index"][~gone])
        np.testing.assert_array_equal(after["images"][~gone], before["images"][~gone])
        assert not np.isin(after["index"], [first, second]).any()


def test_a_batch_that_cannot_be_made_is_refused(memory_source):
    with pytest.raises(UserError, match=r"multiple of the 3 replicas. Received: 8"):
        batches(memory_source, 1, input_context=contexts(1, 3)[0])
    with pytest.raises(UserError, match=r"at most the 40 readable training images. Received: 41"):
        batches(memory_source, 1, batch_size=41)


def test_a_stream_of_unreadable_images_is_refused_and_does_not_hang(class_folders):
    for path in class_folders.rglob("*.jpg"):
        path.write_bytes(b"no image")
    source = datasets.open_splits(f"folder:{class_folders}", holdout_share=0.01).train
    with pytest.raises(UserError, match="none among the first 30, such as .*000.jpg"):
        batches(source, 1)


# --- Ordered ------------------------------------------------------------------------------


def ordered(source, **options) -> list[dict[str, np.ndarray]]:
    options = {"image_size": SIZE, "batch_size": 4} | options
    return list(eval_batches.ordered_batches(source, **options).as_numpy_iterator())


@pytest.mark.parametrize(("workers", "replicas"), [(1, 1), (1, 4), (2, 2)])
def test_a_pass_covers_each_example_once_and_keeps_replicas_in_step(source, workers, replicas):
    parts = [ordered(source, input_context=each) for each in contexts(workers, replicas)]
    steps = eval_batches.ordered_steps(source.num_examples, 4, workers * replicas)
    assert [len(part) for part in parts] == [steps * replicas] * workers
    everything = joined([element for part in parts for element in part])
    real = everything["index"] >= 0
    index, label = everything["index"][real], everything["label"][real]
    np.testing.assert_array_equal(np.sort(index), np.arange(source.num_examples))
    np.testing.assert_array_equal(label, source.labels[index])
    assert (everything["index"][~real] == -1).all() and (everything["label"][~real] == -1).all()
    assert not everything["images"][~real].any()


@pytest.mark.slow
def test_a_host_opens_only_the_files_of_its_own_part(class_folders):
    data = datasets.open_splits(f"folder:{class_folders}", holdout_share=0.01).train
    scan(data)
    mine, other = (ordered(data, input_context=each) for each in contexts(2, 1))
    for index in joined(other)["index"]:
        if index >= 0:
            next(class_folders.rglob(Path(data.describe(int(index))).name)).unlink()
    again = ordered(data, input_context=contexts(2, 1)[0])
    np.testing.assert_array_equal(joined(again)["images"], joined(mine)["images"])
    # Without its files the other part comes empty.
    assert np.all(joined(ordered(data, input_context=contexts(2, 1)[1]))["index"] < 0)


def test_ordered_views_are_central(source):
    element = ordered(source)[1]
    for index, view in zip(element["index"], element["images"], strict=True):
        content = source.fetch(tf.constant(index))
        image = decode.decode_image(content) if content.dtype == tf.string else content
        np.testing.assert_array_equal(view, crops.centre_view(image, SIZE))


def test_no_iterator_waits_for_the_tuner_when_it_ends(source):
    # Which takes minutes of use to show: its intervals double from 10 ms to a minute.
    training = train_batches.training_batches(
        source, augmentation=RECIPE, image_size=SIZE, batch_size=8, seed=0
    )
    one_pass = eval_batches.ordered_batches(source, image_size=SIZE, batch_size=8)
    for dataset in (training, one_pass):
        assert dataset.options().autotune.enabled is False


def test_a_subset_comes_in_its_own_order(source):
    elements = ordered(source, indices=np.array([9, 2, 5, 7, 1]))
    np.testing.assert_array_equal(joined(elements)["index"], [9, 2, 5, 7, 1, -1, -1, -1])


@pytest.mark.parametrize("scanned", [False, True])
def test_a_pass_leaves_out_what_cannot_be_read(class_folders, scanned):
    sorted(class_folders.rglob("*.jpg"))[4].write_bytes(b"no image")
    source = datasets.open_splits(f"folder:{class_folders}", holdout_share=0.01).train
    if scanned:
        scan(source, max_corrupt_share=0.1)
    elements = ordered(source, batch_size=6)
    assert len(elements) == 5  # 30 places of 6, or 29 images and one of padding.
    indices = joined(elements)["index"]
    np.testing.assert_array_equal(indices, [*range(4), *range(5, 30), -1])


def test_batches_reach_the_replicas_in_order(memory_source, strategy):
    """What the module promises of `distribute_datasets_from_function`."""
    replicas = strategy.num_replicas_in_sync
    alone = ordered(memory_source, batch_size=8 // replicas)
    distributed = strategy.distribute_datasets_from_function(
        lambda context: eval_batches.ordered_batches(
            memory_source, image_size=SIZE, batch_size=8 // replicas, input_context=context
        )
    )
    for step, element in enumerate(distributed):
        values = strategy.experimental_local_results(element["index"])
        expected = [each["index"] for each in alone[step * replicas : (step + 1) * replicas]]
        np.testing.assert_array_equal(np.stack(values), np.stack(expected))
