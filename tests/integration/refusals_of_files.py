"""Refusals of export, LiteRT, sizes, scores and files of models."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from tests.integration.refusal import (
    Bench,
    KerasTwoModel,
    Refusal,
    Unbuilt,
    compiled,
    data,
    full_disk,
    poisoned,
    read_only,
    small,
    tflite_bytes,
)

import penjing
from penjing import (
    DataError,
    FileFormatError,
    LiteRTModel,
    UnsupportedModelError,
    evaluate,
    export_litert,
    files,
    inspect_file,
    measure_size,
)
from penjing.export import litert
from penjing.measurement import size
from penjing.models import model_files
from penjing.models.model_files import load_keras_model
from penjing.tflite.edited_file import EditedFile

layers = keras.layers
x, y = data()["x_test"], data()["y_test"]


def of_export(
    name: str,
    says: str,
    error: type[Exception] = ValueError,
    model: Any = small,
    target: str = "model.tflite",
    once: bool = False,
    before: Callable[[Bench], Any] = lambda bench: None,
    when: Any = None,
    **arguments: Any,
) -> Refusal:
    def call(bench: Bench) -> Any:
        before(bench)
        return partial(export_litert, model(), bench.folder / target, **arguments)

    extra = {} if when is None else {"when": when}
    return Refusal(
        name=f"export: {name}", call=call, error=error, says=says, once=once, **extra
    )


def converted_to(content: bytes) -> Callable[[Bench], None]:
    """Conversion takes seconds; what comes after it is what is refused."""
    return lambda bench: bench.patch.setattr(
        litert, "converted", lambda *arguments: EditedFile(content, "the file")
    )


def of_strings() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((1,), dtype="string", name="words"),
            layers.StringLookup(vocabulary=["a"]),
        ]
    )


int8 = {"quantization": "int8"}
EXPORTS = [
    of_export(
        "suffix",
        r"must end in `.tflite`, got '.*model.lite'. LiteRT and its tools go by",
        target="model.lite",
    ),
    of_export(
        "folder missing",
        "Cannot write .*none/model.tflite: the folder .*none does not exist. Create",
        penjing.CompressionError,
        target="none/model.tflite",
    ),
    of_export(
        "a folder in the way",
        "Cannot write .*model.tflite: it is a folder. Add a file name",
        penjing.CompressionError,
        before=lambda bench: (bench.folder / "model.tflite").mkdir(),
    ),
    of_export(
        "unwritable folder",
        "Cannot write .*model.tflite: Permission denied. Check the permissions",
        penjing.CompressionError,
        when=read_only,
    ),
    of_export(
        "full disk",
        "Cannot write .*model.tflite: File too large. .* space left on its disk",
        penjing.CompressionError,
        before=converted_to(b"1" * 5000),
        when=full_disk,
    ),
    of_export(
        "full disk, with an old file",
        "Cannot write .*model.tflite: File too large",
        penjing.CompressionError,
        before=lambda bench: (
            bench.file("model.tflite", "old"),
            converted_to(b"1" * 5000)(bench),
        ),
        when=full_disk,
    ),
    of_export(
        "a model of tf-keras",
        "`model` must be a keras.Model, got KerasTwoModel. Load a saved model with",
        UnsupportedModelError,
        model=KerasTwoModel,
    ),
    of_export(
        "not built",
        "The model `mine` is not built .. Call it on a batch of data",
        UnsupportedModelError,
        model=lambda: Unbuilt(name="mine"),
    ),
    of_export(
        "strings",
        "Input `words` takes strings, which LiteRT models here cannot. Look the",
        UnsupportedModelError,
        model=of_strings,
        once=True,
    ),
    of_export(
        "unknown quantization",
        "Unknown `quantization` 'int3'. Allowed: None, 'dynamic', 'float16', 'int8'",
        quantization="int3",
    ),
    of_export(
        "integer inputs of a float file",
        "`input_type`='int8' does not go with quantization='dynamic'. Allowed: "
        "'float32'. .. need",
        quantization="dynamic",
        input_type="int8",
    ),
    of_export(
        "int8 without data",
        "quantization='int8' needs `representative_data`: some real inputs, as in "
        r"x_train\[:500\]",
        DataError,
        **int8,
    ),
    of_export(
        "representative data of another shape",
        r"has the shape \(samples, 8\), but `representative_data` has \(9, 5\)",
        DataError,
        **int8,
        representative_data=x[:, :5],
    ),
    of_export(
        "one representative sample",
        r"has the shape \(samples, 8\), but .* has \(8,\). Data sets must be batched",
        DataError,
        **int8,
        representative_data=x[0],
    ),
    of_export(
        "representative data with NaN",
        "holds NaN or infinity. Remove these samples",
        DataError,
        **int8,
        representative_data=np.full((4, 8), np.nan, "float32"),
    ),
    of_export(
        "no representative samples",
        "the same number of samples for each input, at least 1, got",
        DataError,
        **int8,
        representative_data=x[:0],
    ),
    of_export(
        "representative data by another name",
        r"has the keys \['image'\], but the model has the inputs .. Use these names",
        DataError,
        **int8,
        representative_data={"image": x},
    ),
    of_export(
        "a path as representative data",
        "`representative_data` must be arrays, a data set .. got str",
        DataError,
        **int8,
        representative_data="data.npz",
    ),
    of_export(
        "a number as representative data",
        "`representative_data` must be arrays, a data set .. got int",
        DataError,
        **int8,
        representative_data=100,
    ),
    of_export(
        "imports that do not exist",
        "`imports` names 'no.such', which is no module .. Give dotted names",
        imports=["no.such"],
    ),
    of_export(
        "runtime not installed",
        "needs the module `ai_edge_litert.interpreter`, which is not installed. .* pip "
        r'install "penjing\[tensorflow\]"',
        penjing.MissingDependencyError,
        before=Bench.without_extras,
    ),
    of_export(
        "a model that gives NaN",
        "`small` itself gives NaN or infinity .. Check its weights, or pass",
        penjing.ExportError,
        model=partial(poisoned, float("nan")),
        before=converted_to(b"1"),
    ),
    of_export(
        "a file that does not run",
        "The converted file does not run, so it was not written: LiteRT cannot run",
        penjing.ExportError,
        before=converted_to(b"1234TFL3" + b"\0" * 64),
        once=True,
    ),
]


def of_file(
    function: Any,
    name: str,
    says: str,
    make: Callable[[Bench], Any],
    error: type[Exception] = FileFormatError,
    **more: Any,
) -> Refusal:
    """A file that must be refused, the same on every backend."""
    title = getattr(function, "__name__", "")
    return Refusal(
        name=f"{title}: {name}",
        call=lambda bench: partial(function, make(bench), **more),
        error=error,
        says=says,
        once=True,
    )


EXPORTS += [
    of_export(
        "a file that computes something else",
        "computes something else, so it was not written: output 0 is off by .. allowed",
        penjing.ExportError,
        model=partial(poisoned, 50.0),
        before=lambda bench: converted_to(tflite_bytes())(bench),
        once=True,
    ),
    Refusal(
        name="export: no path",
        call=lambda bench: partial(export_litert, small(), None),
        error=ValueError,
        says="`path` must be the path of the file to write .. of type NoneType",
    ),
    of_file(
        LiteRTModel,
        "no path",
        "Expected the path of a file, got an object of type int",
        lambda bench: 3,
    ),
]


def predict(path: Any, inputs: Any = x, batch_size: int = 128) -> Any:
    return LiteRTModel(path).predict(inputs, batch_size)


def repacked(path: Any, member: str) -> Any:
    """The `.keras` file without one of its members."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            if name != member:
                archive.writestr(name, content)
    return path


