"""The built-in synthetic data set: ten classes of shapes.

Coloured and textured shapes on cluttered backgrounds, with random position, size, aspect ratio,
rotation and colours. An image depends only on the seed, its split and its index, not on the chunk
it is drawn in.

A shape is a signed distance function: the distance to its boundary in units of its radius, negative
inside. A pixel's coverage is a clipped linear function of the distance, which antialiases the edge.
All functions work on many images at once: n images, P = 32·32 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pyalexnet.cores import count_cores
from pyalexnet.data.dataset import ArraySplit, Dataset

SIZE = 32
TRAIN, VAL = 20_000, 2_000

Array = NDArray[np.floating]  # float32; mypy infers floating for its square

_PIXELS = SIZE * SIZE
_CHUNK = 100  # images drawn at once; their float planes fit a core's cache
_NUMBERS = 128  # random numbers available to each image
_WORDS = _NUMBERS + 3 * _PIXELS // 8  # random words per image: also a noise byte per pixel value
_KEYS = {"train": 0x73687470 << 32, "val": 0x73687670 << 32}
_BLOBS = _LINES = 3


def open_shapes(seed: int = 0) -> Dataset:
    """Draws the whole set on all cores: 20,000 training and 2,000 validation images."""
    train, val = _split(seed, "train", TRAIN), _split(seed, "val", VAL)
    return Dataset("shapes", list(_SHAPES), train, val, mirror=True)


def _split(seed: int, split: str, n: int) -> ArraySplit:
    images = np.empty((n, SIZE, SIZE, 3), np.uint8)

    def fill(start: int) -> None:
        stop = min(start + _CHUNK, n)
        images[start:stop] = draw(seed, split, start, stop)

    with ThreadPoolExecutor(count_cores()) as pool:
        list(pool.map(fill, range(0, n, _CHUNK)))
    return ArraySplit(images, np.arange(n) % len(_SHAPES))


def draw(seed: int, split: str, start: int, stop: int) -> NDArray[np.uint8]:
    """Draws images start … stop-1 of a split; image i has class i % 10.

    Parameters
    ----------
    seed : int
    split : {"train", "val"}
    start, stop : int

    Returns
    -------
    uint8 (stop - start, 32, 32, 3)
    """
    numbers, noise = _random(seed, split, start, stop)
    y, x = (np.mgrid[:SIZE, :SIZE].reshape(2, 1, _PIXELS) - (SIZE - 1) / 2).astype(np.float32)
    image, shape_colour, second_colour = _background(numbers, x, y)

    # Transform to the shape's frame, where its radius is 1.
    radius = SIZE * numbers.between(0.24, 0.46)
    room = SIZE / 2 - radius
    u = x - room * numbers.between(-1, 1)
    v = y - room * numbers.between(-1, 1)
    u, v = _turn(u, v, numbers.between(0, 2 * math.pi))
    stretch = numbers.between(0.9, 1.11) * radius
    u, v = u / stretch, v * (stretch / (radius * radius))

    distance = np.empty_like(u)
    for label, shape in enumerate(_SHAPES.values()):
        chosen = slice((label - start) % len(_SHAPES), None, len(_SHAPES))
        distance[chosen] = shape(u[chosen], v[chosen])
    cover = np.clip(0.5 - distance * radius, 0, 1)

    # Blend only partly to the second colour, so that the outline remains the strongest edge.
    texture = numbers.between(0.3, 0.8) * _texture(numbers, noise, u * radius, v * radius)
    inside = shape_colour + texture[:, None] * (second_colour - shape_colour)
    image += cover[:, None] * (inside - image)
    image += numbers.between(0, 24)[..., None] * (noise - np.float32(0.5))
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return pixels.transpose(0, 2, 1).reshape(-1, SIZE, SIZE, 3)


class _Numbers:
    """A sequence of uniform random numbers for every image."""

    def __init__(self, uniform: Array) -> None:
        self._uniform = uniform
        self._used = 0

    def between(self, low: float, high: float, count: int = 1) -> Array:
        """Returns the next `count` numbers of every image, in [low, high): float32 (n, count)."""
        first, self._used = self._used, self._used + count
        return low + np.float32(high - low) * self._uniform[:, first : self._used]


def _random(seed: int, split: str, start: int, stop: int) -> tuple[_Numbers, Array]:
    # Philox is counter-based, four words per count: an image's words are directly accessible.
    key = np.array([seed % 2**64, _KEYS[split]], np.uint64)
    philox = np.random.Philox(key=key, counter=start * _WORDS // 4)
    words = philox.random_raw((stop - start) * _WORDS).reshape(-1, _WORDS)
    uniform = (words[:, :_NUMBERS] >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    noise = np.ascontiguousarray(words[:, _NUMBERS:], "<u8").view(np.uint8)
    return _Numbers(uniform), noise.reshape(-1, 3, _PIXELS).astype(np.float32) / np.float32(255)


def _turn(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _background(numbers: _Numbers, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Returns a background (n, 3, P) and two contrasting colours, (n, 3, 1) each.

    The background is a gradient with blobs and lines. It is dark, so that most shapes are brighter:
    with arbitrary colours on arbitrary colours, a net takes longer to learn outlines.
    """
    start, end = (numbers.between(10, 160, 3)[..., None] for _ in range(2))
    slope, _ = _turn(x, y, numbers.between(0, 2 * math.pi))
    along = np.clip(0.5 + slope * numbers.between(0.01, 0.05), 0, 1)
    image = start + along[:, None] * (end - start)

    def paint(cover: Array) -> None:
        nonlocal image
        colour = numbers.between(0, 255, 3)[..., None]
        image += cover[:, None] * (colour - image)

    for _ in range(_BLOBS):
        u = (x - numbers.between(-16, 16)) / numbers.between(3, 9)
        v = (y - numbers.between(-16, 16)) / numbers.between(3, 9)
        paint(numbers.between(0, 0.6) * np.exp(-(u * u + v * v)))
    for _ in range(_LINES):
        across, _ = _turn(x, y, numbers.between(0, 2 * math.pi))
        away = np.abs(across - numbers.between(-16, 16))
        paint(numbers.between(0, 0.6) * np.clip(numbers.between(0.6, 1.4) - away, 0, 1))

    # Of six random colours, the two farthest from the gradient's ends and middle.
    colours = np.stack([numbers.between(0, 255, 3) for _ in range(6)], axis=1)  # (n, 6, 3)
    gradient = np.stack([start, (start + end) / 2, end], axis=1)[..., 0]  # (n, 3, 3)
    apart = np.square(colours[:, :, None] - gradient[:, None]).sum(axis=3).min(axis=2)
    best = np.argsort(-apart, axis=1, kind="stable")[:, :2, None]
    chosen = np.take_along_axis(colours, best, axis=1)
    return image, chosen[:, 0, :, None], chosen[:, 1, :, None]


