"""The PyTorch peer trains; skipped where PyTorch is not installed, as it is no dependency."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the peer of the lowered run needs PyTorch")

ROOT = pathlib.Path(__file__).parents[2]


def test_the_peer_trains_and_says_its_speed(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), np.uint8)
    labels = np.arange(64, dtype=np.int32) % 4
    arrays = {"train_images": images, "train_labels": labels}
    arrays |= {"test_images": images[:20], "test_labels": labels[:20]}
    np.savez(tmp_path / "data.npz", **arrays)
    command = [sys.executable, "-m", "benchmarks.peers.moco_torch", f"--data={tmp_path}/data.npz"]
    sizes = [
        "--epochs=3",
        "--batch_size=16",
        "--queue_size=32",
        "--width=8",
        "--compile=none",
        "--knn",
    ]
    done = subprocess.run(
        [*command, *sizes, f"--json={tmp_path}/out.json"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for said in ("PyTorch 2", "first step: loss ", "epoch 3/3  loss "):
        assert said in done.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["images_per_second"] > 0 and found["device"] == "cpu"
    assert 0 < found["knn_top1"] <= 1


def test_parts_of_a_batch_have_statistics_of_their_own():
    from benchmarks.peers.moco_network import SplitBatchNorm

    torch.manual_seed(0)
    batch = torch.randn(16, 3, 2, 2) * 5 + 1
    found = SplitBatchNorm(3)(batch)
    for part in range(8):
        rows = slice(2 * part, 2 * part + 2)
        alone = torch.nn.BatchNorm2d(3)(batch[rows])
        torch.testing.assert_close(found[rows], alone, rtol=1e-4, atol=1e-5)


def test_votes_are_weighted_by_similarity():
    from benchmarks.peers.moco_torch import knn_top1

    # Cosines 1, 0.8 and 0.8 to the query: e^10 for class 0 against 2 e^8 for class 1.
    known = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]])
    labels, query = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]])
    assert knn_top1(known, labels, query, torch.tensor([0])) == 1.0
    assert knn_top1(known, labels, query, torch.tensor([1])) == 0.0
    # At T = 1 the two outweigh the one: e^1 < 2 e^0.8.
    assert knn_top1(known, labels, query, torch.tensor([1]), temperature=1.0) == 1.0
