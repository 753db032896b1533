"""Colour noise in training runs: shifts, checkpoints and invalid options."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import target, tiny
from helpers.data_files import write_mnist
from pyalexnet import data
from pyalexnet.data.augmentation import colour_shifts
from pyalexnet.errors import UserError
from pyalexnet.model import Model
from pyalexnet.training import trainer as trainer
from pyalexnet.training.checkpoint import Checkpoint, load
from pyalexnet.training.trainer import Outcome

NOISE = {"colour_noise": 0.2, "colour_variant": "code"}


def last(outcome: Outcome) -> Checkpoint:
    return load(outcome.folder / "last.safetensors")


def bits(outcome: Outcome) -> list[bytes]:
    saved = last(outcome)
    return [array.tobytes() for part in (saved.model, saved.optimiser) for array in part.values()]


def interrupt_at(step: int) -> Any:
    return lambda done: os.kill(os.getpid(), signal.SIGINT) if done == step else None


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return tiny.run(tmp_path_factory.mktemp("noisy"), epochs=2, **NOISE)


def test_every_image_of_every_step_has_its_own_shift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward_backward, seen = Model.forward_backward, []

    def watched(self: Model, *args: Any, **more: Any) -> None:
        seen.append(more["shifts"])
        forward_backward(self, *args, **more)

    monkeypatch.setattr(Model, "forward_backward", watched)
    outcome = tiny.run(tmp_path, epochs=2, shared_crop=4, **NOISE)
    shifts = np.concatenate(seen)
    assert len(np.unique(shifts, axis=0)) == len(shifts) == 2 * tiny.TRAIN
    colour = last(outcome).colour
    assert colour is not None
    expected = colour_shifts(colour, 5, tiny.STEPS + 1, tiny.BATCH, std=0.2, variant="code")
    np.testing.assert_array_equal(seen[tiny.STEPS + 1], expected)
    training = data.open_dataset(f"folder:{tmp_path / 'data'}", size=10)
    for one, other in zip(colour, data.measured(training, colour=True)[1] or (), strict=True):
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, other)


def test_interrupted_and_resumed_same_bits(
    noisy: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = tiny.run(tmp_path, epochs=2, on_step=interrupt_at(tiny.STEPS + 2), **NOISE)
    assert stopped.interrupted
    monkeypatch.setattr("pyalexnet.data.statistics.PixelSums.add", None)  # nothing is recomputed
    resumed = trainer.train(output=str(tmp_path / "run"), resume=True)
    assert bits(resumed) == bits(noisy)
    assert tiny.records(resumed.folder) == tiny.records(noisy.folder)


def test_variants_and_none_train_other_nets(noisy: Outcome, tmp_path: Path) -> None:
    plain = tiny.run(tmp_path, "plain", epochs=2)
    assert last(plain).colour is None
    paper = tiny.run(tmp_path, "paper", epochs=2, colour_noise=0.2)
    assert len({bits(outcome)[0] for outcome in (noisy, plain, paper)}) == 3


def test_noise_can_be_added_on_resume(tmp_path: Path) -> None:
    tiny.run(tmp_path, epochs=2, on_step=interrupt_at(tiny.STEPS))
    resumed = trainer.train(output=str(tmp_path / "run"), resume=True, **NOISE)
    assert last(resumed).colour is not None
    assert last(resumed).options["colour_noise"] == 0.2


def test_a_shift_is_added_to_the_pixels() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (5, 10, 10, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, 5).astype(np.int32)
    crops = rng.integers(0, 2, (5, 3)).astype(np.int32)
    shifts = np.tile(np.array([[3, 7, 40]], np.float32), (len(images), 1))

    def gradients(model: Model, pixels: np.ndarray, shifts: np.ndarray | None) -> list[float]:
        model.forward_backward(pixels, labels, crops, seed=1, step=2, shifts=shifts)
        [tower] = model.parts
        return tower.device.download(tower.gradients.flat).tolist()

    model, fresh = (Model(tiny.NET, target.NAME, len(images)) for _ in range(2))
    shifted = gradients(model, images, shifts)
    plain = gradients(model, images, None)  # earlier shifts have no effect
    assert gradients(fresh, images, None) == plain != shifted
    assert gradients(fresh, images + shifts.astype(np.uint8)[0], None) == shifted


@pytest.mark.host_only("computes nothing")
def test_grey_images_have_no_colours(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path / "mnist")
    with pytest.raises(UserError, match=r"colour-noise is 0.1, but .* have 1 channels; expected 3"):
        trainer.train(data=f"mnist:{folder}", output=str(tmp_path / "run"), colour_noise=0.1)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour_noise": -0.1}, "colour-noise is -0.1; expected at least 0"),
        ({"colour_variant": "pca"}, "colour-variant is 'pca'; expected one of paper, code"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny.run(tmp_path, **options)
