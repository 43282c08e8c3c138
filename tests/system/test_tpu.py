import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data import datasets, recipes, train_batches
from ifnd_tf.errors import UserError
from ifnd_tf.models.network import Network, projector
from lowering import flops
from tests.system.tpu import (
    bfloat16,
    check,
    compile,
    epoch_model,
    host,
    kmeans_bytes,
    roofline,
    verdict,
)
from tests.system.tpu.chips import CHIPS
from tests.system.tpu.environment import Environments
from tests.system.tpu.table import table


def test_a_v5e_core_has_the_published_peaks():
    chip = CHIPS["v5e-8"]
    assert (chip.device_flops, chip.device_bandwidth, chip.device_hbm) == (197e12, 819e9, 2**34)


def test_a_v3_device_is_half_a_chip():
    assert CHIPS["v3-8"].device_flops == 123e12 / 2
    assert CHIPS["v3-8"].device_hbm == 2**34


@pytest.mark.parametrize("kind", CHIPS)
def test_a_slice_of_eight_cores_is_one_host(kind):
    chip = CHIPS[kind]
    assert chip.replicas == chip.host_chips * chip.devices_per_chip


def test_the_slower_of_compute_and_memory_bounds_the_step():
    # 197e12 flops take a second on a v5e core, 1638e9 bytes take two.
    bound = roofline.roofline(CHIPS["v5e-8"], flops=197e12, bytes_accessed=1638e9, replica_batch=10)
    assert bound == (1.0, 2.0, 2.0, 10 * 8 / 2.0)


def test_convolution_flops_leave_out_padding():
    image = keras.Input((4, 4, 3))
    layer = keras.layers.Conv2D(5, 3, padding="same")
    layer(image)
    # Along an axis of 4, windows of 3 meet 2 + 3 + 3 + 2 pixels.
    assert flops.layer_flops(layer) == 2 * 10 * 10 * 3 * 5


def test_strided_valid_convolution_flops():
    layer = keras.layers.Conv2D(2, 3, strides=2, padding="valid")
    layer(keras.Input((7, 7, 1)))
    assert flops.layer_flops(layer) == 2 * (3 * 3) * (3 * 3) * 2  # 3 x 3 outputs, 9 taps each


def test_dense_flops_are_two_per_weight():
    layer = keras.layers.Dense(7)
    layer(keras.Input((5,)))
    assert flops.layer_flops(layer) == 2 * 5 * 7


def test_step_flops_of_a_network_counted_by_hand():
    inputs = keras.Input((2, 2, 1))
    x = keras.layers.Conv2D(3, 1, use_bias=False)(inputs)
    network = Network(
        keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)), projector(3, 4, 2)
    )
    counted = flops.step_flops(network, batch=10, negatives=100, image_size=2, blurred=True)
    conv, dense = 2 * 4 * 3, 2 * (3 * 4 + 4 * 2)
    assert counted.key == 10 * (conv + dense)
    # Forward and twice backward, but for the gradient of the images.
    assert counted.query == 10 * (3 * (conv + dense) - conv)
    assert counted.logits == 10 * 2 * (2 * 100 * 2)
    # Two views, two products of 2 x 2 matrices in 3 channels, 2 * 2^3 operations each.
    assert counted.views == 10 * 2 * 2 * 3 * (2 * 2**3)
    assert counted.total == sum(counted)


HLO = """ENTRY %main (x: f32[8]) -> f32[8] {
  %all-reduce.1 = f32[8]{0} all-reduce(%x), replica_groups={{0,1}}
  %send.2 = (f32[2], u32[], token[]) send(%x, %token), channel_id=1, is_host_transfer=true
  %send.3 = (f32[2], u32[], token[]) send(%x, %token), channel_id=2
  %infeed.4 = ((f32[3]), token[]) infeed(%token)
  %call.5 = f32[] custom-call(%x), custom_call_target="xla_python_callback"
  %call.6 = f32[] custom-call(%x), custom_call_target="TopK"
}
"""


def test_host_transfers_are_told_from_transfers_between_cores():
    found = compile.host_transfers(HLO)
    assert found == ["send send.2", "infeed infeed.4", "xla_python_callback call.5"]


