"""The grids and ranges of an integer file, kept in a model that trains on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from penjing.engine.activations.activation_config import ActivationConfig
from penjing.engine.compression_model import CompressionModel
from penjing.engine.quantization import apply_quantization
from penjing.engine.transforms.quantization_config import QuantizationConfig
from penjing.engine.transforms.quantization_transform import FakeQuantize
from penjing.errors import UnsupportedModelError
from penjing.models.keras_private import operation_behind
from penjing.numerics.grids import Grid
from penjing.rebuilding.file_runs import Array
from penjing.rebuilding.graph_building import RebuiltModel
from penjing.rebuilding.source_graph import SourceGraph
from penjing.tflite.operators import WEIGHTED
from penjing.tflite.tensors import TensorType

_LEAST = -127  # of 8 bits that lie evenly about zero
_TENSOR, _CHANNEL = Grid(granularity="per_tensor"), Grid()


def with_kept_ranges(
    rebuilt: RebuiltModel, graph: SourceGraph, where: str
) -> CompressionModel:
    """The model as `quantize_aware` gives it, on the grids and ranges of the file.

    An UnsupportedModelError says that the file does not compute in int8, or that its
    weights are on grids that no training can keep.
    """
    scales = _weight_scales(rebuilt, graph, where)
    if not scales:
        raise UnsupportedModelError(
            f"{where} does not compute with int8 weights and int8 tensors, so there "
            "are no ranges to keep. Leave `quantized` out."
        )
    grids = {
        name: _TENSOR if values.size == 1 else _CHANNEL
        for name, values in scales.items()
    }
    quantized = apply_quantization(
        rebuilt.model,
        QuantizationConfig(
            weights=_CHANNEL, include=list(scales), grids_by_layer=grids
        ),
        ActivationConfig(calibrated=True),
    )
    _set_scales(quantized, scales)
    _set_ranges(quantized, rebuilt, graph, where)
    return quantized


def _weight_scales(
    rebuilt: RebuiltModel, graph: SourceGraph, where: str
) -> dict[str, Array]:
    """Name of a layer -> the scales of its weights in the file."""
    found = {}
    for operator in rebuilt.operators:
        places = WEIGHTED.get(operator.call.code)
        if places is None or not operator.layers:
            continue
        number = operator.call.input(places.weights)
        grid = graph.grid(number)
        computes = graph.kind(operator.call.output) == TensorType.INT8
        if grid is None or not computes:
            continue
        if graph.kind(number) != TensorType.INT8 or grid[1].any():
            raise UnsupportedModelError(
                f"The weights {graph.name(number)!r} of {where} are of the type "
                f"{graph.kind(number).dtype}, with the zero points "
                f"{np.unique(grid[1]).tolist()[:3]}: only int8 weights whose zero "
                "point is 0 can be trained. Leave `quantized` out, and call "
                "penjing.quantize_aware on the model."
            )
        steps = graph.constant(number) / grid[0]
        if steps.min(initial=0) < _LEAST - 0.5:
            raise UnsupportedModelError(
                f"The weights {graph.name(number)!r} of {where} reach -128, and "
                f"trained grids begin at {_LEAST}. Leave `quantized` out, and call "
                "penjing.quantize_aware on the model."
            )
        found[operator.layers[0].name] = grid[0].reshape(-1)
    return found


def _set_scales(model: CompressionModel, scales: Mapping[str, Array]) -> None:
    (transform,) = (t for t in model.transforms if isinstance(t, FakeQuantize))
    pairs = zip(transform.weights_by_path.values(), transform.references, strict=True)
    for weight, reference in pairs:
        values = scales[weight.layer.name]
        reference.assign(values.reshape(tuple(reference.shape)))


def _set_ranges(
    model: CompressionModel, rebuilt: RebuiltModel, graph: SourceGraph, where: str
) -> None:
    grids: Any = model.activations
    known = _grids_by_call(rebuilt, graph)
    plan = grids.plan
    missing = [group for group in plan.groups if group not in known]
    if missing:
        raise UnsupportedModelError(
            f"{where} has no range for what `{missing[0]}` gives, which is rounded in "
            "training. Leave `quantized` out, and call penjing.quantize_aware on the "
            "model with calibration data."
        )
    grids.set_ranges({group: _ends(*known[group]) for group in plan.groups})


def _ends(scale: float, point: int) -> tuple[float, float]:
    """Least and largest value of int8."""
    return (-128 - point) * scale, (127 - point) * scale


def _grids_by_call(
    rebuilt: RebuiltModel, graph: SourceGraph
) -> dict[str, tuple[float, int]]:
    """Name of what gives a tensor, as plans know it -> scale and zero point."""
    found: dict[str, tuple[float, int]] = {}
    names = {id(t): f"input_{i}" for i, t in enumerate(rebuilt.model.inputs)}
    for number, tensor in rebuilt.tensors.items():
        name = names.get(id(tensor)) or operation_behind(tensor).name
        grid = graph.grid(number)
        if graph.kind(number) == TensorType.INT8 and grid and grid[0].size == 1:
            found.setdefault(name, (float(grid[0]), int(grid[1])))
    return found
