"""Trained models that several benchmarks start from, kept in `out/benchmarks`.

    python benchmarks/trained_models.py mobilenet --epochs 8

trains one ahead of time, on the full Fashion-MNIST.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from environment import RESULTS

MODELS = RESULTS.parents[1] / "out" / "benchmarks"
BATCH_SIZE = 128
# Peak of the cosine's learning rate; the shallow networks train at Adam's own.
LEARNING_RATES = {"resnet-20": 3e-3, "mobilenet": 3e-3}
MOBILENET_SIZE = 64


def kept(name: str, train: Callable):
    """A trained model from an earlier run, or trained now and kept."""
    import keras

    from penjing.pipeline.runs.model_writing import write_keras

    path = MODELS / f"{name}.keras"
    if path.exists():
        return keras.models.load_model(path)
    model = train()
    MODELS.mkdir(parents=True, exist_ok=True)
    write_keras(model, path)
    return model


def train_baseline(architecture: str, seed: int, epochs: int, data):
    """Train an architecture from scratch.

    A mobilenet sees images enlarged to 64x64 with three channels.
    """
    import keras

    from penjing.data.architectures import build_architecture

    keras.utils.set_random_seed(seed)
    enlarged = architecture == "mobilenet"
    shape = (MOBILENET_SIZE, MOBILENET_SIZE, 3) if enlarged else (28, 28)
    baseline = build_architecture(architecture, shape, seed=seed)
    trained = behind_enlarging(baseline) if enlarged else baseline
    trained.compile(
        _optimizer(architecture, epochs * -(-len(data.x_train) // BATCH_SIZE)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    verbose = 2 if architecture in LEARNING_RATES else 0
    trained.fit(
        data.x_train,
        data.y_train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=verbose,
    )
    return baseline


def behind_enlarging(model):
    """The model behind layers that enlarge grey images to its input shape."""
    import keras

    _, height, width, channels = model.input_shape
    image = keras.Input((28, 28))
    x = keras.layers.Reshape((28, 28, 1))(image)
    x = keras.layers.Resizing(height, width)(x)
    x = keras.layers.Concatenate()([x] * channels)
    return keras.Model(image, model(x))


def enlarged(images, model):
    """The images as the model takes them."""
    import keras
    import numpy as np

    _, height, width, channels = model.input_shape
    parts = [
        keras.ops.convert_to_numpy(
            keras.ops.image.resize(part[..., np.newaxis], (height, width))
        )
        for part in np.array_split(images, 20)
    ]
    return np.repeat(np.concatenate(parts), channels, axis=-1)


def as_seen(images, model):
    """The images as a mobilenet takes them: enlarged, or behind a border of zeros."""
    import numpy as np

    _, height, width, channels = model.input_shape
    if channels > 1:
        return enlarged(images, model)
    rows, columns = (height - 28) // 2, (width - 28) // 2
    return np.pad(images, ((0, 0), (rows, rows), (columns, columns)))[..., np.newaxis]


def _optimizer(architecture: str, steps: int):
    import keras

    rate = LEARNING_RATES.get(architecture)
    if rate is None:
        return keras.optimizers.Adam()
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 10, steps, warmup_target=rate, warmup_steps=steps // 20
    )
    return keras.optimizers.Adam(schedule)


def main() -> None:
    from penjing.data.datasets import load_dataset

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architecture")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    data = load_dataset("fashion-mnist")
    for seed in map(int, options.seeds.split(",")):
        name = f"{options.architecture}-{seed}-{options.epochs}"

        def train(seed=seed):
            return train_baseline(options.architecture, seed, options.epochs, data)

        model = kept(name, train)
        if model.input_shape[1:3] != (28, 28):
            model = behind_enlarging(model)
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        accuracy = model.evaluate(data.x_test, data.y_test, batch_size=500, verbose=0)
        print(name, model.count_params(), f"accuracy {accuracy[1]:.4f}", flush=True)


if __name__ == "__main__":
    main()