def test_host_transfers_are_seen_before_compilation():
    module = """
    %1 = "stablehlo.all_reduce"(%0) ({}) : (tensor<f32>) -> tensor<f32>
    %2 = "stablehlo.outfeed"(%1, %t) : (tensor<f32>, !stablehlo.token) -> !stablehlo.token
    %3 = stablehlo.custom_call @xla_python_cpu_callback(%1) : (tensor<f32>) -> tensor<f32>
    %4 = stablehlo.custom_call @Sharding(%1) : (tensor<f32>) -> tensor<f32>
    """
    assert compile.lowered_host_transfers(module) == ["outfeed", "xla_python_cpu_callback"]


def test_what_a_fusion_makes_on_the_way_is_not_stored():
    module = """HloModule m, entry_computation_layout={(f32[2,3])->f32[2]}

%fused (p: f32[2,3]) -> f32[2] {
  %p = f32[2,3]{1,0} parameter(0)
  %scores = f32[2,5]{1,0:T(8,128)} dot(%p, %p)
  ROOT %r = f32[2]{0} reduce(%scores)
}

%body (s: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  %written = f32[4,5]{1,0} dot(%x, %y)
  ROOT %pair = (s32[]{:T(128)}, f32[2,7]{1,0:T(8,128)}) tuple(%i, %written)
}

ENTRY %main (x: f32[2,3]) -> f32[2] {
  %x = f32[2,3]{1,0} parameter(0)
  ROOT %f = f32[2]{0} fusion(%x), kind=kOutput, calls=%fused
}
"""
    assert compile.stored_shapes(module) == {"4,5": 1, "2,7": 1, "2,3": 1, "2": 1}


def test_memory_is_read_from_the_compilers_refusal():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.25G of 15.75G hbm."
    )
    assert compile.out_of_memory(message) == {
        "peak_bytes": 17.25 * 2**30,
        "hbm_bytes": 15.75 * 2**30,
    }
    assert compile.out_of_memory("INVALID_ARGUMENT: no such op") is None


def test_largest_batch_from_the_memory_of_one():
    # 1 GiB fixed and 1 GiB for 32 images: (16 * 63/64 - 1) GiB hold 14.75 times 32.
    train = {"temporary_bytes": 2**30, "peak_bytes": 2**31}
    assert verdict.extrapolate(train, CHIPS["v5e-8"], 32) == 14 * 32


def test_largest_batch_from_the_line_through_two():
    # 32 images take 1 GiB more; 15.75 - 13 GiB leave room for 2 x 32.
    small, large = {"peak_bytes": 12 * 2**30}, {"peak_bytes": 13 * 2**30}
    assert verdict.beyond(small, large, CHIPS["v5e-8"], 32, 64) == 64 + 2 * 32


def compiled(**changes):
    train = {"error": "", "flops": 1e12, "analytic_flops": 1e12, "bytes": 1e9, "peak_bytes": 1e9}
    return {
        "programs": {"train": train | {"host_transfers": []} | changes},
        "detection": {"flops": 0.001, "bytes": 0.005},
        "largest_batch": {"batch": 256, "how": "compiled"},
        "roofline": {"step_seconds": 0.1, "images_per_second": 1000.0},
    }


def test_a_step_that_keeps_its_promises_has_no_problems():
    assert verdict.problems("v5e-8", compiled()) == []


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (compiled(error="no kernel for Foo"), "no kernel for Foo"),
        (compiled(host_transfers=["infeed infeed.4"]), "infeed.4"),
        (compiled(chunk_rows=8, clusters=9, stored_shapes={"8,9": 2}), "the scores [8,9] are"),
        (compiled(flops=1.06e12), "1e+12 flops"),
        (compiled() | {"detection": {"flops": 0.02, "bytes": 0.0}}, "2.00% flops"),
        (compiled() | {"detection": {"flops": 0.0, "bytes": 0.03}}, "3.00% bytes"),
        (compiled() | {"largest_batch": {"batch": 96}}, "at most 96"),
    ],
)
def test_each_broken_promise_is_named(report, words):
    (problem,) = verdict.problems("v5e-8", report)
    assert problem.startswith("v5e-8 train: ")
    assert words in problem


