"""How a net's input is made of pixels. This is the only place that decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import repr  # bounded, as a file may hold anything

import numpy as np

from pyalexnet.device import Floats
from pyalexnet.errors import DataError, NetError
from pyalexnet.nn.layers.base import is_number


@dataclass(frozen=True)
class Normalization:
    """input = (pixel - mean) · scale, for pixels 0..255.

    Attributes
    ----------
    scale : float or tuple of float
        One number, or one for each channel.
    mean : None, float or tuple of float
        None: the training set's mean image (paper, section 2). Otherwise one number, or one for
        each channel.
    """

    scale: float | tuple[float, ...] = 1.0
    mean: float | tuple[float, ...] | None = None

    @classmethod
    def per_channel(cls, mean: Sequence[float], std: Sequence[float]) -> Normalization:
        """(pixel/255 - mean) / std, as torchvision writes it.

        >>> Normalization.per_channel([0.5], [0.25])
        Normalization(scale=(0.01568627450980392,), mean=(127.5,))
        """
        return cls(tuple(1 / (255 * s) for s in std), tuple(255 * m for m in mean))

    @property
    def uses_mean_image(self) -> bool:
        """Whether the training set's mean image is subtracted."""
        return self.mean is None

    def check(self, channels: int) -> None:
        """Raises NetError unless there is one number, or one for each of the channels."""
        for name in ("scale", "mean"):
            value = getattr(self, name)
            if value is None and name == "mean":
                continue
            numbers = value if isinstance(value, tuple) else (value,)
            ok = all(map(is_number, numbers))
            if not ok or (isinstance(value, tuple) and len(value) != channels):
                raise NetError(
                    f"{name} is {repr(value)}; expected one number, or one for each of {channels} "
                    "channels (float32)"
                )

    def scales(self, channels: int) -> Floats:
        """`scale` for each channel, float32 (C,)."""
        return np.broadcast_to(np.array(self.scale, np.float32), (channels,)).copy()

    def means(self, shape: tuple[int, int, int], mean_image: Floats | None) -> Floats:
        """What is subtracted from images of `shape` (H, W, C): float32 of that shape.

        Without a mean image, zeros stand for it.

        Raises
        ------
        DataError
            The mean image has another shape.
        """
        if self.mean is not None:
            return np.broadcast_to(np.array(self.mean, np.float32), shape).copy()
        if mean_image is None:
            return np.zeros(shape, np.float32)
        if mean_image.shape != shape:
            raise DataError(f"mean image is {mean_image.shape}; expected the images' {shape}")
        return np.asarray(mean_image, np.float32)
