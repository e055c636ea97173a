"""What zeros buy on a runtime, layer by layer: bytes, milliseconds, both or nothing."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.engine.stripping import is_compressed, strip
from penjing.errors import FileFormatError
from penjing.export.litert import export_litert
from penjing.export.samples import random_samples
from penjing.export.trained_grids import has_trained_grids
from penjing.files import as_path
from penjing.json_values import JsonValue
from penjing.models.model_files import load_keras_model
from penjing.models.signature import input_signature
from penjing.packing.flash_explanation import FlashExplanation, explain_flash
from penjing.runtime.ethos_u import require_vela
from penjing.runtime.file_bounds import refuse_packed
from penjing.sparse.ethos_estimate import EthosExplanation, explain_for_ethos
from penjing.sparse.explicit_padding import make_padding_explicit
from penjing.sparse.sparse_export import check_runtime
from penjing.sparse.sparse_kernels import GraphKernels, LayerSparsity
from penjing.sparse.sparse_rules import RUNTIMES
from penjing.tflite.loading import load_records, read_litert
from penjing.tflite.records import Record
from penjing.tflite.tensors import is_plain, values_of

ETHOS_U = "ethos-u"
MICRO = "micro"
_SAMPLES = 8
_SUFFIXES = (".tflite", ".keras", ".h5", ".hdf5")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparsityExplanation(JsonValue):
    """What `explain_sparsity` found.

    Attributes:
        name: The file or model.
        runtime: "x86", "arm" or "wasm".
        outcome: "fast", where sparse kernels run; "dense", where outputs are right and
            zeros save no time; "wrong", where sparse encoding makes the outputs wrong,
            or would make them so.
        is_encoded: Whether the file leaves zeros out, or for a model, whether
            `export_litert(..., encoding="sparse")` would.
        layers: A row for each operator with weights, in the order of the file.
        problems: What keeps the network from sparse kernels, and what to change.
    """

    name: str
    runtime: str
    outcome: str
    is_encoded: bool
    layers: tuple[LayerSparsity, ...]
    problems: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The outcome in a sentence."""
        fast = sum(row.buys == "bytes and milliseconds" for row in self.layers)
        if self.outcome == "wrong" and self.is_encoded:
            return (
                f"On {self.runtime} this file gives WRONG outputs, silently. Export it "
                "again, dense."
            )
        if self.outcome == "wrong":
            return (
                f"On {self.runtime} sparse encoding would make the outputs wrong, "
                "silently: penjing does not write such a file. Dense it is right."
            )
        if fast:
            layers = "1 layer" if fast == 1 else f"{fast} layers"
            return f"On {self.runtime} zeros of {layers} save time."
        return f"On {self.runtime} zeros save no time here."

    def __str__(self) -> str:
        lines = [f"{self.name} on {self.runtime}"]
        for row in self.layers:
            lines.append(
                f"  {row.layer} ({row.operator}, {row.sparsity:.1%} zeros): "
                f"{row.kernel}; zeros buy {row.buys}"
                + (f"; {row.reason}" if row.reason else "")
            )
        return "\n".join([*lines, *self.problems, self.summary])


def explain_sparsity(
    model_or_file: keras.Model | str | os.PathLike[str], runtime: str
) -> SparsityExplanation | EthosExplanation | FlashExplanation:
    """Say for every layer which kernel runs it and what its zeros buy there.

    The rules stand in one table, `penjing.sparse.sparse_rules.SPARSE_RULES`. Whether a
    convolution runs on sparse weights is decided by the whole network, so its file is
    looked at: that of a model is made first, as `export_litert` makes it.

    Args:
        model_or_file: A built Keras model on any backend, or the path of a `.tflite`,
            `.keras`, `.h5` or `.hdf5` file. Of a `.tflite` file it says what is in
            there.
        runtime: "x86" (servers, laptops), "arm" (phones) or "wasm" (browsers); or
            "ethos-u", Arm's processor for networks beside a microcontroller, for which
            the flash, SRAM and cycles of an int8 file are estimated by its compiler
            Vela; or "micro" (TensorFlow Lite Micro): for each layer what zeros and
            levels buy in flash once the file is packed, see `penjing.pack_litert`, and
            what that takes in RAM and time. For the last two the int8 file of a model
            is made with random data, as its weights alone count.

    Returns:
        The rows, and what to change; for "ethos-u" the estimates for the file and for
        its dense twin; for "micro" flash and the arena (measured in TFLM
        where that is installed, else its activations alone, estimated), each twice.

    Raises:
        FileFormatError: If the file is missing, corrupt or of another type.
        ExportError: If the model cannot be converted, for "micro" if TensorFlow Lite
            Micro lacks what it needs, or if nothing of the file would run on Ethos-U.
        MissingDependencyError: If Vela is not installed, for "ethos-u".
        UnsupportedModelError: If the model is not built.
        ValueError: If the runtime is none of these.

    Example:
        >>> print(explain_sparsity("model.tflite", "wasm"))  # doctest: +SKIP
    """
    if runtime == ETHOS_U:
        require_vela()  # before a model is converted
        content, name, _ = _int8_file(model_or_file, None)
        refuse_packed(content, name, "Vela")
        return explain_for_ethos(content, name)
    if runtime == MICRO:
        content, name, layers = _int8_file(model_or_file, MICRO)
        return explain_flash(
            content, name, functools.partial(_find_layer, layers=layers)
        )
    check_runtime(runtime, (*RUNTIMES, MICRO, ETHOS_U))
    if isinstance(model_or_file, keras.Model):
        return _explain_model(model_or_file, runtime)
    path = _checked_path(model_or_file)
    if path.suffix.lower() != ".tflite":
        return _explain_model(load_keras_model(path), runtime)
    content = read_litert(path)
    refuse_packed(content, str(path))
    model = load_records(content, str(path))
    try:
        return _explained(model, str(path), runtime)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{path} has an operator or tensor that cannot be: {error}. Export it "
            "again."
        ) from error


