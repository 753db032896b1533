"""Draws folders of photo-like JPEGs: small sets like those that people have of their own.

    python benchmarks/photos.py photos --set things        # 160 + 40 images of four kinds
    pyalexnet-train --data folder:photos

A set has four plainly different kinds: `things` (car, fish, house, tree), `scenes` (city, forest,
mountains, sea) or `fruit` (apple, banana, carrot, grapes). Images are 300 to 1200 pixels wide and
high. Position, size, rotation, colours, light and clutter vary, so that neither a pixel nor a mean
colour tells the kind. An image depends on the seed, its kind, its split and its number only.
"""

from __future__ import annotations

import argparse
import colorsys
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]
TRAIN, VAL = 40, 10  # images of each kind
SIDES = 300, 1200


class Canvas:
    """An image to draw on, in units of its short side: (0, 0) is the centre.

    Parameters
    ----------
    rng : numpy.random.Generator
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        width, height = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
        self.image = Image.new("RGB", (width, height))
        self.pen = ImageDraw.Draw(self.image)
        self.side = min(width, height)
        self.width, self.height = width / self.side, height / self.side
        self.place(0, 0, 1, 0)

    def place(self, x: float, y: float, size: float, angle: float) -> None:
        """Moves, scales and turns all that is drawn from now on."""
        self._at, self._size = (x, y), size
        self._cos, self._sin = math.cos(angle), math.sin(angle)

    def place_somewhere(self, low: float, high: float, turn: float = 0.35) -> None:
        """Places what is drawn next at random, with a radius of `low` to `high`."""
        x, y = self.rng.uniform(-0.16, 0.16, 2)
        size, angle = self.rng.uniform(low, high), self.rng.uniform(-turn, turn)
        self.place(float(x), float(y), float(size), float(angle))

    def pixels(self, points: Sequence[Point]) -> list[Point]:
        """Points of the drawing in pixels."""
        found = []
        for x, y in points:
            u = self._at[0] + self._size * (self._cos * x - self._sin * y)
            v = self._at[1] + self._size * (self._sin * x + self._cos * y)
            found.append(
                (self.image.width / 2 + u * self.side, self.image.height / 2 + v * self.side)
            )
        return found

    def polygon(self, colour: Colour, *points: Point) -> None:
        self.pen.polygon(self.pixels(points), fill=colour)

    def box(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        self.polygon(colour, (left, top), (right, top), (right, bottom), (left, bottom))

    def ellipse(
        self, colour: Colour, x: float, y: float, rx: float, ry: float | None = None
    ) -> None:
        ry = rx if ry is None else ry
        turns = np.linspace(0, 2 * math.pi, 40)
        self.polygon(colour, *((x + rx * math.cos(t), y + ry * math.sin(t)) for t in turns))

    def colour(
        self,
        hues: tuple[float, float] = (0, 1),
        saturation: tuple[float, float] = (0.25, 1),
        value: tuple[float, float] = (0.25, 1),
    ) -> Colour:
        """A random colour of these ranges; a hue above 1 begins again at 0."""
        h, s, v = (float(self.rng.uniform(*span)) for span in (hues, saturation, value))
        red, green, blue = colorsys.hsv_to_rgb(h % 1, s, v)
        return round(255 * red), round(255 * green), round(255 * blue)

    def gradient(self, top: Colour, bottom: Colour) -> None:
        """Fills the image from one colour above to another below."""
        share = np.linspace(0, 1, self.image.height)[:, None, None]
        rows = np.array(top) * (1 - share) + np.array(bottom) * share
        pixels = np.broadcast_to(rows, (self.image.height, self.image.width, 3))
        self.image.paste(Image.fromarray(pixels.astype(np.uint8)))

    def clutter(self, count: int) -> None:
        """Draws discs, boxes and lines of any colour anywhere."""
        for _ in range(count):
            x, y = (float(v) for v in self.rng.uniform(-0.5, 0.5, 2) * (self.width, self.height))
            self.place(x, y, float(self.rng.uniform(0.02, 0.16)), float(self.rng.uniform(0, 6.3)))
            kind = self.rng.integers(3)
            colour = self.colour(saturation=(0, 0.7))
            if kind == 0:
                self.ellipse(colour, 0, 0, 1, 0.7)
            elif kind == 1:
                self.box(colour, -1, -0.6, 1, 0.6)
            else:
                self.box(colour, -2.5, -0.05, 2.5, 0.05)

    def finished(self) -> Image.Image:
        """The image with the light, blur and noise of a camera."""
        blurred = self.image.filter(ImageFilter.GaussianBlur(float(self.rng.uniform(0, 2.5))))
        pixels = np.asarray(blurred, np.float32)
        light = self.rng.uniform(0.55, 1.15) * self.rng.uniform(0.85, 1.15, 3)
        noise = self.rng.normal(0, self.rng.uniform(2, 14), pixels.shape)
        return Image.fromarray(np.clip(pixels * light + noise, 0, 255).astype(np.uint8))


def background(canvas: Canvas) -> None:
    """A gradient of two colours, which are rather dull, as most walls and meadows, with clutter."""
    dull = (0.0, 0.6)
    canvas.gradient(canvas.colour(saturation=dull), canvas.colour(saturation=dull))
    canvas.clutter(int(canvas.rng.integers(4, 11)))


def car(canvas: Canvas) -> None:
    background(canvas)
    canvas.place_somewhere(0.24, 0.42)
    body, glass, tyre = canvas.colour(), canvas.colour((0.5, 0.6), (0, 0.4)), canvas.colour()
    canvas.polygon(body, (-0.6, -0.1), (-0.35, -0.5), (0.3, -0.5), (0.6, -0.1))
    canvas.polygon(glass, (-0.45, -0.12), (-0.28, -0.42), (0.24, -0.42), (0.42, -0.12))
    canvas.box(body, -1, -0.12, 1, 0.3)
    for x in (-0.55, 0.55):
        canvas.ellipse((20, 20, 20), x, 0.3, 0.24)
        canvas.ellipse(tyre, x, 0.3, 0.11)


def fish(canvas: Canvas) -> None:
    background(canvas)
    canvas.place_somewhere(0.24, 0.42)
    ahead = 1 if canvas.rng.random() < 0.5 else -1
    body, fin = canvas.colour(), canvas.colour()
    canvas.polygon(fin, (ahead * -0.5, 0), (ahead * -1.05, -0.5), (ahead * -1.05, 0.5))
    canvas.polygon(fin, (-0.25, -0.3), (0.3, -0.3), (ahead * -0.2, -0.75))
    canvas.ellipse(body, 0, 0, 0.8, 0.42)
    canvas.ellipse((250, 250, 250), ahead * 0.5, -0.1, 0.1)
    canvas.ellipse((0, 0, 0), ahead * 0.52, -0.1, 0.05)


def house(canvas: Canvas) -> None:
    background(canvas)
    canvas.place_somewhere(0.24, 0.42, 0.15)
    wall, roof = canvas.colour(saturation=(0, 0.6)), canvas.colour((-0.1, 0.15), (0.1, 0.9))
    hole = canvas.colour(value=(0.1, 0.5))
    canvas.box(wall, -0.75, -0.15, 0.75, 0.9)
    canvas.polygon(roof, (-0.95, -0.15), (0, -0.95), (0.95, -0.15))
    canvas.box(hole, -0.15, 0.35, 0.15, 0.9)
    for x in (-0.45, 0.45):
        canvas.box(hole, x - 0.15, 0.1, x + 0.15, 0.4)


def tree(canvas: Canvas) -> None:
    background(canvas)
    canvas.place_somewhere(0.24, 0.42, 0.15)
    trunk, leaves = canvas.colour((0, 0.12), value=(0.2, 0.7)), canvas.colour((0.02, 0.45))
    canvas.box(trunk, -0.12, 0, 0.12, 1)
    for _ in range(7):
        x, y = canvas.rng.normal(0, 0.25), canvas.rng.normal(-0.35, 0.2)
        canvas.ellipse(leaves, float(x), float(y), float(canvas.rng.uniform(0.25, 0.42)))


def sky(canvas: Canvas) -> float:
    """A sky at any time of the day and, at random, its sun; returns the horizon's height."""
    canvas.gradient(canvas.colour((0.5, 1.1), (0.1, 0.8)), canvas.colour((0.5, 1.1), (0.1, 0.6)))
    if canvas.rng.random() < 0.5:
        x, y = canvas.rng.uniform(-0.4, 0.4), canvas.rng.uniform(-0.4, -0.1)
        canvas.ellipse(canvas.colour((0.05, 0.17), (0.2, 0.9), (0.8, 1)), float(x), float(y), 0.07)
    return float(canvas.rng.uniform(-0.1, 0.2))


