"""Files from PyTorch without TensorFlow: litert-torch beside the present road.

Models are made on the PyTorch backend. In an environment that has Keras, torch and
litert-torch, and no TensorFlow, each is written by Keras' own exporter; in this one by
`penjing.export_litert`, which converts with TensorFlow in a process of its own. Both
files run on the same inputs, and `penjing.shrink_litert` rewrites both. The size of the
other environment is that of its packages on disk. Run:
python benchmarks/litert_torch_road.py --python ENVIRONMENT/bin/python
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

_SEED, _SAMPLES, _LONGEST_REASON = 0, 8, 160
# What Keras on PyTorch and the runtime need anyway; pip is there before.
_NEEDED_ANYWAY = (
    *("torch", "torchgen", "functorch", "sympy", "mpmath", "networkx", "fsspec"),
    *("jinja2", "ai_edge_litert", "numpy", "numpy.libs", "keras", "h5py", "h5py.libs"),
    *("ml_dtypes", "optree", "rich", "pygments", "absl", "namex", "packaging"),
    *("setuptools", "pip"),
)
_MIB = 2**20


def mlp(inputs):
    x = layers.Dense(64, activation="relu")(inputs)
    return layers.Dense(10)(x)


def cnn(inputs):
    x = layers.Conv2D(16, 3, activation="relu")(inputs)
    x = layers.BatchNormalization()(layers.MaxPooling2D()(x))
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    return layers.Dense(10)(layers.GlobalAveragePooling2D()(x))


def lstm(inputs):
    return layers.Dense(4)(layers.LSTM(16)(inputs))


def attention(inputs):
    x = layers.MultiHeadAttention(2, 8)(inputs, inputs)
    x = layers.LayerNormalization()(layers.Add()([x, inputs]))
    return layers.Dense(4)(layers.GlobalAveragePooling1D()(x))


MODELS = {
    "Dense layers": (mlp, (32,)),
    "CNN": (cnn, (28, 28, 1)),
    "LSTM": (lstm, (12, 8)),
    "attention": (attention, (12, 16)),
}


def build(name: str) -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(_SEED)
    make, shape = MODELS[name]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, make(inputs))
    x = np.random.default_rng(_SEED).normal(size=(_SAMPLES, *shape))
    return model, x.astype("float32")


def reason(error: Exception) -> str:
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return words[:_LONGEST_REASON]


def convert_all(folder: Path) -> None:
    """The part that runs in the other environment."""
    rows: dict[str, Any] = {}
    for name in MODELS:
        model, _ = build(name)
        try:
            path = folder / f"{name}.tflite"
            model.export(str(path), format="litert", verbose=False)
            rows[name] = {"converted": True}
        except Exception as error:
            rows[name] = {"converted": False, "reason": reason(error)}
    tensorflow = importlib.util.find_spec("tensorflow") is not None
    sizes = package_sizes()
    packages = ("litert-torch", "torch", "keras", "jax", "litert-converter")
    result = {
        "rows": rows,
        "tensorflow": tensorflow,
        "versions": {package: metadata.version(package) for package in packages},
        "mebibytes": round(sum(sizes.values())),
        "mebibytes_added": round(
            sum(size for name, size in sizes.items() if name not in _NEEDED_ANYWAY)
        ),
        "largest": {
            name: round(size)
            for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:8]
        },
    }
    (folder / "converted.json").write_text(json.dumps(result))


def package_sizes() -> dict[str, float]:
    """MiB of each folder of packages."""
    place = Path(sysconfig.get_path("purelib"))
    return {
        entry.name: sum(f.stat().st_size for f in entry.rglob("*") if f.is_file())
        / _MIB
        for entry in place.iterdir()
        if entry.is_dir()
    }


def weigh(path: Path, model: keras.Model, x: np.ndarray) -> dict[str, Any]:
    """Sizes of a file, how far its outputs are off, and whether it can be shrunk."""
    import penjing

    content = path.read_bytes()
    row: dict[str, Any] = {"bytes": len(content)}
    row["gzip"] = len(gzip.compress(content, 9, mtime=0))
    wanted = keras.ops.convert_to_numpy(model(x))
    loaded = penjing.LiteRTModel(path)
    row["batch"] = loaded.inputs[0].shape[0]
    row["difference"] = float(np.abs(loaded.predict(x) - wanted).max())
    small = path.with_suffix(".small.tflite")
    row["shrunk"] = penjing.shrink_litert(path, small).raw_after
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="Python of the other environment")
    parser.add_argument("--convert", type=Path, help="for this script alone")
    options = parser.parse_args()
    if options.convert is not None:
        convert_all(options.convert)
        return
    from environment import write_results

    import penjing

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        words = [options.python or sys.executable, __file__, "--convert", place]
        subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": ""})
        found = json.loads((folder / "converted.json").read_text())
        for name, row in found["rows"].items():
            model, x = build(name)
            path = folder / f"{name}.tflite"
            if row["converted"]:
                try:
                    row["litert_torch"] = weigh(path, model, x)
                except Exception as error:
                    row["litert_torch"] = {"failed": reason(error)}
            by_tensorflow = folder / f"{name}.tensorflow.tflite"
            penjing.export_litert(model, by_tensorflow)
            row["tensorflow"] = weigh(by_tensorflow, model, x)
            print(name, row, flush=True)
    found["tensorflow_mebibytes"] = round(package_sizes().get("tensorflow", 0))
    write_results("litert_torch_road", found)


if __name__ == "__main__":
    main()
