"""Operators that stand in no larger file, each in a small one."""

from __future__ import annotations

import numpy as np
import pytest
from tests.rebuilding.test_operator_rules import many_operators
from tests.specializing.graphs import Graph

import penjing
from penjing.rebuilding.rules.operator_rules import RULES
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record

RNG = np.random.default_rng(0)
Op = Operator
SHAPE = [1, 4, 6]


class Sheet(Graph):
    """A graph of one input of floats, each of whose operators gives an output."""

    def __init__(self, shape=SHAPE, kind="f4", free=True):
        super().__init__()
        self.x = self.tensor(shape, kind, free=free)
        self.shape, self.made = shape, []

    def put(self, code, inputs, shape=None, options=None, kind="f4", **fields):
        """Add an operator whose output is one of the file."""
        made = self.tensor(self.shape if shape is None else shape, kind)
        record = Record(options, **fields) if options else None
        self.made.append(self.add(code, inputs, made, record, fields.pop("version", 1)))
        return made

    def parts(self, code, inputs, shapes, options, **fields):
        """Add an operator of several outputs."""
        made = [self.tensor(shape) for shape in shapes]
        self.add(code, inputs, made[0], Record(options, **fields))
        self.graph["operators"][-1]["outputs"] = np.array(made, "<i4")
        self.made += made

    def whole(self, values):
        return self.constant(values, "i4")

    def file(self):
        return self.content([self.x], self.made)


def comparisons():
    sheet = Sheet()
    x, middle = sheet.x, sheet.constant(0.25)
    for code in (Op.EQUAL, Op.NOT_EQUAL, Op.GREATER, Op.GREATER_EQUAL, Op.LESS):
        sheet.put(code, [x, middle], kind="?")
    less = sheet.put(Op.LESS_EQUAL, [x, middle], kind="?")
    more = sheet.put(Op.GREATER, [x, sheet.constant(-0.5)], kind="?")
    for code in (Op.LOGICAL_AND, Op.LOGICAL_OR):
        sheet.put(code, [less, more], kind="?")
    sheet.put(Op.LOGICAL_NOT, [less], kind="?")
    sheet.put(Op.CAST, [less], options="CastOptions", in_data_type=6)
    square = sheet.put(Op.SQUARE, [x])
    sheet.put(Op.SELECT, [less, x, square])
    sheet.put(Op.SELECT_V2, [less, x, sheet.constant(1.0)])
    axes = sheet.whole([2])
    for code in (Op.REDUCE_ANY, Op.REDUCE_ALL):
        sheet.put(code, [less, axes], [1, 4], "ReducerOptions", kind="?")
    return sheet.file()


def arithmetic():
    sheet = Sheet()
    x = sheet.x
    positive = sheet.put(Op.ABS, [x])
    sheet.put(Op.POW, [positive, sheet.constant(1.5)])
    sheet.put(Op.FLOOR_DIV, [x, sheet.constant(0.3)])
    sheet.put(Op.FLOOR_MOD, [x, sheet.constant(0.75)])
    own = sheet.constant(RNG.normal(size=SHAPE))
    sheet.put(Op.ADD_N, [x, positive, x])
    sheet.put(Op.ADD_N, [x, positive])
    sheet.put(Op.ADD_N, [x, own])
    for code in (Op.CEIL, Op.ROUND, Op.SIGN, Op.ZEROS_LIKE, Op.LOG, Op.RSQRT):
        sheet.put(code, [positive if code in (Op.LOG, Op.RSQRT) else x])
    return sheet.file()


def integers():
    sheet = Sheet(kind="i4")
    numbers = sheet.put(Op.ADD, [sheet.x, sheet.whole(3)], None, "AddOptions", "i4")
    for code in (Op.SUB, Op.MUL, Op.MAXIMUM, Op.FLOOR_DIV, Op.FLOOR_MOD):
        sheet.put(code, [numbers, sheet.whole(2)], kind="i4")
    sheet.put(Op.CAST, [numbers], options="CastOptions", in_data_type=2)
    table = sheet.constant(RNG.normal(size=(3, 5)))
    sheet.put(Op.GATHER, [table, sheet.x], [*SHAPE, 5], "GatherOptions")
    return sheet.file()


def reductions():
    sheet = Sheet()
    axes = sheet.whole([1])
    for code in (Op.REDUCE_MIN, Op.REDUCE_PROD):
        sheet.put(code, [sheet.x, axes], [1, 6], "ReducerOptions")
    axis = sheet.whole(2)
    for code, kind in ((Op.ARG_MAX, "ArgMaxOptions"), (Op.ARG_MIN, "ArgMinOptions")):
        sheet.put(code, [sheet.x, axis], [1, 4], kind, "i4", output_type=2)
    sheet.put(Op.CUMSUM, [sheet.x, axis], None, "CumsumOptions")
    return sheet.file()


