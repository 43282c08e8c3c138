"""The network and the views of `moco_torch`: ResNet-18 for 32 pixels, MoCo v2's augmentation."""

import math

import torch
from torch import nn
from torch.nn import functional

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)


class SplitBatchNorm(nn.BatchNorm2d):
    """Batch normalisation in which each of `splits` parts of a batch has its own statistics."""

    splits = 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises [b, C, H, W]."""
        b, c, h, w = x.shape
        if not self.training:
            return super().forward(x)
        mean, variance = self.running_mean.repeat(self.splits), self.running_var.repeat(self.splits)
        rows = x.reshape(self.splits, b // self.splits, c, h, w).transpose(0, 1)
        y = functional.batch_norm(
            rows.reshape(b // self.splits, self.splits * c, h, w),
            mean, variance, self.weight.repeat(self.splits), self.bias.repeat(self.splits),
            True, self.momentum, self.eps,
        )  # fmt: skip
        self.running_mean.copy_(mean.view(self.splits, c).mean(0))
        self.running_var.copy_(variance.view(self.splits, c).mean(0))
        return y.reshape(b // self.splits, self.splits, c, h, w).transpose(0, 1).reshape(b, c, h, w)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = SplitBatchNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = SplitBatchNorm(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), SplitBatchNorm(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, C, H, W] -> [b, C', H / stride, W / stride]."""
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class Network(nn.Module):
    """ResNet-18 with a 3x3 stem, and MoCo v2's projector: images -> unit vectors [b, dim]."""

    def __init__(self, width: int = 64, dim: int = 128):
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, 1, 1, bias=False), SplitBatchNorm(width), nn.ReLU()
        ]  # fmt: skip
        inputs = width
        for stage in range(4):
            for number in range(2):
                outputs = width * 2**stage
                layers.append(Block(inputs, outputs, 2 if stage and not number else 1))
                inputs = outputs
        self.encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projector = nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float [b, 3, S, S] -> float32 [b, dim] of unit length."""
        return functional.normalize(self.projector(self.encoder(x)).float(), dim=1)


def views(images: torch.Tensor, min_area: float = 0.08) -> torch.Tensor:
    """One random view of each image: crop, flip, colour jitter, grey; normalised.

    Args:
        images: uint8 [b, S, S, 3] on the device.
        min_area: smallest crop, as a share of the area.
    """
    count, device = images.shape[0], images.device

    def draw(low: float, high: float) -> torch.Tensor:
        return torch.rand(count, device=device) * (high - low) + low

    def happens(probability: float) -> torch.Tensor:
        return torch.rand(count, device=device) < probability

    aspect = torch.exp(draw(math.log(3 / 4), math.log(4 / 3))).sqrt()
    side = draw(min_area, 1.0).sqrt()
    width, height = (side * aspect).clamp(max=1.0), (side / aspect).clamp(max=1.0)
    left, top = (1 - width) * draw(-1, 1), (1 - height) * draw(-1, 1)
    zero, flip = torch.zeros_like(width), torch.where(happens(0.5), -1.0, 1.0)
    theta = torch.stack(
        [torch.stack([width * flip, zero, left], 1), torch.stack([zero, height, top], 1)], 1
    )
    pixels = images.permute(0, 3, 1, 2).float() / 255
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    pixels = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)

    jittered = happens(0.8)

    def factor(strength: float) -> torch.Tensor:
        drawn = torch.where(jittered, draw(1 - strength, 1 + strength), 1.0)
        return drawn[:, None, None, None]

    luma = torch.tensor(LUMA, device=device)[None, :, None, None]
    pixels = pixels * factor(0.4)
    mean = (pixels * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    pixels = mean + (pixels - mean) * factor(0.4)
    gray = (pixels * luma).sum(1, keepdim=True)
    saturation = torch.where(happens(0.2)[:, None, None, None], 0.0, factor(0.4))
    # Hue as a turn of the chroma about the grey axis.
    angle = torch.where(jittered, draw(-0.1, 0.1) * 2 * math.pi, 0.0)[:, None, None, None]
    chroma = (pixels - gray) * saturation
    crossed = torch.roll(chroma, 1, 1) - torch.roll(chroma, -1, 1)
    chroma = chroma * torch.cos(angle) + crossed * torch.sin(angle) / math.sqrt(3)
    pixels = (gray + chroma).clamp(0, 1)
    mean_, std_ = (torch.tensor(v, device=device)[None, :, None, None] for v in (MEAN, STD))
    return ((pixels - mean_) / std_).contiguous(memory_format=torch.channels_last)
