"""Trains a small model on bundled images, and writes what the commands take.

    python examples/first_model.py [--out FOLDER] [--photos]

Leaves `model.keras` and `data.npz`; with `--photos` also `photos/`, a folder of PNG
images for each class, which needs pillow (`pip install ".[images]"`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np

from penjing.data.datasets import Dataset, load_dataset


def main() -> None:
    options = parsed_arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    data = load_dataset("fashion-mnist-small")
    x_train, x_test = (pixels(images) for images in (data.x_train, data.x_test))
    model, loss = small_network(), "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    model.fit(
        x_train[: options.images],
        data.y_train[: options.images],
        epochs=options.epochs,
        batch_size=64,
        verbose=2,
    )
    model.save(options.out / "model.keras")
    np.savez_compressed(
        options.out / "data.npz",
        x_train=x_train[: options.images],
        y_train=data.y_train[: options.images],
        x_test=x_test,
        y_test=data.y_test,
    )
    if options.photos:
        write_photos(options.out / "photos", data)


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--photos", action="store_true")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    return parser.parse_args()


def pixels(images: np.ndarray) -> np.ndarray:
    """Grey values from 0 to 255, as a camera or a file of an image gives them."""
    return np.rint(images[..., np.newaxis] * 255).astype("uint8")


def small_network() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def write_photos(folder: Path, data: Dataset, per_class: int = 150) -> None:
    """One folder for each class, as photos are often kept."""
    from PIL import Image

    names = data.class_names or tuple(map(str, range(data.num_classes)))
    for label, name in enumerate(names):
        place = folder / f"{label}-{name.replace(' ', '-')}"
        place.mkdir(parents=True, exist_ok=True)
        images = pixels(data.x_train[data.y_train == label][:per_class])
        for number, image in enumerate(images):
            Image.fromarray(image[..., 0]).save(place / f"{number}.png")


if __name__ == "__main__":
    main()