def city(canvas: Canvas) -> None:
    horizon, left, right = sky(canvas), -canvas.width / 2, canvas.width / 2
    low = canvas.height / 2
    canvas.box(canvas.colour(saturation=(0, 0.5)), left, horizon, right, low)
    while left < right:
        wide, high = (float(v) for v in canvas.rng.uniform((0.1, 0.1), (0.25, 0.5)))
        wall, pane = canvas.colour(saturation=(0, 0.6)), canvas.colour(saturation=(0, 0.8))
        canvas.box(wall, left, horizon - high, left + wide, horizon + 0.15)
        for x in np.arange(left + 0.02, left + wide - 0.03, 0.05):
            for y in np.arange(horizon - high + 0.03, horizon + 0.1, 0.07):
                canvas.box(pane, float(x), float(y), float(x) + 0.025, float(y) + 0.035)
        left += wide


def forest(canvas: Canvas) -> None:
    sky(canvas)
    canvas.clutter(int(canvas.rng.integers(0, 4)))
    canvas.place(0, 0, 1, 0)
    for _ in range(int(canvas.rng.integers(7, 15))):
        x = float(canvas.rng.uniform(-0.5, 0.5)) * canvas.width
        wide, lean = float(canvas.rng.uniform(0.01, 0.05)), float(canvas.rng.uniform(-0.08, 0.08))
        bark, low = canvas.colour((0, 0.3), (0.1, 0.7), (0.15, 0.8)), canvas.height / 2
        canvas.polygon(
            bark, (x - wide, low), (x + wide, low), (x + lean + wide, -low), (x + lean - wide, -low)
        )
    for _ in range(40):
        x, y = (float(v) for v in canvas.rng.uniform(-0.5, 0.5, 2) * (canvas.width, canvas.height))
        leaf = canvas.colour((0.05, 0.45), (0.2, 0.9), (0.2, 0.9))
        canvas.ellipse(leaf, x, min(y, 0.1), float(canvas.rng.uniform(0.02, 0.06)))


