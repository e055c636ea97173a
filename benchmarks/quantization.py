"""Int8 files of models that were trained for them, on every backend.

Two classifiers are trained on 10,000 images of Fashion-MNIST, then with int8 weights
and activations. Accuracies, and how often the file predicts what the trained Keras
model predicts, are those of the 10,000 test images; the file that is calibrated after
training is there for comparison.
Run: python benchmarks/quantization.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from environment import run_on_backends, write_results

BACKENDS = ("tensorflow", "jax", "torch")
BASELINE_EPOCHS, TRAINED_EPOCHS = 6, 3


def residual():
    """Normalization, a residual, relu6, depthwise, concatenation, pooling, softmax."""
    import keras
    from keras import layers

    image = keras.Input((28, 28))
    x = layers.Reshape((28, 28, 1))(image)
    x = layers.Conv2D(12, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(max_value=6)(layers.BatchNormalization(momentum=0.9)(x))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = layers.ReLU(max_value=6)(layers.BatchNormalization(momentum=0.9)(y))
    y = layers.Conv2D(12, 1, use_bias=False)(y)
    x = keras.ops.relu(x + layers.BatchNormalization(momentum=0.9)(y))
    y = layers.Conv2D(12, 3, padding="same", activation="relu")(x)
    x = layers.AveragePooling2D(2)(layers.Concatenate()([x, y]))
    x = layers.Flatten()(x)
    return keras.Model(image, layers.Dense(10)(x), name="residual")


def train(model, data, epochs, rate):
    import keras

    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    x, y = data
    model.fit(x, y, batch_size=100, epochs=epochs, verbose=0)


def measure(name: str) -> dict:
    import keras
    import numpy as np

    import penjing
    from penjing.data.architectures import build_architecture
    from penjing.data.datasets import load_dataset

    small = load_dataset("fashion-mnist-small")
    test = load_dataset("fashion-mnist")
    keras.utils.set_random_seed(0)
    model = residual() if name == "residual" else build_architecture(name)
    train(model, (small.x_train, small.y_train), BASELINE_EPOCHS, 1e-3)
    trained = penjing.quantize_aware(
        model, activations="int8", calibration_data=small.x_train[:500]
    )
    train(trained, (small.x_train, small.y_train), TRAINED_EPOCHS, 3e-4)

    def accuracy(outputs):
        return float((outputs.argmax(-1) == test.y_test).mean())

    with tempfile.TemporaryDirectory() as folder:
        after, exact = Path(folder, "after.tflite"), Path(folder, "exact.tflite")
        penjing.export_litert(
            model, after, "int8", representative_data=small.x_train[:500]
        )
        penjing.export_litert(trained, exact, "int8")
        found = penjing.LiteRTModel(exact).predict(test.x_test)
        calibrated = penjing.LiteRTModel(after).predict(test.x_test)
        size = penjing.measure_size(exact).gzip
    wanted = trained.predict(test.x_test, batch_size=500, verbose=0)
    plain = model.predict(test.x_test, batch_size=500, verbose=0)
    return {
        "float_accuracy": accuracy(plain),
        "calibrated_file_accuracy": accuracy(calibrated),
        "trained_keras_accuracy": accuracy(wanted),
        "trained_file_accuracy": accuracy(found),
        "prediction_agreement": float((found.argmax(-1) == wanted.argmax(-1)).mean()),
        "equal_outputs": float(np.isclose(found, wanted, rtol=0, atol=1e-4).mean()),
        "trained_file_gzip": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    parser.add_argument("--models", nargs="+", default=["article", "residual"])
    parser.add_argument("--worker", action="store_true")
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps({name: measure(name) for name in arguments.models}))
        return
    outcomes = run_on_backends(
        __file__, list(arguments.backends), ["--models", *arguments.models]
    )
    path = write_results(
        "quantization",
        {
            "baseline_epochs": BASELINE_EPOCHS,
            "trained_epochs": TRAINED_EPOCHS,
            "test_images": 10_000,
            "backends": outcomes,
        },
    )
    print(path)


if __name__ == "__main__":
    main()