def shapes():
    sheet = Sheet()
    x = sheet.x
    halves = [[1, 4, 3]] * 2
    sheet.parts(Op.SPLIT, [sheet.whole(2), x], halves, "SplitOptions", num_splits=2)
    sizes, axis = sheet.whole([2, 4]), sheet.whole(2)
    uneven = [[1, 4, 2], [1, 4, 4]]
    sheet.parts(Op.SPLIT_V, [x, sizes, axis], uneven, "SplitVOptions", num_splits=2)
    rows = [[1, 6]] * 4
    sheet.parts(Op.UNPACK, [x], rows, "UnpackOptions", num=4, axis=1)
    fields = {"values_count": 2, "axis": 1}
    sheet.put(Op.PACK, [x, x], [1, 2, 4, 6], "PackOptions", **fields)
    sheet.put(Op.TILE, [x, sheet.whole([1, 2, 1])], [1, 8, 6])
    sheet.put(Op.REVERSE_V2, [x, sheet.whole([2])])
    widths = sheet.whole([[0, 0], [1, 0], [0, 2]])
    sheet.put(Op.PADV2, [x, widths, sheet.constant(0.5)], [1, 5, 8], "PadV2Options")
    wide = sheet.put(
        Op.EXPAND_DIMS, [x, sheet.whole(1)], [1, 1, 4, 6], "ExpandDimsOptions"
    )
    sheet.put(Op.SQUEEZE, [wide], None, "SqueezeOptions", squeeze_dims=[1])
    ends = [sheet.whole(n) for n in ([0, 3, 5], [1, -5, -7], [1, -1, -2])]
    sheet.put(Op.STRIDED_SLICE, [x, *ends], [1, 4, 3], "StridedSliceOptions")
    return sheet.file()


def volumes():
    sheet = Sheet([1, 3, 4, 4, 2])
    kernel = sheet.constant(RNG.normal(size=(2, 3, 3, 2, 5)))
    bias = sheet.constant(RNG.normal(size=5))
    fields = {f"stride_{axis}": 1 for axis in "dhw"}
    options = "Conv3DOptions"
    shape = [1, 3, 4, 4, 5]
    sheet.put(Op.CONV_3D, [sheet.x, kernel, bias], shape, options, **fields)
    return sheet.file()


def grids():
    sheet = Sheet()
    small = sheet.tensor(SHAPE, "i1", scale=0.02, zero_point=3)
    sheet.add(Op.QUANTIZE, [sheet.x], small, Record("QuantizeOptions"))
    sheet.put(Op.DEQUANTIZE, [small], options="DequantizeOptions")
    matrix = sheet.constant(RNG.normal(size=(5, 6)))
    kind, fields = "FullyConnectedOptions", {"keep_num_dims": True}
    sheet.put(Op.FULLY_CONNECTED, [sheet.x, matrix, -1], [1, 4, 5], kind, **fields)
    return sheet.file()


SHEETS = [comparisons, arithmetic, integers, reductions, shapes, volumes, grids]


@pytest.mark.parametrize("make", SHEETS)
def test_operators_give_what_litert_gives(make, tmp_path):
    path = tmp_path / "sheet.tflite"
    path.write_bytes(make())
    model = penjing.load_litert(path)
    assert model.inputs[0].shape[0] is None


@pytest.mark.once
def test_each_operator_of_the_page_is_tried():
    found = set()
    for content in (many_operators()[0], *(make() for make in SHEETS)):
        model = load_records(content, "file")
        operators = model["subgraphs"][0]["operators"]
        found |= {operator_code(model, operator) for operator in operators}
    assert not [code.name for code in RULES if code not in found]


@pytest.mark.once
@pytest.mark.parametrize("code", [Op.DIV, Op.MEAN])
def test_whole_numbers_that_are_cut_off_are_refused(code, tmp_path):
    sheet = Sheet(kind="i4")
    kind, shape = (
        ("DivOptions", SHAPE) if code == Op.DIV else ("ReducerOptions", [1, 6])
    )
    other = sheet.whole(2) if code == Op.DIV else sheet.whole([1])
    sheet.put(code, [sheet.x, other], shape, kind, "i4")
    path = tmp_path / "cut.tflite"
    path.write_bytes(sheet.file())
    with pytest.raises(penjing.UnsupportedModelError, match="which LiteRT|whose rest"):
        penjing.load_litert(path)


def test_a_vector_of_conditions_selects_rows(tmp_path):
    sheet = Sheet([4, 4], free=False)
    rows = sheet.constant([True, False, False, True], "?")
    sheet.put(Op.SELECT, [rows, sheet.x, sheet.constant(np.zeros((4, 4)))])
    path = tmp_path / "rows.tflite"
    path.write_bytes(sheet.file())
    with pytest.warns(penjing.CompressionWarning, match="batch_size=4"):
        model = penjing.load_litert(path)
    given = np.asarray(model(np.ones((4, 4), "f4")))
    np.testing.assert_array_equal(given[:, 0], [1, 0, 0, 1])


def test_a_mean_of_a_single_number_is_that_number(tmp_path):
    sheet = Sheet([1, 4])
    total = sheet.tensor([])
    sheet.add(Op.SUM, [sheet.x, sheet.whole([0, 1])], total, Record("ReducerOptions"))
    sheet.put(Op.MEAN, [total, sheet.whole([])], [], "ReducerOptions")
    path = tmp_path / "one.tflite"
    path.write_bytes(sheet.file())
    with pytest.warns(penjing.CompressionWarning, match="batch_size=1"):
        model = penjing.load_litert(path)
    assert float(model(np.ones((1, 4), "f4"))) == 4.0
