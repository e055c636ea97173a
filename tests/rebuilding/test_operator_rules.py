"""Each rule gives what LiteRT gives: `load_litert` itself compares them."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from tests.specializing.graphs import Graph

import penjing
from penjing.rebuilding.rules.operator_rules import RULES
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
Op = Operator


def many_operators():
    """A file of one input, in which each operator gives an output of its own."""
    graph = Graph()
    x = graph.tensor([1, 4, 4, 2], free=True)
    positive = graph.add(Op.ABS, [x], graph.tensor([1, 4, 4, 2]))
    outputs = []

    def add(code, inputs, shape, options=None, **fields):
        made = graph.tensor(shape)
        record = Record(options, **fields) if options else None
        outputs.append(graph.add(code, inputs, made, record))
        return made

    def whole(values):
        return graph.constant(values, "i4")

    same = [1, 4, 4, 2]
    vector = graph.constant([0.5, -2.0])
    picture = graph.constant(RNG.normal(size=same))
    for code in (
        Op.EXP,
        Op.NEG,
        Op.SIN,
        Op.COS,
        Op.FLOOR,
        Op.SQUARE,
        Op.ELU,
        Op.LOGISTIC,
    ):
        add(code, [x], same)
    for code in (Op.TANH, Op.RELU, Op.RELU6, Op.RELU_N1_TO_1, Op.HARD_SWISH):
        add(code, [x], same)
    add(Op.SQRT, [positive], same)
    add(Op.LEAKY_RELU, [x], same, "LeakyReluOptions", alpha=0.2)
    add(Op.PRELU, [x, graph.constant(np.reshape([0.1, 0.3], (1, 1, 2)))], same)
    add(Op.GELU, [x], same, "GeluOptions", approximate=True)
    for code in (Op.ADD, Op.SUB, Op.MUL, Op.DIV):
        kind = f"{code.name.capitalize()}Options"
        add(code, [x, vector], same, kind)
        add(code, [picture, x], same, kind, fused_activation_function=1)
        add(code, [x, positive], same, kind, fused_activation_function=3)
    for code in (Op.MAXIMUM, Op.MINIMUM):
        add(code, [x, positive], same, "MaximumMinimumOptions")
    add(Op.SQUARED_DIFFERENCE, [x, positive], same, "SquaredDifferenceOptions")
    add(Op.CONCATENATION, [x, picture], [1, 4, 4, 4], "ConcatenationOptions", axis=-1)
    add(Op.CONCATENATION, [x, x], [1, 8, 4, 2], "ConcatenationOptions", axis=1)
    for code, kind in ((Op.MEAN, 1), (Op.SUM, 0), (Op.REDUCE_MAX, 1)):
        add(code, [x, whole([1, 2])], [1, 2], "ReducerOptions")
        shape = [1, 4, 4, 1] if kind else [1, 4, 4]
        keep = {"keep_dims": True} if kind else {}
        add(code, [x, whole([3])], shape, "ReducerOptions", **keep)
    flat = add(Op.RESHAPE, [x, whole([1, 32])], [1, 32], "ReshapeOptions")
    add(Op.RESHAPE, [flat, whole([1, 2, 16])], [1, 2, 16], "ReshapeOptions")
    add(Op.EXPAND_DIMS, [flat, whole([1])], [1, 1, 32], "ExpandDimsOptions")
    add(Op.SOFTMAX, [flat], [1, 32], "SoftmaxOptions", beta=2.0)
    add(Op.LOG_SOFTMAX, [flat], [1, 32], "LogSoftmaxOptions")
    add(Op.L2_NORMALIZATION, [flat], [1, 32], "L2NormOptions")
    add(Op.TRANSPOSE, [x, whole([0, 3, 1, 2])], [1, 2, 4, 4], "TransposeOptions")
    widths = [[0, 0], [1, 0], [0, 2], [0, 0]]
    add(Op.PAD, [x, whole(widths)], [1, 5, 6, 2], "PadOptions")
    widths = [[0, 0], [0, 0], [0, 0], [1, 2]]
    add(Op.PAD, [x, whole(widths)], [1, 4, 4, 5], "PadOptions")
    widths = [[0, 0], [1, 1], [2, 0], [0, 0]]
    add(Op.MIRROR_PAD, [x, whole(widths)], [1, 6, 6, 2], "MirrorPadOptions", mode=1)
    places = [whole([0, 1, 0, 0]), whole([1, 3, 4, 1]), whole([1, 1, 2, 1])]
    add(
        Op.STRIDED_SLICE,
        [x, *places],
        [1, 2, 2],
        "StridedSliceOptions",
        shrink_axis_mask=8,
    )
    add(Op.SLICE, [x, whole([0, 1, 0, 0]), whole([-1, 2, -1, 1])], [1, 2, 4, 1])
    add(Op.GATHER, [x, whole([1, 0])], same, "GatherOptions", axis=3)
    pool = {"stride_w": 2, "stride_h": 2, "filter_width": 3, "filter_height": 3}
    for code in (Op.AVERAGE_POOL_2D, Op.MAX_POOL_2D):
        add(code, [x], [1, 2, 2, 2], "Pool2DOptions", **pool)
        add(code, [x], [1, 1, 1, 2], "Pool2DOptions", padding=1, **pool)
    for corners, half in ((0, 0), (1, 0), (0, 1)):
        for size in (8, 7):
            kind = "ResizeBilinearOptions"
            fields = {"align_corners": corners, "half_pixel_centers": half}
            shape = [1, size, size, 2]
            add(Op.RESIZE_BILINEAR, [x, whole([size] * 2)], shape, kind, **fields)
            kind = "ResizeNearestNeighborOptions"
            code = Op.RESIZE_NEAREST_NEIGHBOR
            add(code, [x, whole([size] * 2)], shape, kind, **fields)
    add(
        Op.DEPTH_TO_SPACE,
        [pad_to(graph, x)],
        [1, 8, 8, 1],
        "DepthToSpaceOptions",
        block_size=2,
    )
    add(Op.SPACE_TO_DEPTH, [x], [1, 2, 2, 8], "SpaceToDepthOptions", block_size=2)
    add(Op.BATCH_MATMUL, [x, x], [1, 4, 4, 4], "BatchMatMulOptions", adj_y=True)
    matrix = graph.constant(RNG.normal(size=(2, 3)))
    add(Op.BATCH_MATMUL, [x, matrix], [1, 4, 4, 3], "BatchMatMulOptions")
    kernel = graph.constant(RNG.normal(size=(3, 2, 2, 2)))
    shape = whole([1, 8, 8, 3])
    fields = {"stride_w": 2, "stride_h": 2}
    options = "TransposeConvOptions"
    add(Op.TRANSPOSE_CONV, [shape, kernel, x], [1, 8, 8, 3], options, **fields)
    kernel = graph.constant(RNG.normal(size=(4, 3, 3, 1)))
    fields |= {"dilation_w_factor": 1, "stride_w": 1, "stride_h": 1}
    bias = graph.constant(RNG.normal(size=4))
    add(Op.CONV_2D, [x, kernel, bias], same[:3] + [4], "Conv2DOptions", **fields)
    kernel = graph.constant(RNG.normal(size=(1, 3, 3, 4)))
    fields |= {"depth_multiplier": 2, "fused_activation_function": 2}
    inputs = [x, kernel, bias]
    add(
        Op.DEPTHWISE_CONV_2D, inputs, same[:3] + [4], "DepthwiseConv2DOptions", **fields
    )
    return graph.content([x], outputs), len(outputs)


def pad_to(graph, x):
    """Two channels more."""
    widths = graph.constant([[0, 0], [0, 0], [0, 0], [1, 1]], "i4")
    return graph.add(
        Op.PAD, [x, widths], graph.tensor([1, 4, 4, 4]), Record("PadOptions")
    )


@pytest.mark.costly_on_jax  # it compiles some hundred operations one by one
def test_rules_give_what_litert_gives_and_survive_saving(tmp_path):
    content, count = many_operators()
    path = tmp_path / "many.tflite"
    path.write_bytes(content)
    model = penjing.load_litert(path)
    assert len(model.outputs) == count
    assert model.input_shape == (None, 4, 4, 2)
    model.save(tmp_path / "many.keras")
    again = keras.saving.load_model(tmp_path / "many.keras")
    x = RNG.normal(size=(3, 4, 4, 2)).astype("f4")
    for mine, other in zip(again(x), model(x), strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (mine, other)))


@pytest.mark.once
def test_the_page_lists_the_operators_that_have_rules():
    page = (ROOT / "docs" / "load-litert.md").read_text("utf-8")
    section = page.partition("## Operators")[2].partition("## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    listed = re.findall(r"\b[A-Z][A-Z0-9_]+\b", " ".join(rows))
    assert sorted(listed) == sorted(code.name for code in RULES)
