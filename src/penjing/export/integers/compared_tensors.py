"""How far each tensor of a file is from the same one of its float32 twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.errors import DataError
from penjing.export.integers.float_layers import layer_of
from penjing.export.integers.noise_sums import NoiseSums
from penjing.export.integers.tensor_pairs import SeenGraph, TensorPair, tensor_pairs
from penjing.json_values import JsonValue
from penjing.runtime.interpreter import TensorSpec
from penjing.runtime.reference_runner import OPTIMIZED, ReferenceRunner
from penjing.tflite.layer_names import LayerScopes
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.stored_tensors import numbers_of
from penjing.tflite.tensors import TensorType

_WIDTH = 40  # letters of a drawing
_AT_ONCE = 64 * 2**20  # bytes of the values that a run gives
_MOST_BATCH = 16

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparedTensor(JsonValue):
    """A tensor of a file beside the same one of the float32 model.

    Attributes:
        name: What the converter calls it, by the operations that became one.
        layer: Path of its Keras layer: the names of the layers around it and its own.
            Outside of all layers, as for `x + y`, the name of the operation.
        operator: What computes it, or reads it where it is a weight; "input" for those.
        dtype: Type in the file.
        is_weight: Whether the file stores its values.
        decibels: Signal-to-noise: the variance of the float values over the mean square
            of the difference, in the middle one of the channels (of the last axis), so
            that one far out hides nothing; of a weight, in all of it. 20 dB are an
            error of a tenth of the spread, and 160, the most, stand for none.
        cosine: Between all values of both.
        added: Noise over signal, as a ratio of at most 1, that came in here: what its
            operator's inputs had is taken off.
        readers: Layers that read it. For a tensor to be float, they must be too.
        minimum: Least float value.
        maximum: Largest float value.
        percentiles: Float values below which 1, 5, 50, 95 and 99 % of them lie.
        scale: Step of its integers, the largest where each channel has one; 0.0 in
            floats.
        low: The real value of its lowest integer, 0.0 in floats.
        high: The real value of its highest integer, 0.0 in floats.
    """

    json_properties = ("used",)

    name: str
    layer: str
    operator: str
    dtype: str
    is_weight: bool = False
    decibels: float
    cosine: float
    added: float = 0.0
    readers: tuple[str, ...] = ()
    minimum: float
    maximum: float
    percentiles: tuple[float, ...]
    scale: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @property
    def used(self) -> float | None:
        """Share of its range in which 90 % of the values lie; None in floats."""
        if self.high <= self.low:
            return None
        return min((self.percentiles[3] - self.percentiles[1]) / self._width, 1.0)

    @property
    def drawing(self) -> str:
        """The range of its integers as a line: `=` where 90 % of the values lie.

        Example:
            >>> tensor = ComparedTensor(name="x", layer="x", operator="ADD",
            ...     dtype="int8", decibels=9.0, cosine=0.9, minimum=-1.0, maximum=8.0,
            ...     percentiles=(-1.0, -0.8, 0.0, 0.8, 4.0), low=-2.0, high=8.0)
            >>> tensor.drawing
            '-2 |....========----------------------------| 8'
            >>> round(tensor.used, 2)
            0.16
        """
        if self.high <= self.low:
            return ""
        bulk = (self.percentiles[1], self.percentiles[3])
        letters = ["."] * _WIDTH
        for ends, letter in (((self.minimum, self.maximum), "-"), (bulk, "=")):
            first, last = (self._place(value) for value in ends)
            letters[first : last + 1] = letter * (last + 1 - first)
        return f"{self.low:.3g} |{''.join(letters)}| {self.high:.3g}"

    @property
    def _width(self) -> float:
        return self.high - self.low

    def _place(self, value: float) -> int:
        place = int((value - self.low) / self._width * _WIDTH)
        return min(max(place, 0), _WIDTH - 1)

    def __str__(self) -> str:
        """One line, for messages."""
        text = f"`{self.layer}` ({self.operator}): {self.decibels:.1f} dB"
        used = self.used
        if used is None or self.is_weight:
            return text
        return (
            f"{text}, {self.minimum:.3g} to {self.maximum:.3g}, and 90 % of the values "
            f"in {used:.1%} of the range"
        )


def compared_tensors(
    file: bytes,
    twin: bytes,
    samples: Sequence[Array],
    scopes: LayerScopes,
    where: str = "the file",
) -> tuple[list[ComparedTensor], list[str]]:
    """Run a file and its float32 twin, and compare all tensors of their main graphs.

    Both run in a process of their own, by LiteRT's kernels without delegates. The rows
    have the order in which the file runs, weights before what is computed with them.
    Also gives the names of tensors that the twin has no partner for.
    `samples` has an array `(samples, ...)` of real values for each input, and `where`
    is what messages call the file. One that cannot run, or is of another network, is a
    FileFormatError or DataError.
    """
    mine, other = (
        SeenGraph(load_records(content, name))
        for content, name in ((file, where), (twin, "the float32 twin"))
    )
    pairs = tensor_pairs(mine, other)
    sums = {p.file: NoiseSums(by_channel=not p.is_constant) for p in pairs}
    for pair in pairs:
        if pair.is_constant:
            ours, theirs = _constant(mine, pair.file), _constant(other, pair.twin)
            if ours is not None and theirs is not None:
                sums[pair.file].add(ours, theirs)
    run = [pair for pair in pairs if not pair.is_constant]
    with ReferenceRunner() as runner:
        for batch in _batches(mine, other, samples):
            values = []
            numbers = ([p.file for p in run], [p.twin for p in run])
            files = (file, mine, where), (twin, other, "the float32 twin")
            for (content, graph, name), wanted in zip(files, numbers, strict=True):
                done = runner.run(
                    content,
                    [_encoded(graph, batch)],
                    where=name,
                    kernels=OPTIMIZED,
                    tensors=wanted,
                    kept=1,
                )
                values.append(done.tensors[0])
            for pair, ours, theirs in zip(run, *values, strict=True):
                if ours is not None and theirs is not None:
                    sums[pair.file].add(_real(mine, pair.file, ours), theirs)
    rows = _rows(mine, other, pairs, sums, scopes)
    seen = {pair.file for pair in pairs if sums[pair.file].count}
    return rows, [mine.name(n) for n in mine.holding() if n not in seen]


def _rows(
    mine: SeenGraph,
    other: SeenGraph,
    pairs: Sequence[TensorPair],
    sums: dict[int, NoiseSums],
    scopes: LayerScopes,
) -> list[ComparedTensor]:
    rows: list[tuple[TensorPair, ComparedTensor]] = []
    noises: dict[int, float] = {}  # by the tensor that was computed, the largest
    ends = dict(zip(map(other.root, other.outputs), scopes.outputs, strict=False))
    last = ""
    for pair in reversed(pairs):  # a weight comes before what says its layer
        if not sums[pair.file].count:
            continue
        name = other.name(pair.twin)
        known = ends.get(pair.twin, name)
        layer = last if pair.is_constant else _layer(known, scopes, pair.code)
        last = layer
        tensor = mine.tensors[pair.file]
        rows.append(
            (
                pair,
                ComparedTensor(
                    name=name,
                    layer=layer,
                    operator=_operator(pair.code),
                    dtype=TensorType(tensor["type"]).dtype,
                    is_weight=pair.is_constant,
                    **sums[pair.file].row(),
                    **_grid(tensor),
                ),
            )
        )
    found = []
    readers = _readers(mine, other, pairs, scopes)
    for pair, row in reversed(rows):
        noise = min(sums[pair.file].noise, 1.0)  # more than all cannot be lost
        root = mine.root(pair.file)
        before = max((noises.get(n, 0.0) for n in pair.sources), default=0.0)
        noises[root] = max(noise, noises.get(root, 0.0))
        added = noise if pair.is_constant else max(noise - before, 0.0)
        by = () if pair.is_constant else tuple(readers.get(root, {}))
        found.append(dataclasses.replace(row, added=added, readers=by))
    return found


def _readers(
    mine: SeenGraph, other: SeenGraph, pairs: Sequence[TensorPair], scopes: LayerScopes
) -> dict[int, dict[str, None]]:
    """Tensor of a file, before it was rounded -> the layers that read it, in order."""
    ends = dict(zip(map(other.root, other.outputs), scopes.outputs, strict=False))
    twins = {mine.root(p.file): p.twin for p in pairs if not p.is_constant}
    found: dict[int, dict[str, None]] = {}
    for call in mine.calls:
        twin = twins.get(call.output)
        name = mine.name(call.output) if twin is None else other.name(twin)
        layer = layer_of(ends.get(twin, name) if twin is not None else name, scopes)
        for number in call.inputs:
            if number >= 0 and not mine.is_constant(number):
                found.setdefault(mine.root(number), {})[layer] = None
    return found


def _layer(name: str, scopes: LayerScopes, code: int) -> str:
    if code < 0:
        return name.removeprefix("serving_default_").removesuffix(":0")
    return layer_of(name, scopes)


def _operator(code: int) -> str:
    try:
        return "input" if code < 0 else Operator(code).name
    except ValueError:
        return f"operator {code}"


def _grid(tensor: Record) -> dict[str, Any]:
    """Step and ends of the integers of a tensor; nothing for floats."""
    kind, table = TensorType(tensor["type"]), tensor["quantization"]
    if kind.dtype not in ("int4", "int8", "uint8", "int16", "int32") or not table:
        return {}
    scales = np.asarray(table["scale"], "float64")
    if not scales.size:
        return {}
    scale = float(scales.max())
    points = table["zero_point"]
    zero = float(points[0]) if len(points) else 0.0
    signed = not kind.dtype.startswith("u")
    lowest = -(2.0 ** (kind.bits - 1)) if signed else 0.0
    highest = lowest + 2.0**kind.bits - 1
    return {
        "scale": scale,
        "low": scale * (lowest - zero),
        "high": scale * (highest - zero),
    }


def _constant(graph: SeenGraph, number: int) -> Array | None:
    values = numbers_of(graph.model, graph.tensors[number])
    return None if values is None else _real(graph, number, values)


def _real(graph: SeenGraph, number: int, values: Array) -> Array:
    """The real values of a tensor of integers, with one scale or one a channel."""
    table = graph.tensors[number]["quantization"]
    if not table or not len(table["scale"]) or values.dtype.kind not in "iu":
        return values
    scales = np.asarray(table["scale"], "float64")
    points = np.asarray(table["zero_point"], "float64")
    points = points if points.size == scales.size else np.zeros(scales.size)
    if scales.size > 1:
        axis = int(table["quantized_dimension"])
        if axis >= values.ndim or values.shape[axis] != scales.size:
            return values
        along = [-1 if i == axis else 1 for i in range(values.ndim)]
        scales, points = scales.reshape(along), points.reshape(along)
    return np.asarray((values.astype("float64") - points) * scales)


def _encoded(graph: SeenGraph, batch: Sequence[Array]) -> list[Array]:
    return [
        _spec(graph, number).encode(array)
        for number, array in zip(graph.inputs, batch, strict=True)
    ]


def _spec(graph: SeenGraph, number: int) -> TensorSpec:
    tensor = graph.tensors[number]
    signature = tensor["shape_signature"]
    table = tensor["quantization"]
    has_scale = bool(table) and len(table["scale"]) == 1
    zero = int(table["zero_point"][0]) if has_scale and len(table["zero_point"]) else 0
    return TensorSpec(
        name=graph.name(number),
        shape=tuple(int(n) for n in (signature if len(signature) else tensor["shape"])),
        dtype=TensorType(tensor["type"]).dtype,
        scale=float(table["scale"][0]) if has_scale else 0.0,
        zero_point=zero,
    )


def _batches(
    mine: SeenGraph, other: SeenGraph, samples: Sequence[Array]
) -> list[list[Array]]:
    """Samples in batches that both take, whose tensors fit in memory."""
    specs = [[_spec(graph, n) for n in graph.inputs] for graph in (mine, other)]
    if any(len(side) != len(samples) for side in specs):
        raise DataError(
            f"The file has {len(specs[0])} inputs, the model {len(samples)}: it is of "
            "another network. Give the file that was made of this model."
        )
    for side in specs:
        for spec, array in zip(side, samples, strict=True):
            if not spec.fits(array.shape):
                raise DataError(
                    f"The input `{spec.name}` has the shape {spec.shape}, the samples "
                    f"{array.shape}. Give the file that was made of this model."
                )
    fixed = [s.shape[0] for side in specs for s in side if s.shape and s.shape[0] > 0]
    floats = 4 * sum(int(np.prod(np.abs(t["shape"]))) for t in other.tensors)
    step = max(fixed) if fixed else min(max(_AT_ONCE // max(floats, 1), 1), _MOST_BATCH)
    count = max(len(samples[0]) // step, 1) if fixed else -(-len(samples[0]) // step)
    rows = np.arange(count * step) if fixed else np.arange(len(samples[0]))
    return [
        [array[rows[n * step : (n + 1) * step] % len(array)] for array in samples]
        for n in range(count)
    ]
