"""MoCo v2's CIFAR recipe in plain PyTorch, the peer of a lowered run: images a second and kNN.

    python -m benchmarks.peers.moco_torch --data=cifar10.npz --epochs=3
    python -m benchmarks.peers.moco_torch --data=cifar10.npz --epochs=200 --compile=step --knn

Written for this comparison after He et al. 2019 (arXiv 1911.05722) and Chen et al. 2020 (arXiv
2003.04297), with MoCo's CIFAR settings: ResNet-18, two-layer projector, queue 4096, split batch
statistics with shuffled keys, SGD. Channels last, bfloat16, torch.compile, images and their
augmentation on the device. Needs PyTorch and NumPy, nothing of this project.
"""

import argparse
import copy
import json
import math
import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers.moco_network import MEAN, STD, Network, views


class Step:
    """One training step: two views, keys without gradients, the loss against the queue.

    Args:
        options: of the command line.
        device: where to train.
    """

    def __init__(self, options: argparse.Namespace, device: torch.device):
        self._batch, self._device = options.batch_size, device
        self.query = Network(options.width).to(device, memory_format=torch.channels_last)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.queue = functional.normalize(
            torch.randn(options.queue_size, 128, device=device), dim=1
        )
        self.optimizer = torch.optim.SGD(
            self.query.parameters(), lr=0.06, momentum=0.9, weight_decay=5e-4
        )
        self._views: Any = torch.compile(views) if options.compile == "views" else views
        self._loss: Any = torch.compile(self.loss) if options.compile == "step" else self.loss

    def loss(self, seen: torch.Tensor, queue: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """InfoNCE of images uint8 [b, S, S, 3], and their keys."""
        with torch.no_grad():
            first, second = self._views(seen), self._views(seen)
        with torch.autocast(self._device.type, torch.bfloat16):
            with torch.no_grad():
                # A permutation; torch.compile of PyTorch 2.13 fails on torch.randperm as an index.
                order = torch.rand(self._batch, device=self._device).argsort()
                keys = torch.empty(self._batch, 128, device=self._device)
                keys[order] = self.key(first[order])
            queries = self.query(second)
        positive = (queries * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, queries @ queue.T], 1) / 0.1
        return functional.cross_entropy(logits, torch.zeros_like(order)), keys

    def __call__(self, seen: torch.Tensor, number: int, rate: float) -> torch.Tensor:
        """Trains on images [b, S, S, 3] in step `number`; returns the loss."""
        self.optimizer.param_groups[0]["lr"] = rate
        loss, keys = self._loss(seen, self.queue)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            pairs = list(self.key.parameters()), list(self.query.parameters())
            torch._foreach_lerp_(*pairs, 0.01)
        at = number * self._batch % len(self.queue)
        self.queue[at : at + self._batch] = keys
        return loss.detach()


def train(options: argparse.Namespace, images: torch.Tensor) -> tuple[Network, list[float]]:
    """Trains; returns the query network and the images a second of each epoch after the first."""
    batch, steps = options.batch_size, len(images) // options.batch_size
    step, speeds, total = Step(options, images.device), list[float](), 0
    say(f"{steps} steps an epoch; first step, --compile={options.compile} ...")
    for epoch in range(options.epochs):
        order, start = torch.randperm(len(images), device=images.device), time.monotonic()
        for number in range(steps):
            rate = 0.03 * (1 + math.cos(math.pi * total / (options.epochs * steps)))
            loss = step(images[order[number * batch : (number + 1) * batch]], total, rate)
            total += 1
            if total == 1:
                say(f"first step: loss {float(loss):.3f} after {time.monotonic() - start:.1f} s")
        value = float(loss)  # waits for the device
        speed = steps * batch / (time.monotonic() - start)
        say(f"epoch {epoch + 1}/{options.epochs}  loss {value:.3f}  {speed:,.0f} images/s")
        if epoch:
            speeds.append(speed)
    return step.query, speeds


@torch.no_grad()
def features(network: Network, images: torch.Tensor, batch: int = 500) -> torch.Tensor:
    """The encoder's features of plain images, of unit length: float32 [N, F]."""
    network.eval()
    device = images.device
    mean, std = (torch.tensor(v, device=device)[None, :, None, None] for v in (MEAN, STD))
    parts = []
    for start in range(0, len(images), batch):
        pixels = images[start : start + batch].permute(0, 3, 1, 2).float() / 255
        seen = ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            found = network.encoder(seen)
        parts.append(functional.normalize(found.float(), dim=1))
    return torch.cat(parts)


def knn_top1(
    known: torch.Tensor,
    labels: torch.Tensor,
    queries: torch.Tensor,
    truth: torch.Tensor,
    neighbors: int = 200,
    temperature: float = 0.1,
) -> float:
    """Accuracy of cosine kNN whose votes weigh exp(cosine / T) (Wu et al. 2018, section 3.4).

    Args:
        known: unit features [N, F].
        labels: int64 [N].
        queries: unit features [M, F].
        truth: int64 [M].
        neighbors: k, clipped to N.
        temperature: T.
    """
    classes, right = int(labels.max()) + 1, 0
    for start in range(0, len(queries), 512):
        cosine = queries[start : start + 512] @ known.T
        nearest, rows = cosine.topk(min(neighbors, len(known)), dim=1)
        votes = torch.zeros(len(nearest), classes, device=known.device)
        votes.scatter_add_(1, labels[rows], (nearest / temperature).exp())
        right += int((votes.argmax(1) == truth[start : start + 512]).sum())
    return right / len(queries)


def say(text: str) -> None:
    """Prints a line at once, so that a run that is cut off says how far it came."""
    print(text, flush=True)


def load(path: str, device: torch.device) -> dict[str, torch.Tensor]:
    """The arrays of FILE.npz on the device, labels as int64."""
    with np.load(path) as stored:
        arrays = {name: torch.from_numpy(stored[name]).to(device) for name in stored.files}
    return {name: a.long() if name.endswith("labels") else a for name, a in arrays.items()}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", required=True, help="FILE.npz with train_images")
    parser.add_argument("--epochs", type=int, default=3, help="2 or more; the first warms up")
    parser.add_argument("--batch_size", type=int, default=512)
    parser.add_argument("--queue_size", type=int, default=4096)
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage")
    parser.add_argument("--examples", type=int, help="only so many images; default: all")
    parser.add_argument(
        "--compile", choices=("none", "views", "step"), default="views",
        help="views: the augmentation alone, in seconds; step: all of it, which takes minutes",
    )  # fmt: skip
    parser.add_argument("--knn", action="store_true", help="also kNN of the test images")
    parser.add_argument("--json", help="write the result to this file")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    say(f"PyTorch {torch.__version__} on {name}")
    data = load(options.data, device)
    images = data["train_images"][: options.examples]
    network, speeds = train(options, images)
    result: dict[str, Any] = {
        "images_per_second": float(np.median(speeds)), "device": name, "torch": torch.__version__,
        "epochs": options.epochs, "compile": options.compile,
    }  # fmt: skip
    if options.knn:
        known, queries = features(network, images), features(network, data["test_images"])
        labels = data["train_labels"][: options.examples]
        result["knn_top1"] = knn_top1(known, labels, queries, data["test_labels"])
    say(json.dumps(result))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main()
