"""The paper's net in PyTorch, with the same arithmetic layer by layer, for the benchmarks."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class TowerLRN(nn.Module):
    """Local response normalisation within each of `groups` groups; defaults are the paper's."""

    def __init__(
        self,
        groups: int = 2,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 2.0,
    ) -> None:
        super().__init__()
        self._groups, self._size, self._beta, self._k = groups, size, beta, k
        self._alpha = size * alpha  # PyTorch divides alpha by the window's size, the paper does not

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        n, c, h, w = x.shape
        groups = x.reshape(self._groups * n, c // self._groups, h, w)
        y = functional.local_response_norm(groups, self._size, self._alpha, self._beta, self._k)
        return y.reshape(n, c, h, w)


def alexnet(classes: int = 1000) -> nn.Sequential:
    """The paper's two-tower net as one grouped net; 60,965,224 parameters."""
    return nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)),
        *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), TowerLRN(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), TowerLRN(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        nn.Flatten(),
        *(nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(4096, classes),
    )
