"""Rows of the gallery that are compressed for microcontrollers, beside authors' files.

`fer` and the four networks of MLPerf Tiny. What a file says is compared with what the
author's float model says, on inputs of a test part; nobody labels anything: the float
model's outputs are the targets that `penjing compress` trains on. Sizes are those of
files that TensorFlow Lite Micro runs, and Vela's estimates of flash.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gallery_files import verdict
from gallery_inputs import crops, faces
from gallery_models import fer_files, tiny_files
from gallery_sounds import machines, words
from gallery_sources import CACHE
from gallery_steps import agreement, cosine, outputs_of, spread_error

import penjing
from penjing.errors import CompressionError
from penjing.files import atomic_path
from penjing.models.model_files import load_keras_model
from penjing.runtime.ethos_u import estimate_by_vela
from penjing.specializing import specialize

Row = dict[str, Any]
_AT_ONCE = """
name = "at once"
[training]
epochs = 0
loss = "{loss}"
metrics = ["{metric}"]
[[methods]]
method = "one_shot"
sparsity = {sparsity}
levels = {levels}
granularity = "per_tensor"
[export]
quantizations = ["int8"]
finish = "smallest"
runtime = "micro"
encoding = "packed"
"""
_TRAINED = """
name = "trained"
[training]
epochs = {epochs}
batch_size = 64
optimizer = "adam"
learning_rate = {rate}
loss = "{loss}"
metrics = ["{metric}"]
[[methods]]
method = "prune"
scope = "global"
[methods.schedule]
kind = "constant"
final_sparsity = {sparsity}
[[methods]]
method = "quantize_aware"
levels = {levels}
granularity = "per_tensor"
activations = "int8"
levels_by_layer = {{ "*depthwise*" = 63 }}
[export]
quantizations = ["int8"]
finish = "smallest"
runtime = "micro"
encoding = "packed"
"""


def _same_class(x: np.ndarray, taught: np.ndarray, given: np.ndarray) -> float:
    return agreement(taught, given)


def _same_alarm(x: np.ndarray, taught: np.ndarray, given: np.ndarray) -> float:
    """Share of sounds on which both give, or do not give, the alarm of a tenth."""
    errors = [((x - y) ** 2).reshape(len(x), -1).mean(1) for y in (taught, given)]
    bound = np.quantile(errors[0], 0.9)
    return round(float(np.mean((errors[0] > bound) == (errors[1] > bound))), 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A network, its inputs, and the recipes that it is compressed by.

    `inputs` gives `count` inputs of a part; `recipes` have a title, a template and
    its settings; `agree` says on what share of inputs a file decides as the original.
    """

    files: Callable[[], tuple[Path, Path]]
    inputs: Callable[[str, int], np.ndarray]
    described: str
    train: int
    test: int
    recipes: tuple[tuple[str, str, dict[str, Any]], ...]
    loss: str = "categorical_crossentropy"
    metric: str = "accuracy"
    agree: Callable[[np.ndarray, np.ndarray, np.ndarray], float] = _same_class


def _faces(part: str, count: int) -> np.ndarray:
    pixels = faces(part, count, seed=0)[..., None].astype("float32")
    return (pixels / 255 - 0.5) * 2


def _small_crops(part: str, count: int) -> np.ndarray:
    return (crops(part, count, 32, seed=0).astype("float32") - 128) / 128


def _crops(part: str, count: int) -> np.ndarray:
    return crops(part, count, 96, seed=0).astype("float32")


def _words(part: str, count: int) -> np.ndarray:
    return words(count, seed=int(part == "test"))


def _machines(part: str, count: int) -> np.ndarray:
    return machines(count, seed=int(part == "test"))