def test_a_small_network_need_not_keep_a_large_ones_promises():
    costly = compiled(flops=1.06e12) | {"detection": {"flops": 0.02, "bytes": 0.3}}
    assert verdict.problems("v5e-8", costly, promises=False) == []
    waits = compiled(host_transfers=["infeed infeed.4"])
    assert len(verdict.problems("v5e-8", waits, promises=False)) == 1


def test_the_table_shows_the_compilers_reason():
    shown = table({"v5e-8": compiled(), "v3-8": compiled(error="no kernel for Foo")})
    lines = shown.splitlines()
    assert lines[1].split()[:4] == ["v5e-8", "yes", "1.000", "1.000"]
    assert lines[2].split(maxsplit=1) == ["v3-8", "no: no kernel for Foo"]


def test_a_step_compiled_at_the_default_effort_has_a_row_of_its_own():
    found = compiled()
    found["programs"]["train_default_effort"] = found["programs"]["train"] | {"bytes": 2e9}
    found["default_effort_roofline"] = {"step_seconds": 0.2, "images_per_second": 500.0}
    lines = table({"v5e-8": found}).splitlines()
    assert lines[2].split()[:3] == ["default", "effort", "yes"]
    assert lines[2].split()[-3:-1] == ["200.00", "500"]


SETTINGS = check.Settings(
    "f", (), 128, 1000, ("v3-8", "v4-8", "v5e-8"), ("v5e-8",), ("v5e-8",), "O0", jobs=1
)


class Compiler:
    """In place of the two environments: a step takes 1 GiB, and 1 GiB more for 32 images."""

    def __init__(self):
        self.compiled = []

    def lower(self, request, directory):
        return {
            program["name"]: {
                "analytic_flops": 1.0,
                "sizes": {},
                "error": "",
                "module": f"{request['replicas']}/{program['name']}/{program['replica_batch']}",
            }
            for program in request["programs"]
        }

    def compile(self, module, kind, effort):
        replicas, name, batch = str(module).split("/")
        assert int(replicas) == CHIPS[kind].replicas
        self.compiled.append((kind, name, effort))
        temporary = int(batch) * 2**30 / 32
        return {
            "error": "" if temporary < 13 * 2**30 else "out of memory",
            "seconds": 1.0,
            "flops": 1.0,
            "bytes": 1.0,
            "temporary_bytes": temporary,
            "peak_bytes": temporary + 2**30,
            "host_transfers": [],
        }


def test_every_program_is_compiled_once_for_every_kind_and_the_longest_first():
    compiler = Compiler()
    report = check.check(SETTINGS, compiler, lambda line: None)
    assert list(report) == ["v3-8", "v4-8", "v5e-8"]
    assert compiler.compiled[:2] == [("v5e-8", "train", "O0"), ("v5e-8", "train", "default")]
    once = {(kind, name, effort) for kind, name, effort in compiler.compiled}
    assert len(once) == len(compiler.compiled)
    programs = {"train", "tiny", "tiny_plain", "embed", "kmeans"}
    for kind, found in report.items():
        assert found["programs"].keys() - {"train_default_effort"} == programs
        assert ("default_effort_roofline" in found) == (kind == "v5e-8")


def test_the_batch_shrinks_until_it_fits():
    # 14.75 GiB would hold 472 images, so 448 are tried; 13 GiB hold 85% of these, 352.
    largest = check.check(SETTINGS, Compiler(), lambda line: None)["v5e-8"]["largest_batch"]
    assert (largest["batch"], largest["how"]) == (352, "compiled")


def test_missing_environments_are_a_user_error(tmp_path):
    with pytest.raises(UserError, match="make tpu-check"):
        Environments.under(tmp_path)


