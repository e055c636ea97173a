"""`load_litert`: a `.tflite` file as a Keras model that trains on."""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from pathlib import Path

import keras
import numpy as np

from penjing.arguments import check_flag
from penjing.errors import (
    CompressionWarning,
    UnsupportedModelError,
    require_extra,
)
from penjing.files import as_path
from penjing.packing.packing import restore
from penjing.rebuilding.comparison import (
    FLOAT_TOLERANCE,
    MOST_STEPS,
    check_operators,
    check_outputs,
    deviation,
)
from penjing.rebuilding.file_runs import RunOfFile, joined, outputs_for, run_file
from penjing.rebuilding.graph_building import RebuiltModel, RebuiltOperator, build_model
from penjing.rebuilding.kept_ranges import with_kept_ranges
from penjing.rebuilding.known_values import fold_known
from penjing.rebuilding.plain_settings import plain_settings
from penjing.rebuilding.source_graph import SourceGraph, hybrid_weights
from penjing.rebuilding.support import check_size, check_supported
from penjing.runtime.file_bounds import is_for_tflm
from penjing.sparse.dense_twin import dense_twin, has_sparse_tensors
from penjing.specializing.dilations import join_dilations
from penjing.specializing.specializing import specialize
from penjing.tflite.cleaning import drop_signatures
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.loading import load_records, read_litert
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, set_values

# Of the largest output: files of others were off by up to 5 % as floats do not round.
_SUMMED_ROUNDINGS = 0.1
_NAMED = 3  # operators that were not compared


def load_litert(
    file: str | os.PathLike[str], *, quantized: bool = False
) -> keras.Model:
    """Make a Keras model of a `.tflite` file, to be compressed and trained on.

    Each operator becomes the Keras layer that it was, with the weights of the file as
    real numbers: those of integers lie exactly on their grids. The batch is free where
    the operators allow it. What comes is compared with the file: LiteRT runs it on
    random inputs, in a process of its own, and each layer has to give what its operator
    gives, to 1e-5 of the largest value, or to one step where it gives integers.

    Args:
        file: A `.tflite` file of anyone: float32, float16, dynamic range or integers,
            sparse, or packed by `penjing.pack_litert`.
        quantized: Of a file that computes in int8, give the model as
            `penjing.quantize_aware(..., activations="int8")` would, on the grids and
            ranges of the file: it rounds as the file does, and
            `penjing.export_litert(..., quantization="int8")` writes the same integers.

    Returns:
        A Functional model on the backend in use; a `penjing.CompressionModel` around it
        with `quantized`. Its inputs and outputs are real numbers, also where those of
        the file are integers.

    Raises:
        UnsupportedModelError: If operators of the file have no Keras layer; all of
            them are named. With `quantized`, if it is no file of int8.
        ExportError: If a layer gives something else than its operator.
        FileFormatError: If the file is missing, damaged or does not run.
        MissingDependencyError: If LiteRT is not installed.

    Example:
        >>> model = penjing.load_litert("anyone.tflite")  # doctest: +SKIP
        >>> smaller = penjing.prune_channels(model, ratio=0.5)  # doctest: +SKIP
    """
    path, where = as_path(file), str(file)
    check_flag("quantized", quantized)
    content = read_litert(path)
    if is_for_tflm(content, where):
        content = restore(content, where)
    with plain_settings():
        found = rebuild(content, where, _model_name(path))
        model = found.rebuilt.model
        if quantized:
            model = with_kept_ranges(found.rebuilt, found.graph, where)
        words = (
            _of_fixed_batch(found, where),
            _of_unseen(found, where),
            _of_roundings(model, found, where, quantized=quantized),
        )
    for text in filter(None, words):
        warnings.warn(text, CompressionWarning, stacklevel=2)
    return model


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RebuiltFile:
    """A model, the graph that it was made of, and what the file gave for `runs`.

    `unseen` are operators of which nothing could be compared.
    """

    rebuilt: RebuiltModel
    graph: SourceGraph
    runs: list[RunOfFile]
    unseen: list[RebuiltOperator]


