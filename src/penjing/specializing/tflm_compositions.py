"""Equal operators in place of those that TensorFlow Lite Micro lacks.

Lacking are whole operators, and some types of others. Integers stay the same, bit by
bit; floats differ by rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from penjing.runtime.tensor_values import FileExaminer
from penjing.specializing.composition import Array, Composition
from penjing.specializing.powers import compose_power
from penjing.tflite.cleaning import drop_unused
from penjing.tflite.operators import Operator, operator_code, operators
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType
from penjing.tflite.writing import write_records

# Operators that move values or mix them, with the places of their data: it can be done
# in floats where TFLM lacks a type.
_MOVING: dict[int, tuple[int, ...]] = {
    Operator.EQUAL: (0, 1),
    Operator.GATHER: (0,),
    Operator.GATHER_ND: (0,),
    Operator.LESS: (0, 1),
    Operator.MIRROR_PAD: (0,),
    Operator.NOT_EQUAL: (0, 1),
    Operator.PAD: (0,),
    Operator.REDUCE_MAX: (0,),
    Operator.REDUCE_MIN: (0,),
    Operator.RESIZE_BILINEAR: (0,),
    Operator.RESIZE_NEAREST_NEIGHBOR: (0,),
    Operator.SELECT_V2: (1, 2),
    Operator.TRANSPOSE: (0,),
}
# The types that TFLM lacks, and of which operators.
_LACKED = {
    TensorType.INT16: operators(
        """
        EQUAL GATHER GATHER_ND LESS MIRROR_PAD NOT_EQUAL REDUCE_MAX REDUCE_MIN
        RESIZE_BILINEAR
        """
    ),
    TensorType.BOOL: operators(
        """
        GATHER GATHER_ND MIRROR_PAD PAD REDUCE_MAX REDUCE_MIN RESIZE_NEAREST_NEIGHBOR
        SELECT_V2 TRANSPOSE
        """
    ),
}
_VALID = 1
_MOST_FACTORS = 64
_ACTIVATION = "fused_activation_function"
_SAME_SCALE = 1e-6  # of 32,768 steps none is then off by half a one
# Abramowitz and Stegun, 7.1.26: erfc(z) = p(t) exp(-z z), t = 1 / (1 + 0.3275911 z);
# off by at most 1.5e-7. The highest power comes first.
_ERFC = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERFC_SLOPE = 0.3275911
# The same by the tangent, as operators with `approximate` compute it.
_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


def compose_for_tflm(model: Record) -> list[str]:
    """Replace operators that TFLM lacks, in place; the names of those replaced."""
    replaced = []
    for graph in model["subgraphs"]:
        written: list[Record] = []
        for operator in graph["operators"]:
            code = operator_code(model, operator)
            rule = _RULES.get(code)
            it = Composition(model, graph, operator)
            if rule is not None and rule(it):
                replaced.append(Operator(code).name)
                written += it.operators
            else:
                written.append(operator)
        graph["operators"] = written
    if replaced:
        drop_unused(model)
    return replaced


def _tile(it: Composition) -> bool:
    """Each axis that repeats is one of size 1, which is broadcast."""
    source, multiples = it.call.input(0), it.values(it.call.input(1))
    if multiples is None:
        return False
    repeated = [axis for axis, times in enumerate(multiples) if times > 1]
    shape = it.shape(source)
    for axis in repeated:
        before, after = math.prod(shape[:axis]), math.prod(shape[axis:])
        times = int(multiples[axis])
        row = it.reshape(source, [before, 1, after])
        sizes = it.constant([before, times, after], "<i4")
        wide = it.tensor(source, [before, times, after])
        it.add(Operator.BROADCAST_TO, [row, sizes], wide, None, 3)
        shape[axis] *= times
        last = axis == repeated[-1]
        source = it.reshape(wide, shape, it.call.output if last else -1)
    if not repeated:
        it.reshape(source, shape, it.call.output)
    return True


def _select(it: Composition) -> bool:
    """Of integers: condition * one + (not condition) * other."""
    condition, one, other = it.call.inputs
    output = it.call.output
    choices, is_first = it.shape(condition), it.call.code == Operator.SELECT
    if is_first and len(choices) == 1 and choices != it.shape(one):
        return False  # it chooses between rows
    if it.kind(output) == TensorType.BOOL:
        return _in_floats(it, Operator.SELECT_V2, Record("SelectV2Options"))
    if it.kind(output) != TensorType.INT32:
        if is_first:
            it.add(
                Operator.SELECT_V2, it.call.inputs, output, Record("SelectV2Options")
            )
        return bool(it.operators)
    opposite = it.tensor(condition)
    it.add(Operator.LOGICAL_NOT, [condition], opposite, Record("LogicalNotOptions"))
    parts: list[int] = []
    for mask, values in ((condition, one), (opposite, other)):
        factor = it.tensor(mask, kind=TensorType.INT32)
        _cast(it, mask, factor)
        shape = np.broadcast_shapes(it.shape(mask), it.shape(values))
        product = it.tensor(output, shape)
        parts.append(it.pair(Operator.MUL, factor, values, product))
    it.pair(Operator.ADD, parts[0], parts[1], output)
    return True


def _reduce_max(it: Composition) -> bool:
    """Of int16, the maximum over axes that follow each other, by pooling."""
    source, axes = it.call.input(0), it.values(it.call.input(1))
    if it.kind(source) != TensorType.INT16 or axes is None:
        return _in_floats(it)
    shape = it.shape(source)
    places = sorted({int(axis) % len(shape) for axis in np.atleast_1d(axes)})
    if places != list(range(places[0], places[-1] + 1)):
        return _in_floats(it)
    before, behind = shape[: places[0]], shape[places[-1] + 1 :]
    size = math.prod(shape[axis] for axis in places)
    outer, inner = math.prod(before), math.prod(behind)
    image = it.reshape(source, [outer, size, 1, inner])
    pooled = it.tensor(source, [outer, 1, 1, inner])
    options = Record("Pool2DOptions", padding=_VALID, stride_w=1, stride_h=1)
    options["filter_width"], options["filter_height"] = 1, size
    it.add(Operator.MAX_POOL_2D, [image], pooled, options, 3)
    it.reshape(pooled, it.shape(it.call.output), it.call.output)
    return True


def _expand_dims(it: Composition) -> bool:
    """A new axis of booleans or indices is another shape."""
    if it.kind(it.call.output) not in (TensorType.INT32, TensorType.BOOL):
        return False
    it.reshape(it.call.input(0), it.shape(it.call.output), it.call.output)
    return True


def _in_floats(
    it: Composition, code: Operator | None = None, options: Record | None = None
) -> bool:
    """Make floats of the data, and what comes out into the type that it had.

    It is done by the operator itself, or by another one that is given.
    """
    if code is None:
        code, options = Operator(it.call.code), it.call.options
    kind = it.kind(it.call.input(_MOVING[code][0]))
    if code not in _LACKED.get(kind, ()):
        return False
    inputs = list(it.call.inputs)
    for place in _MOVING[code]:
        inputs[place] = _as_floats(it, inputs[place])
    output = it.call.output
    if it.kind(output) != kind:  # what compares gives booleans already
        it.add(code, inputs, output, options)
        return True
    floats = it.tensor(output, kind=TensorType.FLOAT32)
    it.add(code, inputs, floats, options)
    if kind == TensorType.BOOL:
        _cast(it, floats, output)
    else:
        it.add(Operator.QUANTIZE, [floats], output, Record("QuantizeOptions"), 2)
    return True


def _as_floats(it: Composition, number: int) -> int:
    floats = it.tensor(number, kind=TensorType.FLOAT32)
    if it.kind(number) == TensorType.BOOL:
        return _cast(it, number, floats)
    options = Record("DequantizeOptions")
    return it.add(Operator.DEQUANTIZE, [number], floats, options, 3)


def _cast(it: Composition, number: int, output: int) -> int:
    options = Record("CastOptions", in_data_type=it.kind(number))
    options["out_data_type"] = it.kind(output)
    return it.add(Operator.CAST, [number], output, options)


def _reduce_prod(it: Composition) -> bool:
    """Of floats, along one axis: slice by slice."""
    source, axes = it.call.input(0), it.values(it.call.input(1))
    if axes is None or np.size(axes) != 1 or it.kind(source) != TensorType.FLOAT32:
        return False
    shape = it.shape(source)
    axis = int(np.reshape(axes, -1)[0]) % len(shape)
    if shape[axis] > _MOST_FACTORS:
        return False
    sizes = [1 if place == axis else size for place, size in enumerate(shape)]
    factors = []
    for number in range(shape[axis]):
        begin = [number if place == axis else 0 for place in range(len(shape))]
        ends = [it.constant(values, "<i4") for values in (begin, sizes)]
        part = it.tensor(source, sizes)
        factors.append(
            it.add(Operator.SLICE, [source, *ends], part, Record("SliceOptions"))
        )
    product = functools.reduce(functools.partial(it.pair, Operator.MUL), factors)
    it.reshape(product, it.shape(it.call.output), it.call.output)
    return True


def _reduce_any(it: Composition) -> bool:
    """Some are true where not all are not."""
    source, axes = it.call.inputs
    output, options = it.call.output, Record("LogicalNotOptions")
    opposite, none = it.tensor(source), it.tensor(output)
    it.add(Operator.LOGICAL_NOT, [source], opposite, options)
    it.add(Operator.REDUCE_ALL, [opposite, axes], none, it.call.options)
    it.add(Operator.LOGICAL_NOT, [none], output, options)
    return True


def _relabel(it: Composition) -> bool:
    """A product with one number that leaves the integers as they are.

    So `Rescaling` of pixels is: the same integers, in another scale.
    """
    x, factor = it.call.inputs
    kinds = {it.kind(number) for number in (x, factor, it.call.output)}
    tables = [it.record(n)["quantization"] for n in (x, factor, it.call.output)]
    constant = it.values(factor)
    if kinds - {TensorType.INT8, TensorType.INT16} or len(kinds) > 1:
        return False
    if constant is None or constant.size != 1 or it.call.option(_ACTIVATION):
        return False
    if any(table is None or len(table["scale"]) != 1 for table in tables):
        return False
    (mine, point), (step, zero), (new, same) = (
        (float(t["scale"][0]), int(t["zero_point"][0])) for t in tables
    )
    ratio = mine * step * (float(constant.reshape(-1)[0]) - zero) / new
    if point != same or abs(ratio - 1) > _SAME_SCALE:
        return False
    it.reshape(x, it.shape(it.call.output), it.call.output)
    return True


def _gelu(it: Composition) -> bool:
    if it.kind(it.call.input(0)) != TensorType.FLOAT32:
        return _looked_up(it)
    if it.call.option("approximate"):
        return _gelu_by_tangent(it)
    return _gelu_by_error_function(it)


def _gelu_by_error_function(it: Composition) -> bool:
    """The positive part of x, less |x| erfc(|x| / sqrt(2)) / 2."""
    x = it.call.input(0)
    size, positive = it.tensor(x), it.tensor(x)
    it.add(Operator.ABS, [x], size, Record("AbsOptions"))
    it.add(Operator.RELU, [x], positive)
    one = it.constant(1.0, "<f4")
    slope = it.constant(_ERFC_SLOPE / math.sqrt(2), "<f4")
    divisor = it.pair(Operator.ADD, it.pair(Operator.MUL, size, slope), one)
    t = it.tensor(x)
    ones = it.constant(np.ones([1] * len(it.shape(x))), "<f4")
    it.pair(Operator.DIV, ones, divisor, t)
    sums = it.pair(Operator.MUL, t, it.constant(_ERFC[0] / 2, "<f4"))
    for factor in _ERFC[1:]:
        sums = it.pair(Operator.ADD, sums, it.constant(factor / 2, "<f4"))
        sums = it.pair(Operator.MUL, sums, t)
    square, bell = it.pair(Operator.MUL, x, x), it.tensor(x)
    square = it.pair(Operator.MUL, square, it.constant(-0.5, "<f4"))
    it.add(Operator.EXP, [square], bell, Record("ExpOptions"))
    tail = it.pair(Operator.MUL, it.pair(Operator.MUL, sums, bell), size)
    it.pair(Operator.SUB, positive, tail, it.call.output)
    return True


def _gelu_by_tangent(it: Composition) -> bool:
    """The half of x (1 + tanh(0.798 (x + 0.0447 x^3)))."""
    x, bent = it.call.input(0), it.tensor(it.call.input(0))
    square = it.pair(Operator.MUL, x, x)
    inner = it.pair(Operator.MUL, square, it.constant(_TANH_CUBE, "<f4"))
    inner = it.pair(Operator.ADD, inner, it.constant(1.0, "<f4"))
    inner = it.pair(Operator.MUL, inner, x)
    inner = it.pair(Operator.MUL, inner, it.constant(_TANH_SCALE, "<f4"))
    it.add(Operator.TANH, [inner], bent)
    share = it.pair(Operator.ADD, bent, it.constant(1.0, "<f4"))
    half = it.pair(Operator.MUL, x, it.constant(0.5, "<f4"))
    it.pair(Operator.MUL, half, share, it.call.output)
    return True


def _bounds(lowest: float, highest: float, it: Composition) -> bool:
    if it.kind(it.call.input(0)) != TensorType.FLOAT32:
        return _looked_up(it)
    x, low = it.call.input(0), it.tensor(it.call.input(0))
    options = Record("MaximumMinimumOptions")
    it.add(Operator.MAXIMUM, [x, it.constant(lowest, "<f4")], low, options)
    ends = [low, it.constant(highest, "<f4")]
    it.add(Operator.MINIMUM, ends, it.call.output, options)
    return True


def _looked_up(it: Composition) -> bool:
    """A function of one int8 number, as the table of what LiteRT gives for each."""
    x, output = it.call.input(0), it.call.output
    if it.kind(x) != TensorType.INT8 or it.kind(output) != TensorType.INT8:
        return False
    table = it.constant(_table(it), "i1", like=output)
    wide, place = (it.tensor(x, kind=TensorType.INT32) for _ in range(2))
    _cast(it, x, wide)
    it.pair(Operator.ADD, wide, it.constant(128, "<i4"), place)
    it.add(Operator.GATHER, [table, place], output, Record("GatherOptions"), 2)
    return True


def _table(it: Composition) -> Array:
    """What LiteRT gives for each of the 256 integers."""
    graph, model = Record("SubGraph"), Record("Model", version=3)
    model["subgraphs"], model["buffers"] = [graph], [Record("Buffer")]
    other = Composition.__new__(Composition)
    other.model, other.graph, other.operators = model, graph, []
    for number in (it.call.input(0), it.call.output):
        tensor = it.record(number).copy()
        tensor.drop("buffer", "name")
        tensor["shape"] = np.array([1, 256], "<i4")
        graph["tensors"] = [*graph["tensors"], tensor]
    code, options = Operator(it.call.code), it.call.options
    other.add(code, [0], 1, options, it.version)
    graph["operators"] = other.operators
    graph["inputs"], graph["outputs"] = np.array([0], "<i4"), np.array([1], "<i4")
    content = write_records(model)
    integers = np.arange(-128, 128, dtype="i1")[None]
    with FileExaminer(len(content)) as examiner:
        (run,) = examiner.run(content, [[integers]], f"the operator {code.name}")
    return np.asarray(run.outputs[0]).reshape(-1)


_RULES: dict[int, Callable[[Composition], bool]] = {
    **dict.fromkeys(_MOVING, _in_floats),
    Operator.EXP: _looked_up,
    Operator.EXPAND_DIMS: _expand_dims,
    Operator.GELU: _gelu,
    Operator.LOG: _looked_up,
    Operator.MUL: _relabel,
    Operator.POW: compose_power,
    Operator.REDUCE_ANY: _reduce_any,
    Operator.REDUCE_MAX: _reduce_max,
    Operator.REDUCE_PROD: _reduce_prod,
    Operator.RELU_0_TO_1: functools.partial(_bounds, 0.0, 1.0),
    Operator.RELU_N1_TO_1: functools.partial(_bounds, -1.0, 1.0),
    Operator.SELECT: _select,
    Operator.SELECT_V2: _select,
    Operator.SIGN: _looked_up,
    Operator.SQRT: _looked_up,
    Operator.TILE: _tile,
}
