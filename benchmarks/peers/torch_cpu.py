"""Importing this first lets torchvision be imported beside PyTorch's CPU build.

torchvision's wheel cannot load its operators there; nothing that is measured uses them.
"""

import torch

for _name in ("nms", "qnms"):
    torch.library.define(
        f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    )