def mountains(canvas: Canvas) -> None:
    horizon = sky(canvas)
    low = canvas.height / 2
    for _ in range(int(canvas.rng.integers(3, 6))):
        x = float(canvas.rng.uniform(-0.5, 0.5)) * canvas.width
        wide, high = (float(v) for v in canvas.rng.uniform((0.25, 0.2), (0.6, 0.55)))
        rock, snow = canvas.colour(saturation=(0, 0.6)), canvas.colour(saturation=(0, 0.15))
        foot = horizon + 0.25
        canvas.polygon(rock, (x - wide, foot), (x, foot - high), (x + wide, foot))
        canvas.polygon(
            snow,
            (x - 0.3 * wide, foot - 0.7 * high),
            (x, foot - high),
            (x + 0.3 * wide, foot - 0.7 * high),
        )
    meadow = canvas.colour((0, 0.5))
    canvas.box(meadow, -canvas.width / 2, horizon + 0.2, canvas.width / 2, low)


def sea(canvas: Canvas) -> None:
    horizon, right, low = sky(canvas), canvas.width / 2, canvas.height / 2
    canvas.box(canvas.colour((0.4, 0.75), (0.2, 0.9)), -right, horizon, right, low)
    for _ in range(int(canvas.rng.integers(10, 30))):
        x, y = float(canvas.rng.uniform(-right, right)), float(canvas.rng.uniform(horizon, low))
        wave = canvas.colour((0.4, 0.75), (0, 0.5), (0.5, 1))
        canvas.ellipse(wave, x, y, float(canvas.rng.uniform(0.03, 0.15)), 0.006)
    canvas.place(float(canvas.rng.uniform(-0.3, 0.3)), horizon, 0.15, 0)
    canvas.polygon(canvas.colour(), (-0.6, 0.1), (0.6, 0.1), (0.4, 0.4), (-0.4, 0.4))
    canvas.polygon(canvas.colour(saturation=(0, 0.5)), (0, 0), (0, -1), (0.55, 0))