def rebuild(content: bytes, where: str, name: str = "model") -> RebuiltFile:
    """Make the model of a file and compare it, layer by layer; see `load_litert`."""
    _refuse_several_graphs(content, where)
    if has_sparse_tensors(content, where):
        content = dense_twin(content, where)
    check_supported(SourceGraph(model=load_records(content, where)), where, early=True)
    require_extra("ai_edge_litert.interpreter", "litert")
    edited = EditedFile(specialize(content, where=where), where)
    edited.edit(drop_signatures)  # outputs get the order that it gave
    edited.edit(_widen_hybrid_weights)
    apart, before = SourceGraph(model=edited.model.copy()), edited.content
    dilated = before if edited.edit(join_dilations) else None
    graph = SourceGraph(model=edited.model)
    runs = run_file(edited.content, graph, where)
    if dilated is not None:
        check_outputs(graph, runs, outputs_for(dilated, apart, runs, where), where)
    graph = fold_known(graph, runs)
    check_supported(graph, where)
    check_size(graph, len(edited.content), where)
    free = _with_free_batch(graph, runs, name, where)
    if free is not None:
        return free
    rebuilt = build_model(graph, name, where, fixed_batch=True)
    unseen = check_operators(rebuilt, graph, runs, where)
    return RebuiltFile(rebuilt=rebuilt, graph=graph, runs=runs, unseen=unseen)


def _refuse_several_graphs(content: bytes, where: str) -> None:
    model = load_records(content, where)
    signatures = model["signature_defs"]
    if len({int(one["subgraph_index"]) for one in signatures}) > 1:
        keys = [
            bytes(one["signature_key"]).decode("utf-8", "replace") for one in signatures
        ]
        raise UnsupportedModelError(
            f"{where} holds several networks, by the signatures {', '.join(keys)}, and "
            "a Keras model is one. Write a file for each of them."
        )


def _with_free_batch(
    graph: SourceGraph, runs: list[RunOfFile], name: str, where: str
) -> RebuiltFile | None:
    """The model for any batch; None where an operator takes one size alone.

    Layers run on both samples at once, and have to give what the file gave for each.
    """
    try:
        rebuilt = build_model(graph, name, where)
        both = joined(runs)
        unseen = check_operators(rebuilt, graph, both, where)
    except Exception:  # what it is, building with a known batch will tell
        return None
    return RebuiltFile(rebuilt=rebuilt, graph=graph, runs=both, unseen=unseen)


def _of_fixed_batch(found: RebuiltFile, where: str) -> str | None:
    """Say that batches of one size alone can be given."""
    size = found.rebuilt.model.inputs[0].shape[0]
    if size is None:
        return None
    return (
        f"Operators of {where} fix its batch, so the model takes batches of {size} "
        f"alone: give `batch_size={size}` wherever it runs."
    )


def _of_unseen(found: RebuiltFile, where: str) -> str | None:
    """Say which layers were not compared."""
    if not found.unseen:
        return None
    named = ", ".join(
        f"{operator.label} {found.graph.name(operator.call.output)!r}"
        for operator in found.unseen[:_NAMED]
    )
    more = len(found.unseen) - _NAMED
    return (
        f"For random inputs, what {named}{f' and {more} more' if more > 0 else ''} of "
        f"{where} read or give is no number (NaN), so the layers made of them were not "
        "compared. Compare the model with the file on inputs of your own: "
        "penjing.LiteRTModel runs it."
    )


def _of_roundings(
    model: keras.Model, found: RebuiltFile, where: str, *, quantized: bool
) -> str | None:
    """Say how far a model is off where its roundings add up.

    One that rounds as the file does is to have its integers.
    """
    graph = found.graph
    has_grids = any(graph.grid(n) for call in graph.calls for n in call.outputs)
    allowed = _SUMMED_ROUNDINGS if has_grids else FLOAT_TOLERANCE
    off = deviation(model, graph, found.runs)
    if off.relative <= allowed and not (quantized and off.steps > MOST_STEPS):
        return None
    steps = f", {off.steps:.0f} steps of its grid" if has_grids else ""
    kind = (
        "integer roundings, and values cut off at the ends of the file's ranges,"
        if has_grids
        else "float32 roundings"
    )
    return (
        f"Each layer made of {where} gives what its operator gives, but on random "
        f"inputs {kind} add up to {off.relative:.1e} of the largest output{steps}."
    )


def _widen_hybrid_weights(model: Record) -> bool:
    """Write weights that are read beside floats as floats, in place.

    Kernels for them round the floats too, otherwise in each batch, so a model could
    not be compared with them.
    """
    graph = SourceGraph(model=model)
    hybrid = hybrid_weights(graph)
    for number in hybrid:
        values = graph.constant(number)
        tensor = graph.tensors[number]
        tensor.drop("quantization")
        tensor["type"] = TensorType.FLOAT32
        set_values(model, tensor, np.asarray(values, "<f4"))
    return bool(hybrid)


def _model_name(path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem).strip("_.-")
    return name if name[:1].isalpha() else f"model_{name}"
