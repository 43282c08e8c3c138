"""The teacher of the student's benchmark: EfficientNet-Lite0 on PyTorch, by examples/.

Needs `make bench-peers`; runs in that environment, driven by benchmarks.student.
"""

import functools
import pathlib
import runpy
import time
import types

import torch

from benchmarks.peer import ROOT
from benchmarks.peers.serving import serve

teacher = types.SimpleNamespace(**runpy.run_path(str(ROOT / "examples/embed_with_pytorch.py")))
_encoder = functools.cache(teacher.pretrained)  # prints, which `serve` must redirect first
torch.set_num_threads(1)


def weights_megabytes() -> float:
    """The size of its weights as the embedding uses them, without the classifier."""
    used = [v for k, v in _encoder().state_dict().items() if not k.startswith("_fc.")]
    return sum(value.numel() * value.element_size() for value in used) / 1e6


def seconds(paths: list[str]) -> float:
    """The time from files to embeddings, in batches."""
    files, begin = [pathlib.Path(path) for path in paths], time.perf_counter()
    for start in range(0, len(files), teacher.BATCH):
        teacher.embed(_encoder(), files[start : start + teacher.BATCH])
    return time.perf_counter() - begin


if __name__ == "__main__":
    serve(weights_megabytes, seconds)