def weights_only(bench: Bench) -> Any:
    small().save_weights(bench.folder / "model.weights.h5")
    return bench.folder / "model.weights.h5"


def linked(bench: Bench) -> Any:
    path = bench.folder / "model.h5"
    with h5py.File(path, "w") as file:
        file["secret"] = h5py.ExternalLink("/etc/other.h5", "/data")
    return path


def with_lambda(bench: Bench) -> Any:
    model = keras.Sequential([keras.Input((8,)), layers.Lambda(lambda v: v * 2)])
    return bench.saved("model.keras", model)


class Unregistered(layers.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs


def with_own_class(bench: Bench) -> Any:
    """A model whose class the loading process does not know."""
    path = bench.saved(
        "model.keras", keras.Sequential([keras.Input((8,)), Unregistered(name="own")])
    )
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = content["config.json"].replace(b"Unregistered", b"Elsewhere")
    content["config.json"] = config.replace(__name__.encode(), b"their.module")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def oversized(module: Any, limit: str, make: Callable[[Bench], Any]) -> Any:
    def call(bench: Bench) -> Any:
        bench.patch.setattr(module, limit, 100)
        return make(bench)

    return call


def of_small_content(bench: Bench) -> Path:
    """A model, where files may unpack to a hundred bytes."""
    bench.patch.setattr(files, "MAX_EXPANSION", 0)
    bench.patch.setattr(files, "EXPANSION_FLOOR", 100)
    return bench.saved("a.keras")


def check_small_file(path: Any) -> Any:
    return model_files.check_file(path, 100)


missing = lambda name: lambda bench: bench.folder / name  # noqa: E731
fake = lambda name: lambda bench: bench.file(name)  # noqa: E731
empty = lambda name: lambda bench: bench.file(name, b"")  # noqa: E731
half = lambda name: lambda bench: bench.cut(bench.saved(name))  # noqa: E731
CORRUPT = "Cannot read .*{}: .* corrupt or not of the type .* Copy or save it again"

LOADS = [
    of_file(
        load_keras_model,
        "missing",
        "There is no file .*none.keras. Check the path",
        missing("none.keras"),
    ),
    of_file(
        load_keras_model,
        "a folder",
        "is a folder. Give the path of a file",
        lambda bench: bench.folder,
    ),
    of_file(
        load_keras_model, "empty", "a.keras is empty. Write it again", empty("a.keras")
    ),
    of_file(
        load_keras_model,
        "suffix",
        "a.onnx is not a Keras model by its name. Allowed: .keras, .h5, .hdf5",
        fake("a.onnx"),
    ),
    of_file(
        load_keras_model,
        "no zip in a .keras",
        CORRUPT.format("a.keras"),
        fake("a.keras"),
    ),
    of_file(
        load_keras_model,
        "truncated .keras",
        CORRUPT.format("a.keras"),
        half("a.keras"),
    ),
    of_file(load_keras_model, "no HDF5", CORRUPT.format("a.h5"), fake("a.h5")),
    of_file(load_keras_model, "truncated .h5", CORRUPT.format("a.h5"), half("a.h5")),
    of_file(
        load_keras_model,
        "a .keras without weights",
        "a.keras has no model.weights.h5 inside .. Write it with model.save",
        lambda bench: repacked(bench.saved("a.keras"), "model.weights.h5"),
    ),
    of_file(
        load_keras_model,
        "weights alone",
        "model.weights.h5 holds weights only, no model. Build the model in Python",
        weights_only,
    ),
    of_file(
        load_keras_model,
        "a link out of the file",
        "has a link at 'secret'. .. could read other files",
        linked,
    ),
    of_file(
        load_keras_model,
        "a bomb",
        "unpacks to .* bytes, more than the 100 .* a bomb",
        of_small_content,
    ),
    of_file(
        check_small_file,
        "too large",
        "a.keras has 500 bytes, more than the 100 that are allowed",
        lambda bench: bench.file("a.keras", b"1" * 500),
    ),
    of_file(
        load_keras_model,
        "a lambda",
        r"holds Python code \(a Lambda layer or a lambda\), which penjing does not run"
        ". Replace it .. safe_mode=False",
        with_lambda,
    ),
    of_file(
        load_keras_model,
        "an unknown class",
        "uses a class .. Elsewhere .. Import the module that registers it",
        with_own_class,
        UnsupportedModelError,
    ),
    of_file(
        load_keras_model,
        "a number",
        "Expected the path of a file, got an object of type int. Give a text or a",
        lambda bench: 3,
    ),
]

READS = [
    of_file(measure_size, "missing", "There is no file .*none", missing("none")),
    of_file(measure_size, "a folder", "is a folder. Give", lambda bench: bench.folder),
    of_file(measure_size, "empty", "a.bin is empty", empty("a.bin")),
    of_file(
        measure_size, "no bytes", "There are no bytes to measure", lambda bench: b""
    ),
    of_file(
        measure_size,
        "too large",
        "a.bin has 500 bytes, more than the 100 that are allowed",
        oversized(size, "MAX_FILE_BYTES", lambda bench: bench.file("a.bin", "1" * 500)),
    ),
    of_file(
        measure_size,
        "no path",
        "path of a file, got an object of type Sequential",
        lambda bench: small(),
    ),
    of_file(
        inspect_file,
        "suffix",
        r"Cannot inspect .*a.npz: unknown suffix '.npz'. Allowed: .keras",
        fake("a.npz"),
    ),
    of_file(
        inspect_file, "missing", "There is no file .*none.h5. Check", missing("none.h5")
    ),
    of_file(inspect_file, "truncated .h5", CORRUPT.format("a.h5"), half("a.h5")),
    of_file(
        inspect_file, "truncated .keras", CORRUPT.format("a.keras"), half("a.keras")
    ),
    of_file(
        inspect_file,
        "truncated .tflite",
        "model.tflite .* (corrupt|damaged|truncated)",
        lambda bench: bench.cut(bench.tflite(), 0.6),
    ),
    of_file(
        inspect_file,
        "no path",
        "path of a file, got an object of type NoneType",
        lambda bench: None,
    ),
    of_file(
        LiteRTModel, "missing", "There is no file .*none.tflite", missing("none.tflite")
    ),
    of_file(
        LiteRTModel,
        "another file",
        r"a.tflite is not a .tflite file \(it lacks the mark TFL3 at byte 4\). Write",
        fake("a.tflite"),
    ),
    of_file(
        LiteRTModel,
        "truncated",
        "LiteRT cannot run .*model.tflite: .* The file is damaged, or",
        lambda bench: bench.cut(bench.tflite(), 0.6),
    ),
    of_file(
        LiteRTModel,
        "no threads",
        "`num_threads` must be 1 or more, got 0",
        Bench.tflite,
        ValueError,
        num_threads=0,
    ),
    of_file(
        predict,
        "inputs of another shape",
        r"Input `.*` of .*model.tflite has the shape \(samples, 8\), got an array of "
        r"shape \(9, 5\)",
        Bench.tflite,
        DataError,
        inputs=x[:, :5],
    ),
    of_file(
        predict,
        "texts",
        "takes numbers, got an array of type <U1. Convert it to float32",
        Bench.tflite,
        DataError,
        inputs=np.full((2, 8), "a"),
    ),
    of_file(
        predict,
        "two inputs for one",
        "has 1 inputs|got 2 arrays|has the shape",
        Bench.tflite,
        DataError,
        inputs=[x, x],
    ),
    of_file(
        predict,
        "batches of 0",
        "`batch_size` must be 1 or more, got 0",
        Bench.tflite,
        ValueError,
        batch_size=0,
    ),
]


def of_evaluate(
    name: str, says: str, *data: Any, error: type[Exception] = DataError, **more: Any
) -> Refusal:
    return Refusal(
        name=f"evaluate: {name}",
        call=lambda bench: partial(evaluate, compiled(), *data, **more),
        error=error,
        says=says,
    )


SCORES = [
    of_evaluate(
        "inputs of another shape",
        r"'small' takes inputs of shape \(any, 8\), got \(9, 5\). Reshape",
        x[:, :5],
        y,
    ),
    of_evaluate(
        "lengths that differ",
        "same number of samples, but x has 9, y has 5. Give every sample its label",
        x,
        y[:5],
    ),
    of_evaluate("no labels", "`y` is missing, and `x` is no loader .. Allowed", x),
    of_evaluate("no samples", "The data is empty: there is no sample", x[:0], y[:0]),
    of_evaluate(
        "label out of range",
        "labels go from 0 to 5, but the model has 3 outputs: 0 to 2 are allowed",
        x,
        np.where(y == 2, 5, y),
    ),
    of_evaluate(
        "negative label",
        "labels go from -1 to 2 .. Number the classes from 0",
        x,
        np.where(y == 0, -1, y),
    ),
    of_evaluate(
        "fractions as labels",
        "labels hold fractions, but class numbers from 0 to 2 .. For a regression",
        x,
        y + 0.5,
    ),
    of_evaluate(
        "labels of another shape",
        r"labels have shape \(9, 2\) and the predictions \(9, 3\). Allowed",
        x,
        np.zeros((9, 2)),
    ),
    of_evaluate(
        "objects",
        "`x` holds ndarray objects, not numbers. Allowed: arrays",
        np.array([x[0], None], dtype=object),
        y[:2],
    ),
    of_evaluate(
        "batches of 0",
        "`batch_size` must be 1 or more, got 0",
        x,
        y,
        batch_size=0,
    ),
    of_evaluate(
        "unknown metric",
        "Keras has no metric 'acuracy'. Did you mean 'accuracy'",
        x,
        y,
        metrics=["acuracy"],
    ),
    of_file(
        evaluate,
        "no model",
        "Expected a Keras model or the path of a file, got a int. Allowed files",
        lambda bench: 3,
        x=x,
        y=y,
    ),
    of_file(
        evaluate,
        "suffix",
        "a.onnx is of an unknown type. Allowed: .keras, .h5",
        fake("a.onnx"),
        x=x,
        y=y,
    ),
    of_file(
        evaluate,
        "missing",
        "There is no file .*none.tflite. Check the path",
        missing("none.tflite"),
        x=x,
        y=y,
    ),
    of_file(
        evaluate,
        "label out of range for a file",
        "labels go from 0 to 5, but the model has 3 outputs",
        Bench.tflite,
        DataError,
        x=x,
        y=np.where(y == 2, 5, y),
    ),
]

REFUSALS = [*EXPORTS, *LOADS, *READS, *SCORES]
