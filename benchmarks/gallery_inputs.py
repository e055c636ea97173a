"""Inputs for the gallery: photos, faces and text that packages ship, and their crops.

Photos of the test part never give a crop to the training part. Everything that is not
taken from a package is drawn by a seed.
"""

from __future__ import annotations

import numpy as np
from gallery_sources import unpacked
from PIL import Image, ImageOps

# Photos by package; those of the second list are for tests alone.
_PHOTOS = {
    "@vladmandic/face-api": (
        ("sample1.jpg", "sample2.jpg", "sample3.jpg", "sample4.jpg"),
        ("sample5.jpg", "sample6.jpg"),
    ),
    "scikit-image": (
        (
            *("camera.png", "chelsea.png", "coins.png", "brick.png", "grass.png"),
            *("motorcycle_left.png", "ihc.png", "retina.jpg", "hubble_deep_field.jpg"),
        ),
        ("astronaut.png", "coffee.png", "rocket.jpg", "gravel.png", "cell.png"),
    ),
    "scikit-learn": (("china.jpg",), ("flower.jpg",)),
}
LARGEST = 1024


def photos(part: str, packages: tuple[str, ...] = tuple(_PHOTOS)) -> list[Image.Image]:
    """The photos of the `"train"` or `"test"` part, no side above 1,024 pixels."""
    found = []
    for package in packages:
        for name in _PHOTOS[package][part == "test"]:
            (path,) = unpacked(package).rglob(name)
            photo = Image.open(path).convert("RGB")
            photo.thumbnail((LARGEST, LARGEST))
            found.append(photo)
    return found


def crops(part: str, count: int, side: int, seed: int) -> np.ndarray:
    """Square crops of photos, `(count, side, side, 3)`, uint8, some mirrored."""
    rng = np.random.default_rng([seed, part == "test"])
    sources = photos(part)
    images = np.empty((count, side, side, 3), "uint8")
    for row in range(count):
        photo = sources[row % len(sources)]
        size = _log_uniform(rng, side, min(photo.size))
        corner = [rng.uniform(0, edge - size) for edge in photo.size]
        images[row] = _varied(photo, (*corner, size), side, rng, turn=0.0)
    return images


def faces(part: str, count: int, seed: int) -> np.ndarray:
    """Faces in grey, `(count, 64, 64)`, uint8: cut out anew each time, with jitter.

    Half are faces of the photos, whose places `gallery_models.find_faces` gives; half
    those of scikit-image's subset of LFW, 25 pixels wide.
    """
    from gallery_models import find_faces

    rng = np.random.default_rng([seed, part == "test", 1])
    small = np.load(next(unpacked("scikit-image").rglob("lfw_subset.npy")))[:100]
    small = small[60:] if part == "test" else small[:60]
    small = np.pad(small, ((0, 0), (9, 9), (9, 9)), mode="edge") * 255
    cut = [Image.fromarray(face.astype("uint8")) for face in small]
    places = [place for place in find_faces() if place[0] == part]
    whole = photos(part, ("@vladmandic/face-api", "scikit-image"))
    images = np.empty((count, 64, 64), "uint8")
    for row in range(count):
        if row % 2:
            photo, (x, y, size) = cut[(row // 2) % len(cut)], (9, 9, 25)
        else:
            _, index, (x, y, size) = places[(row // 2) % len(places)]
            photo = whole[index]
        shift = rng.uniform(-0.08, 0.08, 2) * size
        wide = size * rng.uniform(0.9, 1.15)
        corner = np.array([x, y]) + (size - wide) / 2 + shift
        image = _varied(photo, (*corner, wide), 64, rng, turn=12.0)
        images[row] = np.asarray(Image.fromarray(image).convert("L"))
    return images


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _varied(photo, place, side, rng, turn):
    """A square of a photo, turned a little, mirrored or not, lighter or darker."""
    x, y, size = place
    margin = size / 4 if turn else 0
    box = (x - margin, y - margin, x + size + margin, y + size + margin)
    wide = round(side * (size + 2 * margin) / size)
    image = photo.crop([round(edge) for edge in box])
    image = image.resize((wide, wide), Image.Resampling.BILINEAR)
    image = image.rotate(rng.uniform(-turn, turn), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    first = (wide - side) // 2
    image = image.crop((first, first, first + side, first + side))
    light = rng.uniform(0.7, 1.3) * np.asarray(image.convert("RGB"), "float32")
    return np.clip(light + rng.uniform(-20, 20), 0, 255).astype("uint8")
