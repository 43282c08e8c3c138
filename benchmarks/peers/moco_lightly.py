"""MoCo from lightly's parts on PyTorch's CPU build, as lightly's own example puts them together.

Needs `make bench-peers`; runs in that environment, driven by benchmarks.step and
benchmarks.photos. Channels-last and autocast, which PyTorch recommends on a CPU; input from a
DataLoader with worker processes.
"""

import copy
import itertools
import time
from typing import Any

import torch

import benchmarks.peers.torch_cpu  # noqa: F401 - before lightly imports torchvision

# isort: split
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models import ResNetGenerator
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import (
    batch_shuffle,
    batch_unshuffle,
    deactivate_requires_grad,
    update_momentum,
)
from lightly.transforms import MoCoV2Transform
from torch import nn

from benchmarks.peers.serving import serve

_state: dict[str, Any] = {}


class _Block(nn.Module):
    """A basic block with a projected shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _encoder(name: str) -> tuple[nn.Module, int]:
    """The network and the width of its features."""
    if name == "ResNet-18":
        resnet = ResNetGenerator("resnet-18")
        return nn.Sequential(*list(resnet.children())[:-1], nn.AdaptiveAvgPool2d(1)), 512
    width, stride = {"ResNet-8": (16, 1), "ResNet-8, wide": (32, 2)}[name]
    stem = [nn.Conv2d(3, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)]
    blocks = [_Block(width, width, 1), _Block(width, 2 * width, 2), _Block(2 * width, 4 * width, 2)]
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*stem, nn.ReLU(inplace=True), *blocks, pool), 4 * width


def build(
    data: str,
    encoder: str,
    precision: str,
    batch: int,
    queue: int,
    threads: int,
    size: int = 32,
    blur: float = 0.0,
) -> None:
    """Prepares the training of one setting.

    Args:
        data: class folders, or a folder, of images.
        encoder: its name, see `_encoder`.
        precision: float32 or bfloat16.
        batch, queue: images of a step, and keys in the queue.
        threads: of PyTorch, and processes of the input.
        size: side of the views.
        blur: probability of blur.
    """
    torch.set_num_threads(threads)
    backbone, width = _encoder(encoder)
    head = MoCoProjectionHead(width, width, 128)
    backbone = backbone.to(memory_format=torch.channels_last)
    keys = copy.deepcopy(backbone), copy.deepcopy(head)
    for module in keys:
        deactivate_requires_grad(module)
    transform = MoCoV2Transform(input_size=size, gaussian_blur=blur)
    loader = torch.utils.data.DataLoader(
        LightlyDataset(data, transform=transform),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=threads,
        persistent_workers=True,
    )
    _state.update(
        query=(backbone, head),
        keys=keys,
        batches=itertools.chain.from_iterable(itertools.repeat(loader)),
        loss=NTXentLoss(temperature=0.1, memory_bank_size=(queue, 128)),
        optimizer=torch.optim.SGD(
            [*backbone.parameters(), *head.parameters()], 0.06, momentum=0.9, weight_decay=5e-4
        ),
        half=precision == "bfloat16",
    )


def steps(count: int) -> float:
    """Seconds of so many training steps."""
    begin = time.perf_counter()
    (backbone, head), (key_backbone, key_head) = _state["query"], _state["keys"]
    for _ in range(count):
        (queries, keys), *_ = next(_state["batches"])
        update_momentum(backbone, key_backbone, m=0.99)
        update_momentum(head, key_head, m=0.99)
        with torch.autocast("cpu", torch.bfloat16, enabled=_state["half"]):
            queries = queries.to(memory_format=torch.channels_last)
            q = head(backbone(queries).flatten(start_dim=1))
            with torch.no_grad():
                shuffled, order = batch_shuffle(keys.to(memory_format=torch.channels_last))
                k = key_head(key_backbone(shuffled).flatten(start_dim=1))
                k = batch_unshuffle(k, order)
        loss = _state["loss"](q.float(), k.float())
        loss.backward()
        _state["optimizer"].step()
        _state["optimizer"].zero_grad()
    float(loss.detach())
    return time.perf_counter() - begin


if __name__ == "__main__":
    serve(build, steps)
