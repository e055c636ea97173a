"""What a refused call must look like, and the models and files to make one with."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import importlib
import os
import re
import resource
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import penjing

layers = keras.layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """One call that must be refused.

    Args:
        name: What is wrong, in words.
        call: Makes the call ready: from a `Bench` to a `functools.partial`.
        error: The exact class of the error.
        says: Pattern of the message: what, where, received, allowed, fix. A blank
            stands for any white space, ` .. ` for anything between.
        once: Whether it is the same on every backend.
        when: State of the machine during the call.
    """

    name: str
    call: Callable[[Bench], functools.partial[Any]]
    error: type[Exception]
    says: str
    once: bool = False
    when: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    def as_param(self) -> Any:
        return pytest.param(
            self, id=self.name, marks=[pytest.mark.once] if self.once else []
        )


@dataclasses.dataclass(frozen=True)
class Bench:
    """An empty folder, pytest's patches, and what most calls need."""

    folder: Path
    patch: pytest.MonkeyPatch

    def file(self, name: str, content: bytes | str = b"not what the name says") -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def cut(self, path: Path, fraction: float = 0.5) -> Path:
        """Keep the first part of a file only."""
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * fraction)])
        return path

    def saved(self, name: str, model: keras.Model | None = None) -> Path:
        path = self.folder / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras' advice to use `.keras`
            (model or compiled()).save(path)
        return path

    def without_extras(self) -> None:
        """No optional package is installed."""

        def refuse(name: str) -> Any:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        self.patch.setattr(importlib, "import_module", refuse)

    def tflite(self, name: str = "model.tflite") -> Path:
        return self.file(name, tflite_bytes())

    def npz(self, name: str = "data.npz", **changes: Any) -> Path:
        """Data that fits `small`, but for the changes; None leaves an array out."""
        arrays = {**data(), **changes}
        path = self.folder / name
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
        return path


def data(count: int = 24) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 8)).astype("float32")
    y = np.arange(count) % 3
    return {"x_train": x, "y_train": y, "x_test": x[:9], "y_test": y[:9]}


def small(**head: Any) -> keras.Sequential:
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation="relu", name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(3, name="head", **head),
        ],
        name="small",
    )


def compiled() -> keras.Sequential:
    model = small()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def poisoned(value: float) -> keras.Sequential:
    model = small()
    kernel = keras.ops.convert_to_numpy(model.get_layer("hidden").kernel).copy()
    kernel[2, 3] = value
    model.get_layer("hidden").kernel.assign(kernel)
    return model


def pruned(sparsity: float = 0.5) -> penjing.CompressionModel:
    return penjing.prune(small(), penjing.OneShot(sparsity))


@functools.cache
def tflite_bytes() -> bytes:
    """A float file of `small`, converted once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        return penjing.export_litert(small(), path).read_bytes()


class KerasTwoModel:
    """Looks like a model of the package tf-keras."""

    __module__ = "tf_keras.src.engine.sequential"
    built = True
    name = "old"


class Unbuilt(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


@contextlib.contextmanager
def full_disk(room: int = 300) -> Iterator[None]:
    """No file may grow beyond `room` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """No file or folder may be created, not even by root."""

    def refuse(path: Any, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        patch.setattr(os, "open", refuse)
        yield


def check(refusal: Refusal, bench: Bench) -> None:
    """Refused by penjing itself, in one clear message, with nothing changed."""
    call = refusal.call(bench)
    given = [*call.args, *call.keywords.values()]
    models = [value for value in given if isinstance(value, keras.layers.Layer)]
    before = [fingerprint(model) for model in models], listing(bench.folder)
    with refusal.when(), pytest.raises(refusal.error) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is refusal.error, caught.value
    assert matches(refusal.says, message), f"\n{refusal.says}\nis not in\n{message}"
    assert raised_in(caught.value).startswith("penjing"), "a library's own error"
    after = [fingerprint(model) for model in models], listing(bench.folder)
    assert after == before


def matches(says: str, message: str) -> bool:
    parts = [re.sub(r" +", r"\\s+", part) for part in says.split(" .. ")]
    return re.search(".*".join(parts), message, re.DOTALL) is not None


def raised_in(error: BaseException) -> str:
    """Name of the module whose line raised."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return "" if step is None else str(step.tb_frame.f_globals.get("__name__", ""))


def fingerprint(model: keras.layers.Layer) -> list[Any]:
    """Everything of a model that a refused call could have touched."""
    values = [keras.ops.convert_to_numpy(v.value).tobytes() for v in model.variables]
    flags = [(part.name, part.trainable) for part in model._flatten_layers()]
    paths = [variable.path for variable in model.variables]
    return [values, flags, paths, model.built, getattr(model, "compiled", None)]


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below, with the content of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
