"""From stored images to a net's input, on the device."""

from __future__ import annotations

import numpy as np

from pyalexnet import ops
from pyalexnet.device import Array, Device, Event, Floats, HostArray
from pyalexnet.nn.net import Net


class PixelInput:
    """Crops, mirrors, shifts and normalises uint8 images into a net's input.

    Parameters
    ----------
    net : Net
    device : Device
    batch_size : int
        Images at most.
    out : float32 (C, H, W, N)
        The net's input.

    Attributes
    ----------
    mean_image : float32 (H, W, C) or None
        The training set's.
    """

    def __init__(self, net: Net, device: Device, batch_size: int, out: Array) -> None:
        self.net, self.device, self.out = net, device, out
        channels = net.input[0]
        self._scale = device.upload(net.normalization.scales(channels))
        self._crops = device.zeros((batch_size, 3), np.int32)
        self._shifts = device.zeros((batch_size, channels))
        self.mean_image: Floats | None = None
        # Both have the stored images' size, which is known with the first batch.
        self._stored: Array | None = None
        self._mean: Array | None = None
        self._uploaded: Event = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the mean image, else of the images read last, else of the net's input."""
        channels, rows, columns = self.net.input
        shape = (rows, columns, channels)
        for array in (self._stored, self.mean_image):
            if array is not None:
                shape = (array.shape[-3], array.shape[-2], array.shape[-1])
        return shape

    def set_mean_image(self, mean: Floats) -> None:
        """Sets the training set's mean image, float32 (H, W, C)."""
        self.mean_image, self._mean = mean, None

    def load(self, images: HostArray, crops: HostArray, shifts: HostArray | None = None) -> None:
        """Computes the input from images (B, H, W, C), crops (B, 3) and colour shifts (B, C)."""
        at, size = self.device, images.shape[1:]
        if self._stored is None or self._stored.shape[1:] != size:
            self._stored = at.empty((self._crops.shape[0], *size), np.uint8)
            self._mean = None
        if self._mean is None:
            rows, columns, channels = size
            means = self.net.normalization.means((rows, columns, channels), self.mean_image)
            self._mean = at.upload(means)
        pixels = at.place(images, self._stored)
        # The caller may overwrite a pinned batch once the next one has been uploaded.
        if self._uploaded is not None:
            at.wait(self._uploaded)
        self._uploaded = at.record_event()
        at.copy_in(self._crops[: len(crops)], crops)
        if shifts is not None:
            at.copy_in(self._shifts[: len(shifts)], shifts)
        ops.augment(
            pixels,
            self._crops[: len(crops)],
            self._mean,
            self._scale,
            None if shifts is None else self._shifts[: len(shifts)],
            size=self.net.input[1:],
            out=self.out,
        )