def _checked_path(file: str | os.PathLike[str]) -> Path:
    path = as_path(file)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise FileFormatError(
            f"Cannot explain {file}: unknown suffix {suffix!r}. Allowed: "
            f"{', '.join(_SUFFIXES)}."
        )
    return path


def _int8_file(
    model_or_file: keras.Model | str | os.PathLike[str], runtime: str | None
) -> tuple[bytes, str, dict[Any, list[str]]]:
    """The bytes and the name of a file, or of the int8 file of a model, and layers.

    The file of a model is exported for a runtime.
    """
    model = model_or_file
    if not isinstance(model, keras.Model):
        path = _checked_path(model)
        if path.suffix.lower() == ".tflite":
            return read_litert(path), str(path), {}
        model = load_keras_model(path)
    plain = model
    if has_trained_grids(model):
        plain = model.model
    elif is_compressed(model):
        model = plain = strip(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        samples = random_samples(input_signature(plain), plain, _SAMPLES)
        export_litert(
            model,
            path,
            "int8",
            representative_data=samples,
            verify=False,
            runtime=runtime,
        )
        return path.read_bytes(), model.name, _layer_paths(plain)


def _explain_model(model: keras.Model, runtime: str) -> SparsityExplanation:
    if is_compressed(model):
        model = strip(model)
    with tempfile.TemporaryDirectory() as folder:
        path = export_litert(model, Path(folder) / "model.tflite", verify=False)
        content = load_records(path.read_bytes(), model.name)
    if runtime != "x86":
        make_padding_explicit(content)
    return _explained(content, model.name, runtime, _layer_paths(model))


def _explained(
    model: Record, name: str, runtime: str, layers: dict[Any, list[str]] | None = None
) -> SparsityExplanation:
    graphs = [
        GraphKernels(model, graph, runtime, is_planned=layers is not None)
        for graph in model["subgraphs"]
    ]
    rows = []
    for graph in graphs:
        for weights, row in graph.rows():
            layer = _find_layer(model, weights, layers or {})
            rows.append(dataclasses.replace(row, layer=layer or row.layer))
    outcomes = {graph.outcome for graph in graphs}
    problems = [problem for graph in graphs for problem in graph.problems()]
    return SparsityExplanation(
        name=name,
        runtime=runtime,
        outcome=next((o for o in ("wrong", "fast") if o in outcomes), "dense"),
        is_encoded=any(graph.is_encoded for graph in graphs),
        layers=tuple(rows),
        problems=tuple(dict.fromkeys(problems)),
    )


def _layer_paths(model: keras.Model) -> dict[Any, list[str]]:
    """Layers by where the zeros of their kernels stand, which the converter keeps."""
    found: dict[Any, list[str]] = {}
    for variable in model.weights:
        for values in _as_stored(ops.convert_to_numpy(variable.value)):
            path = variable.path.rpartition("/")[0]
            found.setdefault(_signature(values), []).append(path)
    return found


def _find_layer(model: Record, tensor: Record, layers: Mapping[Any, list[str]]) -> str:
    """The path of the layer whose kernel a tensor holds, empty where nobody knows."""
    if not layers or not is_plain(model, tensor):
        return ""
    paths = layers.get(_signature(values_of(model, tensor)), [])
    return (paths.pop(0) if len(paths) > 1 else paths[0]) if paths else ""


def _as_stored(values: np.ndarray) -> Sequence[np.ndarray]:
    """A Keras kernel in the shapes that a file may store it in."""
    if values.ndim == 2:
        return [values.T]
    if values.ndim != 4:
        return []
    height, width, inputs, outputs = values.shape
    stored = [values.transpose(3, 0, 1, 2)]
    if outputs == 1 or inputs == 1:
        stored.append(values.reshape(1, height, width, inputs * outputs))
    return stored


def _signature(values: np.ndarray) -> Any:
    return values.shape, np.packbits(values != 0).tobytes()
