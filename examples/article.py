"""Prune a trained image classifier, quantize it, and weigh what is left.

This is how one would write it for the TensorFlow Model Optimization Toolkit; only
imports differ, marked with "was", and the converter off the TensorFlow backend.

    python examples/article.py                 # 10,000 bundled images
    python examples/article.py --full          # all 60,000
    KERAS_BACKEND=jax python examples/article.py
"""

import argparse
import gzip
import tempfile
import zipfile
from pathlib import Path

import keras  # was: from tensorflow import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter  # was: tf.lite.Interpreter

import penjing
from penjing import tfmot  # was: import tensorflow_model_optimization as tfmot
from penjing.data.datasets import load_dataset

BATCH_SIZE = 128
VALIDATION_SPLIT = 0.1


def build_model():
    """A small convolutional network for 28 x 28 images of 10 classes."""
    return keras.Sequential(
        [
            keras.layers.InputLayer(shape=(28, 28)),
            keras.layers.Reshape(target_shape=(28, 28, 1)),
            keras.layers.Conv2D(filters=12, kernel_size=(3, 3), activation="relu"),
            keras.layers.MaxPooling2D(pool_size=(2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def train(model, data, epochs, callbacks=()):
    """Compile and fit."""
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_split=VALIDATION_SPLIT,
        callbacks=list(callbacks),
        verbose=2,
    )


def prune(model, data, epochs, log_dir):
    """Train on while the sparsity rises from 50 % to 80 %."""
    images = len(data.x_train) * (1 - VALIDATION_SPLIT)
    end_step = np.ceil(images / BATCH_SIZE).astype(np.int32) * epochs
    pruning_params = {
        "pruning_schedule": tfmot.sparsity.keras.PolynomialDecay(
            initial_sparsity=0.50, final_sparsity=0.80, begin_step=0, end_step=end_step
        )
    }
    model_for_pruning = tfmot.sparsity.keras.prune_low_magnitude(
        model, **pruning_params
    )
    model_for_pruning.summary()
    callbacks = [
        tfmot.sparsity.keras.UpdatePruningStep(),
        tfmot.sparsity.keras.PruningSummaries(log_dir=log_dir),
    ]
    train(model_for_pruning, data, epochs, callbacks)
    return model_for_pruning


def convert(model, path):
    """Write a `.tflite` file with weights in 8 bits."""
    if keras.backend.backend() != "tensorflow":  # what the converter reads
        penjing.export_litert(model, path, quantization="dynamic")
        return
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    path.write_bytes(converter.convert())


def accuracy_of_file(path, images, labels):
    """Fraction of images that a `.tflite` file gets right, one image at a time."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    input_index = interpreter.get_input_details()[0]["index"]
    output_index = interpreter.get_output_details()[0]["index"]
    hits = 0
    for image, label in zip(images, labels, strict=True):
        interpreter.set_tensor(input_index, image[np.newaxis].astype(np.float32))
        interpreter.invoke()
        hits += int(np.argmax(interpreter.get_tensor(output_index)) == label)
    return hits / len(images)


def zipped_size(path):
    """Bytes of a zip archive that holds the file."""
    archive = path.with_suffix(path.suffix + ".zip")
    with zipfile.ZipFile(archive, "w", compression=zipfile.ZIP_DEFLATED) as file:
        file.write(path, path.name)
    return archive.stat().st_size


def main(arguments=None):
    """Run the whole job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all 60,000 images")
    parser.add_argument("--epochs", type=int, default=4, help="of the baseline")
    parser.add_argument("--pruning-epochs", type=int, default=2)
    parser.add_argument("--images", type=int, help="use so many images only")
    parser.add_argument("--out", type=Path, help="folder for the files")
    options = parser.parse_args(arguments)
    out = options.out or Path(tempfile.mkdtemp())
    keras.utils.set_random_seed(0)

    data = load_dataset("fashion-mnist" if options.full else "fashion-mnist-small")
    print(f"Data: {data.source}")
    if options.images:
        data = shortened(data, options.images)

    model = build_model()
    train(model, data, options.epochs)
    baseline_accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)[1]
    baseline_file = out / "baseline.h5"
    model.save(baseline_file, include_optimizer=False)

    model_for_pruning = prune(model, data, options.pruning_epochs, str(out / "logs"))
    pruned_accuracy = model_for_pruning.evaluate(data.x_test, data.y_test, verbose=0)[1]
    kernel = keras.ops.convert_to_numpy(model_for_pruning.weights[1])
    print(f"First kernel, {np.mean(kernel == 0):.0%} zeros:\n{kernel[:, :, 0, :3]}")

    model_for_export = tfmot.sparsity.keras.strip_pruning(model_for_pruning)
    model_for_export.summary()
    pruned_file = out / "pruned.h5"
    model_for_export.save(pruned_file, include_optimizer=False)
    quantized_file = out / "pruned.tflite"
    convert(model_for_export, quantized_file)

    for path in (baseline_file, pruned_file, quantized_file):
        gzipped = len(gzip.compress(path.read_bytes()))
        print(f"{path.name}: {gzipped:,} bytes gzipped, {zipped_size(path):,} zipped")
    ratio = zipped_size(baseline_file) / zipped_size(quantized_file)
    print(f"Pruned and quantized, the model is {ratio:.1f} times smaller.")
    file_accuracy = accuracy_of_file(quantized_file, data.x_test, data.y_test)
    print(f"Baseline accuracy: {baseline_accuracy:.4f}")
    print(f"Pruned accuracy: {pruned_accuracy:.4f}")
    print(f"Pruned and quantized accuracy: {file_accuracy:.4f}")


def shortened(data, images):
    """The first images of a data set."""
    from dataclasses import replace

    return replace(
        data,
        x_train=data.x_train[:images],
        y_train=data.y_train[:images],
        x_test=data.x_test[:images],
        y_test=data.y_test[:images],
    )


if __name__ == "__main__":
    main()