def test_a_module_is_compiled_once(tmp_path, monkeypatch):
    environments = Environments(tmp_path, tmp_path, tmp_path / "kept")
    calls = []

    def run(self, python, module, arguments):
        calls.append(arguments)
        with open(arguments[3], "w") as file:
            json.dump({"flops": len(calls)}, file)

    monkeypatch.setattr(Environments, "run", run)
    first, same, other = (tmp_path / name for name in ("a.mlir", "b.mlir", "c.mlir"))
    # Places in the source and the module's name change from trace to trace.
    first.write_text('module @a.1 {\n  %0 = stablehlo.add %a, %b : tensor<f32> loc("x.1")\n}')
    same.write_text('module @a.2 {\n  %0 = stablehlo.add %a, %b : tensor<f32> loc("x.9")\n}')
    other.write_text('module @a.2 {\n  %0 = stablehlo.add %a, %a : tensor<f32> loc("x.9")\n}')
    assert environments.compile(first, "v5e-8", "O0") == {"flops": 1}
    assert environments.compile(same, "v5e-8", "O0") == {"flops": 1}
    assert environments.compile(other, "v5e-8", "O0") == {"flops": 2}
    assert environments.compile(first, "v4-8", "O0") == {"flops": 3}


def test_costs_are_those_of_an_image_and_of_a_row_and_a_cluster():
    programs = {
        "train": {"flops": 640.0, "bytes": 320.0, "peak_bytes": 1000.0 + 4 * 3 * 10},
        "embed": {"flops": 64.0, "bytes": 32.0},
    }
    kmeans = {"width": 128, "iteration": 0.5, "last_pass": 1.5}
    assert epoch_model.costs(
        programs, kmeans, batch=32, num_examples=10, levels=3
    ) == epoch_model.Costs(20.0, 10.0, 2.0, 1.0, 256.0, 0.5, 512.0, 1.5, 1000.0)


LOOP = """HloModule m

%sliced (p.0: f32[64,4], p.1: s32[]) -> f32[8,4] {
  %p.0 = f32[64,4]{1,0:T(8,128)} parameter(0)
  %p.1 = s32[]{:T(128)} parameter(1)
  ROOT %slice = f32[8,4]{1,0:T(8,128)} dynamic-slice(%p.0, %p.1, %p.1)
}

%labels (c: f32[4,9], x: f32[64,4], i: s32[]) -> s32[8] {
  %c = f32[4,9]{0,1:T(8,128)} parameter(0)
  %x = f32[64,4]{1,0:T(8,128)} parameter(1)
  %i = s32[]{:T(128)S(6)} parameter(2)
  %rows = f32[8,4]{1,0:T(8,128)} fusion(%x, %i), kind=kLoop, calls=%sliced
  %scores = f32[8,9]{1,0:T(8,128)} convolution(%rows, %c), dim_labels=bf_io->bf
  ROOT %best = s32[8]{0:T(1024)} reduce(%scores, %i), dimensions={1}
}

%body (s: (s32[], f32[64,4], f32[4,9], s32[8,8])) -> (s32[], f32[64,4], f32[4,9], s32[8,8]) {
  %s = (s32[]{:T(128)}, f32[64,4]{1,0:T(8,128)}, f32[4,9]{0,1:T(8,128)}, s32[8,8]{1,0}) parameter(0)
  %i.1 = s32[]{:T(128)S(6)} get-tuple-element(%s), index=0
  %x.1 = f32[64,4]{1,0:T(8,128)} get-tuple-element(%s), index=1
  %c.1 = f32[4,9]{0,1:T(8,128)} get-tuple-element(%s), index=2
  %all = s32[8,8]{1,0:T(8,128)} get-tuple-element(%s), index=3
  %best.1 = s32[8]{0:T(1024)} fusion(%c.1, %x.1, %i.1), kind=kOutput, calls=%labels
  %fast = s32[8]{0:T(1024)S(1)} copy(%best.1)
  %row = s32[1,8]{1,0:T(8,128)} bitcast(%best.1)
  %new = s32[8,8]{1,0:T(8,128)} dynamic-update-slice(%all, %row, %i.1, %i.1)
  ROOT %t = (s32[], f32[64,4]{1,0}, f32[4,9]{0,1}, s32[8,8]{1,0}) tuple(%i.1, %x.1, %c.1, %new)
}

ENTRY %main (s.1: (s32[], f32[64,4], f32[4,9], s32[8,8])) -> s32[] {
  %s.1 = (s32[], f32[64,4]{1,0}, f32[4,9]{0,1}, s32[8,8]{1,0}) parameter(0)
  %w = (s32[], f32[64,4]{1,0}, f32[4,9]{0,1}, s32[8,8]{1,0}) while(%s.1), condition=%c, body=%body
  ROOT %r = s32[] get-tuple-element(%w), index=0
}
"""


