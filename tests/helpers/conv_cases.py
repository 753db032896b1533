"""Cases of convolutions, by names that say what is special about them."""

from __future__ import annotations

from typing import NamedTuple

from pyalexnet import ops


class Case(NamedTuple):
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    images: int
    stride: int = 1
    pad: int = 0
    groups: int = 1
    ceil_mode: bool = False

    @property
    def how(self) -> dict[str, int]:
        return {"stride": self.stride, "pad": self.pad, "groups": self.groups}

    @property
    def x(self) -> tuple[int, ...]:
        return self.C, self.H, self.W, self.images

    @property
    def w(self) -> tuple[int, ...]:
        return self.C // self.groups, self.R, self.S, self.K

    @property
    def out(self) -> tuple[int, int]:
        P, Q = (
            ops.output_size(size, taps, self.stride, self.pad, self.ceil_mode)
            for size, taps in ((self.H, self.R), (self.W, self.S))
        )
        return P, Q

    @property
    def y(self) -> tuple[int, ...]:
        return self.K, *self.out, self.images


#: Sizes that are no multiples of a tile: filters, channels, images, windows.
CASES = {
    "one of everything": Case(1, 1, 1, 1, 1, 1, 1),
    "1x1": Case(5, 4, 3, 10, 1, 1, 7),
    "1x1 stride 2": Case(3, 5, 6, 17, 1, 1, 33, stride=2),
    "3x3": Case(3, 6, 5, 17, 3, 3, 7, pad=1),
    "3x3 one channel, one filter": Case(1, 7, 7, 1, 3, 3, 33),
    "3x3 stride 2 floor": Case(5, 8, 6, 10, 3, 3, 7, stride=2),
    "3x3 stride 2 ceil": Case(5, 8, 6, 10, 3, 3, 7, stride=2, ceil_mode=True),
    "3x3 groups 2": Case(16, 5, 5, 48, 3, 3, 7, pad=1, groups=2),
    "3x3 groups 4": Case(16, 5, 4, 12, 3, 3, 7, pad=1, groups=4),
    "a filter a group": Case(6, 5, 5, 3, 3, 3, 7, groups=3),
    "5x5": Case(3, 9, 8, 10, 5, 5, 7, pad=2),
    "5x5 groups 2": Case(10, 7, 7, 96, 5, 5, 1, pad=2, groups=2),
    "2x5": Case(5, 6, 7, 17, 2, 5, 7, pad=1),
    "5x1 stride 2": Case(3, 9, 6, 3, 5, 1, 33, stride=2),
    "11x11 stride 4 ceil": Case(3, 18, 16, 4, 11, 11, 7, stride=4, ceil_mode=True),
    "stride above filter": Case(5, 9, 8, 10, 2, 2, 7, stride=3),
    "stride above filter, pad": Case(3, 8, 8, 3, 1, 2, 7, stride=4, pad=2),
    "windows outside the image": Case(3, 4, 5, 10, 3, 3, 7, pad=4),
    "the window is the image": Case(16, 5, 6, 10, 5, 6, 33),
    "the window is larger than the image": Case(3, 2, 3, 10, 5, 5, 7, pad=2),
    "over 128 filters": Case(16, 4, 4, 130, 3, 3, 33, pad=1),
    "over 128 images": Case(16, 4, 3, 20, 3, 3, 130, pad=1),
    "long sums": Case(5, 17, 13, 17, 3, 3, 33, pad=1),
    "AlexNet conv1": Case(3, 224, 224, 3, 11, 11, 1, stride=4, ceil_mode=True),
    "AlexNet conv2": Case(6, 27, 27, 10, 5, 5, 1, pad=2, groups=2),
    "AlexNet conv3": Case(17, 13, 13, 24, 3, 3, 1, pad=1),
    "AlexNet conv4": Case(24, 13, 13, 20, 3, 3, 1, pad=1, groups=2),
    "torchvision conv1": Case(3, 56, 56, 4, 11, 11, 1, stride=4, pad=2),
}
