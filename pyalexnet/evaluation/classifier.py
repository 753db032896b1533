"""A trained net that stays loaded, for images of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyalexnet.device import Device
from pyalexnet.errors import CheckpointError
from pyalexnet.evaluation import pixels
from pyalexnet.evaluation import views as positions
from pyalexnet.evaluation.views import STRIDE, average
from pyalexnet.files import expanded
from pyalexnet.model import Model
from pyalexnet.training.checkpoint import Checkpoint
from pyalexnet.training.checkpoint import load as load_checkpoint

_BATCH_SIZE = 32


class Classifier(Model):
    """The model of a checkpoint, which also knows its classes and how to read images.

    Attributes
    ----------
    classes : list of str
        Names by label.
    stored_shape : (H, W, C)
        What images are resized to before they are cropped: the training set's.
    mirrored : bool
        Whether the net was trained on mirrored images, as "ten" and "dense" views use them.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str | Device | Sequence[Device], batch_size: int
    ) -> None:
        super().__init__(checkpoint.net, device, batch_size)
        checkpoint.fill(self)
        self.classes = checkpoint.classes
        self.stored_shape = checkpoint.image_shape
        self.mirrored = checkpoint.mirrored

    def __call__(
        self, images: pixels.Images, *, views: str = "centre", dense_stride: int = STRIDE
    ) -> NDArray[np.float32]:
        """Probabilities of images, which are resized and cropped as in validation.

        Parameters
        ----------
        images : path, image of Pillow's, uint8 array, or sequence of these
            Arrays are (H, W, C), (H, W), or (N, H, W, C) for N images; C is 1, 3 or 4.
        views, dense_stride
            As `kind` and `stride` of `views.views`.

        Returns
        -------
        float32 (N, classes), also for one image

        Raises
        ------
        DataError
            An image cannot be read.
        """
        crops = positions.views(
            views,
            self.stored_shape[:2],
            self.net.input[1:],
            mirror=self.mirrored,
            stride=dense_stride,
        )
        found = pixels.listed(images)
        result = np.empty((len(found), len(self.classes)), np.float32)
        for start in range(0, len(found), self.batch_size):
            part = slice(start, start + self.batch_size)
            result[part] = average(self, pixels.read(found[part], self.stored_shape), crops)
        return result


def load(
    path: str | Path,
    device: str | Device | Sequence[Device] = "auto",
    batch_size: int = _BATCH_SIZE,
) -> Classifier:
    """The trained net of a checkpoint, ready to classify images or to be trained on.

    Parameters
    ----------
    path : str or Path
    device, batch_size
        As `Model`.

    Raises
    ------
    UserError
        The checkpoint or the device cannot be used; the message names it.
    """
    path = expanded(path)
    checkpoint = load_checkpoint(path)
    try:
        return Classifier(checkpoint, device, batch_size)
    except CheckpointError as error:  # about its tensors
        raise CheckpointError(f"{path}: {error}") from error