def test_bytes_of_a_loop_are_those_that_pass_through_hbm():
    # The centroids, a slice of rows and the labels; a copy on the chip reads the labels again; a
    # row of labels is written in its place, which reads it once more. Neither scores nor all rows.
    labels = 8 * 4
    assert list(kmeans_bytes.loops(LOOP)) == [4 * 9 * 4 + 8 * 4 * 4 + labels + labels + 2 * labels]


def test_an_epochs_bound_by_hand():
    # One v5e core a second: 197e12 flops or 819e9 bytes. 100 images on 10 cores are 10 each.
    cost = epoch_model.Costs(197e12, 1.0, 1.0, 819e9, 1.0, 819e9, 394e12, 1.0, 0.0)
    chip = CHIPS["v5e-8"]
    found = epoch_model.epoch(
        chip, cost, cores=10, num_examples=100, clusters=[2, 4], width=7, iterations=20
    )
    assert found == (10.0, 10.0, 10 * 6 * 22.0, 4 * 2 * 100 / 1e9, 10 * 8 * 4 / 1e9, True)


def test_labels_that_outgrow_the_device_are_seen():
    cost = epoch_model.Costs(*[1.0] * 8, 6e9)
    fits = {
        n: epoch_model.epoch(
            CHIPS["v5e-8"], cost, cores=512, num_examples=n, clusters=[1, 2, 3]
        ).fits
        for n in (100_000_000, 1_000_000_000)
    }
    # 12 bytes an example beside 6 GB in 16.9 GB: 0.9e9 examples are the limit.
    assert fits == {100_000_000: True, 1_000_000_000: False}


def test_what_a_host_must_deliver_by_hand():
    found = {"tpus": {"v5e-8": {"roofline": {"images_per_second": 1000.0}}, "v3-8": {}}}
    (row,) = host.needs(found, {"uint8": 100.0}, 10)
    # Two views of 10 x 10 x 3 bytes, a thousand times a second; all 8 chips are on one host.
    assert row["infeed"] == {"uint8": {"gigabytes_per_second": 600e3 / 1e9, "cores": 10.0}}


@pytest.mark.parametrize("infeed_dtype", ["uint8", "float32", "bfloat16"])
def test_what_is_traced_is_what_the_pipeline_hands_over(infeed_dtype):
    from tests.system.tpu import programs

    flags = ("--infeed_dtype=" + infeed_dtype, "--image_size=32", "--batch_size=16")
    config = programs.main.parse_flagfile("experiments/imagenet_tpu.flags", *flags)
    source = datasets.open_splits("digits").train
    batches = train_batches.training_batches(
        source,
        augmentation=recipes.recipe("moco_v2"),
        image_size=32,
        batch_size=16,
        seed=0,
        infeed_dtype=infeed_dtype,
        input_context=tf.distribute.InputContext(1, 0, 4),
    )
    expected = {
        name: (list(value.shape), np.dtype(value.dtype).name)
        for name, value in programs.element(config, 4).items()
    }
    handed = {
        name: (spec.shape.as_list(), spec.dtype.name) for name, spec in batches.element_spec.items()
    }
    assert handed == expected


def test_bfloat16_products_change_only_rows_between_two_centroids():
    centroids = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    apart = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], np.float32)
    assert bfloat16.changed(apart, centroids) == (0.0, 0.0)
    # Equal after rounding to 8 bits, so the first centroid wins.
    between = np.array([[0.5, 0.5005]], np.float32)
    found = bfloat16.changed(np.concatenate([apart, between]), centroids)
    assert found.rows == 0.25 and 0 < found.inertia < 2e-3
