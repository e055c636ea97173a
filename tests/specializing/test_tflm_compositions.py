"""What takes the place of operators that TFLM lacks gives the same there and here."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from tests.specializing.graphs import Graph

from penjing.errors import ExportError
from penjing.runtime.reference_runner import OPTIMIZED, REFERENCE
from penjing.runtime.tensor_values import FileExaminer
from penjing.runtime.tflm import TflmRunner, has_tflm
from penjing.specializing.micro_file import fit_for_tflm
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_name
from penjing.tflite.records import Record

pytestmark = pytest.mark.once

VALID = 1
NO_CROPS = [[0, 0], [0, 0]]
GENERATOR = np.random.default_rng(0)
STEPS = {"i1": {"scale": 0.05, "zero_point": -20}, "i2": {"scale": 0.001}, "f4": {}}
STEPS |= {"i4": {}, "?": {}}


def names(content):
    model = load_records(content, "it")
    return [operator_name(model, op) for op in model["subgraphs"][0]["operators"]]


def values(shape, kind):
    if kind == "f4":
        return GENERATOR.normal(size=shape).astype("f4")
    low, high = {"i1": (-128, 128), "i2": (-9999, 9999), "i4": (0, 9), "?": (0, 2)}[
        kind
    ]
    return GENERATOR.integers(low, high, shape).astype(kind)


def one_operator(code, kind, inputs, output, options=None, *, version=3, kinds=None):
    """A file of one operator: `inputs` are shapes, or constants of sizes."""
    it = Graph()
    kinds = kinds or [kind] * len(inputs)
    numbers = [
        it.constant(item, "i4")
        if isinstance(item, np.ndarray)
        else it.tensor(item, k, **STEPS[k])
        for item, k in zip(inputs, kinds, strict=True)
    ]
    given = [
        n for n, i in zip(numbers, inputs, strict=True) if not isinstance(i, np.ndarray)
    ]
    y = it.tensor(output, kind, **STEPS[kind])
    it.add(code, numbers, y, options and Record(*options[:1], **options[1]), version)
    shapes = [i for i in inputs if not isinstance(i, np.ndarray)]
    types = [
        k for i, k in zip(inputs, kinds, strict=True) if not isinstance(i, np.ndarray)
    ]
    return it.content(given, [y]), [
        values(*pair) for pair in zip(shapes, types, strict=True)
    ]


def sizes(*numbers):
    return np.array(numbers, "<i4")


IMAGE = (1, 4, 4, 2)
REDUCED = ("ReducerOptions", {"keep_dims": True})
HALF = ("ResizeBilinearOptions", {"half_pixel_centers": True})
one = functools.partial
SELECTED_INDICES = one(
    one_operator, Operator.SELECT_V2, "i4", version=1, kinds=["?", "i4", "i4"]
)
CASES = {
    "TILE": one(
        one_operator, Operator.TILE, "i1", [(1, 2, 3), sizes(1, 3, 2)], (1, 6, 6)
    ),
    "TILE of floats": one(
        one_operator, Operator.TILE, "f4", [(2, 3), sizes(2, 1)], (4, 3)
    ),
    "TILE that repeats nothing": one(
        one_operator, Operator.TILE, "i2", [(2, 3), sizes(1, 1)], (2, 3)
    ),
    "GELU": one(one_operator, Operator.GELU, "i1", [(1, 300)], (1, 300), version=2),
    "GELU of floats": one(
        one_operator, Operator.GELU, "f4", [(1, 300)], (1, 300), version=1
    ),
    "GELU by tanh": one(
        one_operator,
        Operator.GELU,
        "f4",
        [(2, 30)],
        (2, 30),
        ("GeluOptions", {"approximate": True}),
        version=1,
    ),
    "REDUCE_MAX of int16": one(
        one_operator,
        Operator.REDUCE_MAX,
        "i2",
        [IMAGE, sizes(1, 2)],
        (1, 1, 1, 2),
        REDUCED,
    ),
    "REDUCE_MAX of the first and the last axis": one(
        one_operator,
        Operator.REDUCE_MAX,
        "i2",
        [IMAGE, sizes(0, 3)],
        (1, 4, 4, 1),
        REDUCED,
    ),
    "REDUCE_PROD": one(
        one_operator,
        Operator.REDUCE_PROD,
        "f4",
        [(2, 5), sizes(1)],
        (2, 1),
        REDUCED,
        version=1,
    ),
    "REDUCE_ANY": one(
        one_operator,
        Operator.REDUCE_ANY,
        "?",
        [(2, 5), sizes(1)],
        (2, 1),
        REDUCED,
        version=1,
    ),
    "SELECT_V2 of indices": one(
        SELECTED_INDICES,
        [(1, 5), (1, 5), (1, 5)],
        (1, 5),
    ),
    "SELECT_V2 of indices and one number": one(
        SELECTED_INDICES,
        [(1, 1), np.array(7, "<i4"), (1, 8)],
        (1, 8),
    ),
    "SELECT_V2 of a column and a row": one(
        SELECTED_INDICES,
        [(2, 3, 1), (2, 1, 4), (2, 1, 1)],
        (2, 3, 4),
    ),
    "SELECT of booleans": one(
        one_operator,
        Operator.SELECT,
        "?",
        [(1, 5), (1, 5), (1, 5)],
        (1, 5),
        ("SelectOptions", {}),
        version=1,
    ),
    "RESIZE_BILINEAR of int16": one(
        one_operator,
        Operator.RESIZE_BILINEAR,
        "i2",
        [IMAGE, sizes(8, 8)],
        (1, 8, 8, 2),
        HALF,
    ),
    "GATHER of int16": one(
        one_operator,
        Operator.GATHER,
        "i2",
        [(3, 2), sizes(2, 0)],
        (2, 2),
        ("GatherOptions", {}),
    ),
    "TRANSPOSE of booleans": one(
        one_operator, Operator.TRANSPOSE, "?", [(2, 5), sizes(1, 0)], (5, 2), version=2
    ),
    "EXPAND_DIMS of booleans": one(
        one_operator,
        Operator.EXPAND_DIMS,
        "?",
        [(2, 5), sizes(1)],
        (2, 1, 5),
        version=1,
    ),
    "RELU_0_TO_1": one(
        one_operator, Operator.RELU_0_TO_1, "f4", [(2, 5)], (2, 5), version=1
    ),
    "SIGN": one(one_operator, Operator.SIGN, "f4", [(2, 5)], (2, 5), version=1),
}


@pytest.fixture(scope="module")
def examiner():
    with FileExaminer(2**20) as examiner:
        yield examiner


@pytest.fixture(scope="module")
def runner():
    if not has_tflm():
        yield None
        return
    with TflmRunner() as runner:
        yield runner


def check(content, arrays, examiner, runner, replaced):
    """What it was gives what it becomes, in LiteRT and in TFLM."""
    file = EditedFile(content, "it")
    fit_for_tflm(file)
    assert replaced not in names(file.content)
    # Reference kernels round as TFLM does; they do not know TILE and the like.
    kernels = REFERENCE if replaced == "SPACE_TO_BATCH_ND" else OPTIMIZED
    (before,) = examiner.run(content, [arrays], "before", kernels=kernels)
    (after,) = examiner.run(file.content, [arrays], "after", kernels=kernels)
    outputs = [after.outputs]
    if runner is not None:
        outputs += runner.run(file.content, [arrays]).outputs
    steps = 1 if before.outputs[0].dtype == np.int16 else 0
    for found in outputs:
        for mine, other in zip(found, before.outputs, strict=True):
            assert mine.dtype == other.dtype
            tolerance = 1e-5 if mine.dtype.kind == "f" else steps
            np.testing.assert_allclose(
                np.asarray(mine, "f8").reshape(-1),
                np.asarray(other, "f8").reshape(-1),
                rtol=0,
                atol=tolerance,
            )
    return file.content


@pytest.mark.parametrize("name", [name for name in CASES if name != "SIGN"])
def test_a_composition_gives_the_same(name, examiner, runner):
    content, arrays = CASES[name]()
    stays = {"RESIZE_BILINEAR", "GATHER", "TRANSPOSE"} & {name.split()[0]}
    stays |= {"REDUCE_MAX"} if name.startswith("REDUCE_MAX of the") else set()
    check(content, arrays, examiner, runner, "none" if stays else name.split()[0])


@pytest.mark.parametrize(
    "power", [3.0, 0.0, 1.0, 9.0, 10.0, 4.0, -1.0, -3.0, 1.5, -0.5]
)
def test_powers_are_products_or_go_by_the_logarithm(power, examiner, runner):
    it = Graph()
    x = it.tensor([2, 5])
    y = it.add(
        Operator.POW,
        [x, it.constant([power])],
        it.tensor([2, 5]),
        Record("PowOptions"),
    )
    arrays = [values((2, 5), "f4")]
    if not power.is_integer():
        arrays = [np.abs(arrays[0]) + 0.1]
    elif power < 0:
        arrays = [arrays[0] + np.copysign(0.5, arrays[0])]
    check(it.content([x], [y]), arrays, examiner, runner, "POW")


@pytest.mark.parametrize(("scale", "found"), [(0.1, "RESHAPE"), (0.11, "MUL")])
def test_a_product_that_leaves_the_integers_alone_is_another_scale(
    scale, found, examiner, runner
):
    it = Graph()
    x = it.tensor([2, 5], "i1", scale=0.05, zero_point=-20)
    two = it.constant(100, "i1", scale=0.02)
    y = it.tensor([2, 5], "i1", scale=scale, zero_point=-20)
    it.add(Operator.MUL, [x, two], y, Record("MulOptions"), 2)
    arrays = [values((2, 5), "i1")]
    content = it.content([x], [y])
    assert names(check(content, arrays, examiner, runner, "none")) == [found]


def test_what_has_no_composition_is_named(examiner):
    content, _ = CASES["SIGN"]()
    with pytest.raises(ExportError, match=r"SIGN \(which gives `tensor_1`\)"):
        fit_for_tflm(EditedFile(content, "it"))


def dilated(kind, pads, crops, size, out, block=(2, 3), kernel=3):
    """SPACE_TO_BATCH_ND, a convolution of the pieces, BATCH_TO_SPACE_ND."""
    it = Graph()
    blocks, image = np.prod(block), (1, *size, 2)
    x = it.tensor(image, kind, **STEPS[kind])
    padded = np.array(size) + np.sum(pads, 1)
    pieces = (blocks, *(padded // np.array(block)), 2)
    cut = it.tensor(pieces, kind, **STEPS[kind])
    inputs = [x, it.constant(sizes(*block), "i4"), it.constant(pads, "i4")]
    it.add(Operator.SPACE_TO_BATCH_ND, inputs, cut, None, 3)
    window = (kernel,) * len(size)
    window = window if len(size) == 2 else (1, kernel)
    quantized = kind != "f4"
    weight_kind, steps = ("i1", {"scale": 0.01}) if quantized else ("f4", {})
    w = it.constant(values((2, *window, 2), weight_kind), weight_kind, **steps)
    bias_kind = {"f4": "f4", "i1": "i4", "i2": "i8"}[kind]
    if quantized:
        steps = {"scale": STEPS[kind]["scale"] * 0.01}
    b = it.constant([3, -5], bias_kind, **steps)
    small = [pieces[1] - kernel + 1, *(n - kernel + 1 for n in pieces[2:-1])]
    options = Record("Conv2DOptions", padding=VALID, stride_w=1, stride_h=1)
    source, results = cut, (blocks, *small, 2)
    if len(size) == 1:
        source = it.tensor((pieces[0], 1, *pieces[1:]), kind, **STEPS[kind])
        it.add(Operator.EXPAND_DIMS, [cut, it.constant(1, "i4")], source)
        results = (blocks, 1, *small, 2)
    given = it.tensor(results, kind, **STEPS[kind])
    it.add(Operator.CONV_2D, [source, w, b], given, options, 3)
    if len(size) == 1:
        shape = (blocks, *small, 2)
        flat = it.tensor(shape, kind, **STEPS[kind])
        given = it.add(
            Operator.RESHAPE, [given, it.constant(sizes(*shape), "i4")], flat
        )
    y = it.tensor((1, *out, 2), kind, **STEPS[kind])
    inputs = [given, it.constant(sizes(*block), "i4"), it.constant(crops, "i4")]
    it.add(Operator.BATCH_TO_SPACE_ND, inputs, y, None, 3)
    return it.content([x], [y]), [values(image, kind)]


@pytest.mark.parametrize("kind", ["f4", "i1", "i2"])
@pytest.mark.parametrize(
    ("pads", "crops", "size", "out", "block", "operators"),
    [
        ([[2, 2], [3, 3]], NO_CROPS, (8, 9), (8, 9), (2, 3), "CONV_2D"),
        ([[0, 0], [0, 0]], NO_CROPS, (8, 9), (4, 3), (2, 3), "CONV_2D"),
        ([[0, 1], [0, 2]], [[0, 1], [0, 2]], (7, 10), (3, 4), (2, 3), "CONV_2D"),
        ([[4, 0], [6, 0]], NO_CROPS, (8, 9), (8, 9), (2, 3), "PAD CONV_2D"),
        ([[4, 0]], [[0, 0]], (8,), (8,), (2,), "RESHAPE PAD CONV_2D RESHAPE"),
    ],
)
def test_a_dilated_convolution_is_one_operator(
    kind, pads, crops, size, out, block, operators, examiner, runner
):
    content, arrays = dilated(kind, pads, crops, size, out, block)
    changed = check(content, arrays, examiner, runner, "SPACE_TO_BATCH_ND")
    assert names(changed) == operators.split()
