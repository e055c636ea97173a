"""What of the saving survives in ONNX, OpenVINO and Core ML.

A CNN is trained on the bundled part of Fashion-MNIST and compressed four ways. Each
model is written by Keras' own exporters, and for Core ML by coremltools, runs in the
runtime of the format on test images, and is weighed as it is and gzipped. Core ML runs
on macOS alone; elsewhere its file is read back. What is not installed is said to be
missing. Run, with onnx, onnxruntime, tf2onnx, openvino and coremltools installed:
python benchmarks/other_formats.py
"""

from __future__ import annotations

import gzip
import importlib
import os
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import write_results
from keras import layers

import penjing
from penjing.data.datasets import load_dataset

_SEED, _EPOCHS, _SAMPLES, _BATCH = 0, 2, 64, 128
_PACKAGES = ("onnx", "onnxruntime", "tf2onnx", "openvino", "coremltools")
_LONGEST_REASON = 200


def build() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(16, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu", name="conv_2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(10, name="head"),
        ],
        name="cnn",
    )


def fit(model, data, epochs=_EPOCHS):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    arrays = data.x_train, data.y_train
    model.fit(*arrays, batch_size=_BATCH, epochs=epochs, verbose=0)
    return model


def compressed_models(data) -> dict[str, keras.Model]:
    keras.utils.set_random_seed(_SEED)
    dense = fit(build(), data)
    steps = _EPOCHS * -(-len(data.x_train) // _BATCH)
    schedule = penjing.PolynomialDecay(
        final_sparsity=0.9, begin_step=0, end_step=steps // 2, frequency=1
    )
    cut = penjing.prune_channels(dense, macs=0.4)
    return {
        "dense": dense,
        "pruned, 90 % zeros": penjing.strip(
            fit(penjing.prune(dense, schedule, scope="global"), data)
        ),
        "clustered, 16 values": penjing.strip(fit(penjing.cluster(dense, 16), data)),
        "quantized, 8 bits": penjing.strip(
            fit(penjing.quantize_aware(dense, activations=None), data)
        ),
        "channels cut, 40 % of the MACs": fit(cut, data),
    }


def write_tflite(model, folder, quantization=None):
    path = folder / "model.tflite"
    penjing.export_litert(model, path, quantization)
    return [path], penjing.LiteRTModel(path).predict


def write_onnx(model, folder):
    path = folder / "model.onnx"
    model.export(str(path), format="onnx", verbose=False)
    importlib.import_module("onnx").checker.check_model(str(path))
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [path], lambda x: session.run(None, {name: x})[0]


def write_openvino(model, folder):
    path = folder / "model.xml"
    model.export(str(path), format="openvino", verbose=False)
    openvino = importlib.import_module("openvino")
    compiled = openvino.Core().compile_model(
        str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return [path, path.with_suffix(".bin")], lambda x: compiled([x])[0]


def write_core_ml(model, folder):
    coremltools = importlib.import_module("coremltools")
    tensorflow = importlib.import_module("tensorflow")
    given = [tensorflow.TensorSpec((1, *model.input_shape[1:]), "float32")]
    function = tensorflow.function(lambda x: model(x), input_signature=given)
    found = coremltools.convert(
        [function.get_concrete_function()],
        source="tensorflow",
        convert_to="mlprogram",
        compute_precision=coremltools.precision.FLOAT32,
    )
    path = folder / "model.mlpackage"
    found.save(str(path))
    coremltools.models.MLModel(str(path), skip_model_load=True).get_spec()
    return [file for file in path.rglob("*") if file.is_file()], None


FORMATS: dict[str, Callable[..., Any]] = {
    "LiteRT, float32": write_tflite,
    "LiteRT, int8 weights": lambda model, folder: write_tflite(
        model, folder, "dynamic"
    ),
    "ONNX": write_onnx,
    "OpenVINO": write_openvino,
    "Core ML": write_core_ml,
}


def measure(model, write, x) -> dict[str, Any]:
    """Sizes, and how far outputs are off; or why there are none."""
    with tempfile.TemporaryDirectory() as place:
        try:
            files, run = write(model, Path(place))
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            return {"failed": words[:_LONGEST_REASON]}
        contents = [file.read_bytes() for file in sorted(files)]
        row: dict[str, Any] = {
            "bytes": sum(map(len, contents)),
            "gzip": sum(
                len(gzip.compress(content, 9, mtime=0)) for content in contents
            ),
            "ran": run is not None,
        }
        if run is not None:
            wanted = keras.ops.convert_to_numpy(model(x))
            row["difference"] = float(np.abs(np.asarray(run(x)) - wanted).max())
            row["largest"] = float(np.abs(wanted).max())
        return row


def main() -> None:
    data = load_dataset("fashion-mnist-small")
    x = data.x_test[:_SAMPLES, ..., None].astype("float32")
    models = compressed_models(data)
    rows = []
    for name, model in models.items():
        _, accuracy = fit(model, data, 0).evaluate(data.x_test, data.y_test, verbose=0)
        for form, write in FORMATS.items():
            row = {"model": name, "format": form, "accuracy": accuracy}
            rows.append({**row, **measure(model, write, x)})
            print(rows[-1], flush=True)
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "missing"
    write_results("other_formats", {"packages": versions, "rows": rows})


if __name__ == "__main__":
    main()