_CROPS = "crops of 22 photos of face-api, scikit-image and scikit-learn"
TASKS = {
    "fer": Task(
        files=fer_files,
        inputs=_faces,
        described="faces on photos of face-api and scikit-image, and of its LFW subset",
        train=2500,
        test=600,
        recipes=(
            ("levels at once", _AT_ONCE, {"sparsity": 0.0, "levels": 63}),
            (
                "trained",
                _TRAINED,
                {"sparsity": 0.5, "levels": 7, "epochs": 4, "rate": 2e-3},
            ),
        ),
    ),
    "keyword-spotting": Task(
        files=lambda: tiny_files("keyword_spotting"),
        inputs=_words,
        described="made words (formants), for want of recorded ones",
        train=3000,
        test=1000,
        recipes=(
            ("levels at once", _AT_ONCE, {"sparsity": 0.0, "levels": 63}),
            (
                "trained",
                _TRAINED,
                {"sparsity": 0.6, "levels": 15, "epochs": 10, "rate": 2e-3},
            ),
        ),
    ),
    "image-classification": Task(
        files=lambda: tiny_files("image_classification"),
        inputs=_small_crops,
        described=_CROPS,
        train=2000,
        test=1000,
        recipes=(("levels at once", _AT_ONCE, {"sparsity": 0.4, "levels": 15}),),
    ),
    "visual-wake-words": Task(
        files=lambda: tiny_files("visual_wake_words"),
        inputs=_crops,
        described=_CROPS,
        train=1000,
        test=400,
        recipes=(("levels at once", _AT_ONCE, {"sparsity": 0.6, "levels": 15}),),
    ),
    "anomaly-detection": Task(
        files=lambda: tiny_files("anomaly_detection"),
        inputs=_machines,
        described="made noise of machines, for want of recorded one",
        train=2000,
        test=1000,
        recipes=(("levels at once", _AT_ONCE, {"sparsity": 0.4, "levels": 15}),),
        loss="mean_squared_error",
        metric="mean_squared_error",
        agree=_same_alarm,
    ),
}


def measure_task(name: str) -> Row:
    """The author's files, one made without training, and those of the recipes."""
    task = TASKS[name]
    source, author = task.files()
    model = load_keras_model(source, compile=False)
    data = {part: _inputs(name, part) for part in ("train", "test")}
    taught = {part: model.predict(x, verbose=0) for part, x in data.items()}
    row: Row = {
        "inputs": task.described,
        "samples": {part: len(x) for part, x in data.items()},
        "parameters": model.count_params(),
        "keras_bytes": source.stat().st_size,
        "decisions": np.bincount(taught["test"].argmax(-1).ravel()).tolist()
        if task.metric == "accuracy"
        else None,
    }
    place = CACHE / "out" / name
    place.mkdir(parents=True, exist_ok=True)
    arrays = {f"x_{part}": x for part, x in data.items()}
    arrays |= {f"y_{part}": y for part, y in taught.items()}
    np.savez(place / "data.npz", **arrays)
    check = data["test"], taught["test"], task.agree
    row["author"] = compared(author, author, check)
    row["author"]["micro"] = verdict(_of_batch_one(author, place), "micro")
    plain = place / "plain.tflite"
    if not plain.exists():
        penjing.export_litert(
            model,
            plain,
            "int8",
            representative_data=data["train"][:200],
            runtime="micro",
            finish="smallest",
        )
    row["int8"] = compared(plain, plain, check)
    for title, template, settings in task.recipes:
        out = _compressed(name, title, template, settings)
        packed = out / "model.packed.tflite"
        row[title] = compared(out / "model.tflite", packed, check)
        row[title]["settings"] = settings
    return row


def _compressed(name: str, title: str, template: str, settings: dict[str, Any]) -> Path:
    """The folder of a recipe's files, made where they are not there yet."""
    task = TASKS[name]
    place = CACHE / "out" / name
    out = place / title
    if not (out / "model.packed.tflite").exists():
        recipe = place / f"{title}.toml"
        both = {"loss": task.loss, "metric": task.metric}
        recipe.write_text(template.format(**settings, **both))
        penjing.compress(
            task.files()[0],
            place / "data.npz",
            recipe=recipe,
            out=out,
            accept_baseline=True,
            progress=False,
        )
    return out


def _inputs(name: str, part: str) -> np.ndarray:
    """The inputs of a part; they are drawn once, and kept beside the packages."""
    task = TASKS[name]
    count = getattr(task, part)
    path = CACHE / f"{name}-{part}-{count}.npy"
    if not path.exists():
        with atomic_path(path) as temporary:
            np.save(temporary, task.inputs(part, count))
    return np.load(path)


def _of_batch_one(path: Path, folder: Path) -> Path:
    """The author's file as a board has it: TFLM runs none whose batch is free."""
    fixed = folder / path.name
    fixed.write_bytes(specialize(path.read_bytes()))
    return fixed


def compared(plain: Path, packed: Path, check: tuple) -> Row:
    """Bytes and outputs of a file; the packed one is the plain one to TFLM."""
    x, taught, agree = check
    given = outputs_of(plain, x)
    found = {
        "bytes": packed.stat().st_size,
        "agreement": agree(x, taught, given),
        "cosine": cosine(taught, given),
        "error": spread_error(taught, given),
        "micro": verdict(packed, "micro"),
    }
    try:
        (estimate,) = estimate_by_vela([plain.read_bytes()], plain.name)
        found["vela_flash"] = estimate.flash
    except CompressionError as error:
        found["vela_refuses"] = str(error)
    return found


CLASSIFIERS = {name: (lambda name=name: measure_task(name)) for name in TASKS}
