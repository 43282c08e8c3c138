"""What goes to an accelerator's machine and comes back: packs and weights."""

import json
import lzma
import pathlib
import tarfile

import numpy as np
import pytest

from ifnd_tf.errors import UserError
from jax_runner import accelerator
from jax_runner.artifact import FORMAT, artifacts_in
from jax_runner.run_directory import STATE, read_state, read_weights, weight_files

VALUES = np.random.default_rng(0).normal(size=(3, 200, 600)).astype(np.float32)


def write_run(folder: pathlib.Path, seed: int = 0, initial: str = "../initial.npz") -> None:
    """A lowered run without programs, whose variables 0 and 2 are the query network's."""
    folder.mkdir(parents=True)
    manifest = {"format": FORMAT, "programs": {}, "initial": initial, "query": [0, 2]}
    manifest |= {"settings": {"seed": seed}, "state": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def lowered(tmp_path):
    folder = tmp_path / "lowered"
    for seed in (1, 0):
        write_run(folder / f"none-{seed}", seed)
    np.savez(folder / "initial.npz", *VALUES)
    (folder / "runs").mkdir()
    (folder / "runs" / "state.npz").write_bytes(b"not to be packed")
    with tarfile.open(tmp_path / "images.tgz", "w:gz"):
        pass
    return folder


def packed(lowered: pathlib.Path) -> pathlib.Path:
    out = lowered.parent / "pack.tar.xz"
    options = [f"--images={lowered.parent / 'images.tgz'}", f"--out={out}"]
    assert accelerator.main(["pack", str(lowered), *options]) == 0
    return out


def test_a_pack_holds_the_runs_and_the_images_in_less_space(lowered, capsys):
    out = packed(lowered)
    assert "pack.tar.xz: " in capsys.readouterr().out
    assert out.stat().st_size < 0.87 * VALUES.nbytes
    assert out.stat().st_size < len(lzma.compress(VALUES.tobytes()))
    folder = accelerator.unpack(out)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    runs = [f"none-{seed}/manifest.json" for seed in (0, 1)]
    assert names == ["images.tgz", "initial.npz", *runs]
    assert [a.folder.name for a in artifacts_in(folder)] == ["none-0", "none-1"]
    np.testing.assert_array_equal(np.load(folder / "initial.npz")["arr_1"], VALUES[1])
    assert accelerator.unpack(folder) == folder


def test_a_run_alone_keeps_its_name(lowered, tmp_path):
    write_run(tmp_path / "ifnd-0", initial="initial.npz")
    accelerator.pack(tmp_path / "ifnd-0", tmp_path / "images.tgz", tmp_path / "one.tar.xz")
    (artifact,) = artifacts_in(accelerator.unpack(tmp_path / "one.tar.xz"))
    assert artifact.folder.name == "ifnd-0"


def test_what_cannot_be_packed_is_refused(lowered, tmp_path, capsys, monkeypatch):
    assert accelerator.main(["pack", str(lowered), "--images=nowhere.tgz"]) == 1
    assert "expected an archive of class folders" in capsys.readouterr().err
    monkeypatch.setattr(accelerator, "MOST_PACKED", 1_000_000)
    with pytest.raises(UserError, match="expected at most 1 MB. Received: .* pack fewer runs"):
        accelerator.pack(lowered, tmp_path / "images.tgz", tmp_path / "pack.tar.xz")
    (tmp_path / "text.tar.xz").write_text("no archive")
    assert accelerator.main(["run", str(tmp_path / "text.tar.xz"), f"--out={tmp_path}"]) == 1
    assert "expected a pack, FILE.tar.xz" in capsys.readouterr().err


def test_the_query_network_alone_comes_back_in_small_files(lowered, tmp_path, monkeypatch):
    folder = accelerator.unpack(packed(lowered))
    runs, out = folder / "runs", tmp_path / "out"
    out.mkdir()
    for name, results in (("none-0", {"evaluate_seconds": 1.0}), ("none-1", {"epochs": 3})):
        (runs / name).mkdir(parents=True)
        (runs / name / "results.json").write_text(json.dumps(results))
        state = {str(number): value for number, value in enumerate(VALUES)}
        np.savez(runs / name / "state.npz", notes=np.array("{}"), **state)
    monkeypatch.setattr(accelerator, "MOST_WEIGHTS", VALUES[0].size * 2)
    accelerator.pack_results(folder, runs, out)
    names = [path.name for path in weight_files(out / "none-0")]
    assert names == ["none-0.weights.0.npz", "none-0.weights.1.npz"]
    assert not weight_files(out / "none-1")  # not finished
    weights = read_weights(out / "none-0")
    assert list(weights) == ["0", "2"]
    np.testing.assert_array_equal(weights["2"], VALUES[2].astype(np.float16))
    with tarfile.open(out / "runs.tar.gz") as archive:
        assert archive.getnames() == ["none-0/results.json", "none-1/results.json"]


def test_a_training_that_fails_is_no_success(lowered, tmp_path, capfd):
    folder = accelerator.unpack(packed(lowered))
    np.savez(folder / "images.npz", train_images=VALUES)  # not those of a run
    assert accelerator.main(["run", str(folder), f"--out={tmp_path / 'out'}", "--no-peer"]) == 1
    assert "jax_runner: Command" in capfd.readouterr().out
    assert (tmp_path / "out" / "runs.tar.gz").exists()


def test_a_state_cut_short_is_explained(tmp_path):
    path = tmp_path / STATE
    np.savez(path, notes=np.array('{"manifest": "digest"}'), values=VALUES)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="expected a state that jax_runner wrote"):
        read_state(path, "digest")