def _texture(numbers: _Numbers, noise: Array, x: Array, y: Array) -> Array:
    """Returns the fraction of the second colour (n, P): plain, stripes, checks, gradient, noise."""
    kind = numbers.between(0, 5)[:, 0].astype(np.int64)
    u, v = _turn(x, y, numbers.between(0, 2 * math.pi))
    frequency = 2 * math.pi / numbers.between(3.5, 9)  # of 3.5 to 9 pixels per period
    shift = numbers.between(0, 2 * math.pi)
    share = np.zeros_like(u)
    stripes, checks, gradient, grains = (kind == number for number in range(1, 5))
    share[stripes] = 0.5 + 1.5 * np.sin(frequency * u + shift)[stripes]
    wave = np.sin(frequency * u + shift) * np.sin(frequency * v + shift)
    share[checks] = 0.5 + 3 * wave[checks]
    share[gradient] = 0.5 + u[gradient] / 16
    share[grains] = noise[grains, 0]
    return np.clip(share, 0, 1)


def _length(x: Array, y: Array) -> Array:
    return np.sqrt(x * x + y * y)


def _disc(x: Array, y: Array) -> Array:
    return _length(x, y) - 0.9


def _ring(x: Array, y: Array) -> Array:
    distance: Array = np.abs(_length(x, y) - 0.7) - 0.22
    return distance


def _triangle(x: Array, y: Array) -> Array:
    return np.maximum(-y, 0.866 * np.abs(x) + 0.5 * y) - 0.5


def _square(x: Array, y: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - 0.74


def _star(x: Array, y: Array) -> Array:
    """Folds the plane onto half of one of the five points, then measures to its edge."""
    x = np.abs(x)
    for cos, sin in ((0.809017, -0.587785), (-0.809017, -0.587785)):
        beyond = 2 * np.maximum(cos * x + sin * y, 0)
        x, y = x - cos * beyond, y - sin * beyond
    x, y = np.abs(x), y - 1
    edge_x, edge_y = 0.4 * 0.587785, 0.4 * 0.809017 - 1
    along = np.clip((x * edge_x + y * edge_y) / (edge_x**2 + edge_y**2), 0, 1)
    side = np.sign(y * edge_x - x * edge_y)
    return side * _length(x - edge_x * along, y - edge_y * along)


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 0.95, np.minimum(x, y) - 0.28)


def _crescent(x: Array, y: Array) -> Array:
    distance: Array = np.maximum(_length(x, y) - 0.97, 0.8 - _length(x - 0.45, y))
    return distance


def _heart(x: Array, y: Array) -> Array:
    """Two bars with rounded upper ends that meet at a right angle below."""
    u, v = (y + x + 0.26) * 0.707107, (y - x + 0.26) * 0.707107
    across, along = np.minimum(u, v), np.maximum(u, v)
    sides = np.maximum(np.abs(across), -along) - 0.44
    ends = _length(across, along - 0.64) - 0.44
    distance: Array = np.minimum(np.maximum(sides, along - 0.64), ends)
    return distance


def _arrow(x: Array, y: Array) -> Array:
    x = np.abs(x)
    head = np.maximum(0.8 * x + 0.6 * y - 0.6, -y)
    shaft = np.maximum(x - 0.22, np.abs(y + 0.4) - 0.55)
    distance: Array = np.minimum(head, shaft)
    return distance


def _hourglass(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    distance: Array = np.maximum(y - 0.8, 0.8 * x - 0.6 * y - 0.05)
    return distance


_SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "hourglass": _hourglass,
}
