"""MoCo v2's views as its own code makes them: torchvision's transforms on Pillow images.

Needs `make bench-peers`; runs in that environment, driven by benchmarks.input.
"""

import pathlib
import random
import time
from typing import Any

import torch
from PIL import Image, ImageFilter

import benchmarks.peers.torch_cpu  # noqa: F401 - before torchvision

# isort: split
from torchvision import transforms

from benchmarks.peers.serving import serve

_state: dict[str, Any] = {}


class _GaussianBlur:
    """MoCo v2's moco/loader.py: Pillow's blur of a radius drawn anew for each view."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def build(folder: str, size: int, blur: bool, batch: int) -> None:
    """Prepares the transforms; without `blur` those for 32 px images."""
    torch.set_num_threads(1)
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    recipe = [
        transforms.RandomResizedCrop(size, scale=(0.2, 1.0)),
        transforms.RandomApply([jitter], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        *([transforms.RandomApply([_GaussianBlur()], p=0.5)] if blur else []),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
    paths = sorted(pathlib.Path(folder).glob("*.jpg"))
    _state.update(paths=paths, transform=transforms.Compose(recipe), batch=batch)


def seconds(batches: int) -> float:
    """Seconds of so many batches of two views an image."""
    paths, transform, batch = _state["paths"], _state["transform"], _state["batch"]
    begin = time.perf_counter()
    for number in range(batches):
        views = []
        for place in range(batch):
            with Image.open(paths[(number * batch + place) % len(paths)]) as file:
                image = file.convert("RGB")
            views.append(torch.stack([transform(image), transform(image)]))
        torch.stack(views)
    return time.perf_counter() - begin


if __name__ == "__main__":
    serve(build, seconds)