def several(canvas: Canvas) -> range:
    """A background, and how many fruits lie on it."""
    background(canvas)
    return range(int(canvas.rng.integers(1, 4)))


def apple(canvas: Canvas) -> None:
    for _ in several(canvas):
        canvas.place_somewhere(0.16, 0.3)
        skin = canvas.colour((0.9, 1.35), (0.5, 1), (0.5, 1))
        for x in (-0.3, 0.3):
            canvas.ellipse(skin, x, 0, 0.62, 0.75)
        canvas.polygon((80, 50, 20), (-0.06, -0.5), (0.06, -0.5), (0.15, -1.05), (0.05, -1.05))
        canvas.ellipse(canvas.colour((0.25, 0.4)), 0.35, -0.85, 0.28, 0.12)


def banana(canvas: Canvas) -> None:
    for _ in several(canvas):
        canvas.place_somewhere(0.22, 0.4, 3.1)
        skin = canvas.colour((0.1, 0.3), (0.5, 1), (0.5, 1))
        turns = np.linspace(0.15 * math.pi, 0.85 * math.pi, 20)
        outer = [(math.cos(t), math.sin(t) - 0.6) for t in turns]
        inner = [(0.95 * math.cos(t), 0.62 * math.sin(t) - 0.5) for t in turns[::-1]]
        canvas.polygon(skin, *outer, *inner)


def carrot(canvas: Canvas) -> None:
    for _ in several(canvas):
        canvas.place_somewhere(0.22, 0.4, 3.1)
        root = canvas.colour((-0.05, 0.17), (0.5, 1), (0.5, 1))
        leaf = canvas.colour((0.2, 0.4), (0.4, 1), (0.2, 0.8))
        for x in (-0.3, -0.1, 0.1, 0.3):
            canvas.polygon(leaf, (-0.06, -0.4), (0.06, -0.4), (x, -1))
        canvas.polygon(root, (-0.26, -0.45), (0.26, -0.45), (0.03, 1), (-0.03, 1))


def grapes(canvas: Canvas) -> None:
    for _ in several(canvas):
        canvas.place_somewhere(0.2, 0.34)
        hue = float(canvas.rng.choice([0.2, 0.8]))
        canvas.box((80, 60, 30), -0.05, -1, 0.05, -0.5)
        for row, count in enumerate((4, 3, 3, 2, 1)):
            for place in range(count):
                x = (place - (count - 1) / 2) * 0.42 + float(canvas.rng.normal(0, 0.04))
                skin = canvas.colour((hue - 0.05, hue + 0.1), (0.4, 1), (0.35, 0.9))
                canvas.ellipse(skin, x, -0.5 + 0.33 * row, 0.24)


SETS: dict[str, tuple[Callable[[Canvas], None], ...]] = {
    "things": (car, fish, house, tree),
    "scenes": (city, forest, mountains, sea),
    "fruit": (apple, banana, carrot, grapes),
}


def write(folder: Path, name: str, seed: int = 0, train: int = TRAIN, val: int = VAL) -> Path:
    """Writes train/ and val/ with so many images of each kind of a set; returns `folder`."""
    for draw in SETS[name]:
        for split, count in (("train", train), ("val", val)):
            place = folder / split / draw.__name__
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                key = zlib.crc32(f"{draw.__name__} {split}".encode())
                canvas = Canvas(np.random.default_rng([seed, key, number]))
                draw(canvas)
                quality = int(canvas.rng.integers(70, 95))
                canvas.finished().save(place / f"{number:03}.jpg", quality=quality)
    return folder


def main() -> None:
    """Writes a set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", choices=SETS, default="things", dest="name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=TRAIN, help="of each kind (default: 40)")
    parser.add_argument("--val", type=int, default=VAL, help="of each kind (default: 10)")
    args = parser.parse_args()
    write(args.folder, args.name, args.seed, args.train, args.val)


if __name__ == "__main__":
    main()
