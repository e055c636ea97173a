"""Shapes become constants, and what running does not need goes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.tflite import tflite_writer as writer

import penjing
from penjing.runtime.trials import Outcome, as_fast
from penjing.tflite import constant_shapes
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_code, operators
from penjing.tflite.records import Record
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once

LAYERS = keras.layers
SHAPE, STRIDED_SLICE, PACK, RESHAPE, DENSE = operators(
    "SHAPE STRIDED_SLICE PACK RESHAPE FULLY_CONNECTED"
)


def codes(model):
    return [operator_code(model, op) for op in model["subgraphs"][0]["operators"]]


def converted(*layers, shape=(6, 6, 2), options=()):
    model = keras.Sequential([keras.Input(shape), *layers])
    content = writer.convert(model, *options)
    return content, load_records(content, "it")


def run(folder, content, x, batch):
    path = folder / "model.tflite"
    path.write_bytes(content)
    return penjing.LiteRTModel(path).predict(x, batch_size=batch)


def check_same(folder, before, after, x, atol=0.0):
    for batch in (1, 3, 8, 200):
        actual, expected = (run(folder, c, x, batch) for c in (after, before))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("options", [(), ("DEFAULT",)])
def test_a_flatten_of_a_free_batch_needs_no_operators(tmp_path, options):
    layers = LAYERS.Conv2D(4, 3), LAYERS.Flatten(), LAYERS.Dense(80), LAYERS.Dense(3)
    before, model = converted(*layers, options=options)
    assert {SHAPE, STRIDED_SLICE, PACK, RESHAPE} <= set(codes(model))
    assert constant_shapes.fold_shapes(model) == "3 operators"
    assert codes(model).count(RESHAPE) == 1
    assert not {SHAPE, STRIDED_SLICE, PACK} & set(codes(model))
    check_same(tmp_path, before, write_records(model), noise(20, 6, 6, 2))
    (edit,) = constant_shapes.flattening_edits(model)
    edit(model)
    assert RESHAPE not in codes(model)
    after = write_records(model)
    assert len(after) < len(before) - 300
    check_same(tmp_path, before, after, noise(20, 6, 6, 2), atol=1e-6)


def operator(model, code):
    operators = model["subgraphs"][0]["operators"]
    return next(op for op in operators if operator_code(model, op) == code)


def test_several_reshapes_go_together_and_only_those():
    """Without the first, the numbers of tensors must still be those of the second."""
    inputs = keras.Input((4, 4, 2))
    ends = []
    for units in (3, 2, 5):
        x = LAYERS.Conv2D(units, 2, activation="relu")(inputs)
        ends.append(LAYERS.Dense(units)(LAYERS.Flatten()(x)))
    content = writer.convert(keras.Model(inputs, ends))
    for order in (1, -1):
        model = load_records(content, "it")
        constant_shapes.fold_shapes(model)
        before = codes(model)
        assert before.count(RESHAPE) == 3
        for edit in constant_shapes.flattening_edits(model)[::order]:
            edit(model)
        assert sorted(codes(model)) == sorted(c for c in before if c != RESHAPE)


def test_reshapes_that_others_read_stay():
    _, model = converted(LAYERS.Flatten(), LAYERS.Softmax(), LAYERS.Dense(3))
    constant_shapes.fold_shapes(model)
    assert constant_shapes.flattening_edits(model) == []
    _, model = converted(LAYERS.Flatten(), LAYERS.Dense(3))
    constant_shapes.fold_shapes(model)
    assert len(constant_shapes.flattening_edits(model)) == 1
    operator(model, DENSE)["builtin_options"]["keep_num_dims"] = 1
    assert constant_shapes.flattening_edits(model) == []


def test_a_shape_of_two_computed_sizes_stays():
    _, model = converted(LAYERS.Flatten(), LAYERS.Dense(3))
    pack = operator(model, PACK)
    pack["inputs"] = pack["inputs"][[0, 0]]
    assert constant_shapes.fold_shapes(model) == "0 operators"
    assert PACK in codes(model)


def test_a_shape_that_is_read_elsewhere_stays_there():
    """Its operators too, for the output of the graph needs them."""
    _, model = converted(LAYERS.Flatten(), LAYERS.Dense(3))
    graph, pack = model["subgraphs"][0], operator(model, PACK)
    graph["outputs"] = np.array([*graph["outputs"], pack["outputs"][0]], "<i4")
    assert constant_shapes.fold_shapes(model) == "0 operators"
    assert {SHAPE, STRIDED_SLICE, PACK} <= set(codes(model))


def test_unread_operators_with_effects_stay():
    """One of a custom kind, of which nothing is known."""
    _, model = converted(LAYERS.Flatten(), LAYERS.Dense(3))
    graph = model["subgraphs"][0]
    model["operator_codes"] = [
        *model["operator_codes"],
        Record("OperatorCode", builtin_code=Operator.CUSTOM, custom_code=b"Theirs"),
    ]
    graph["tensors"] = [*graph["tensors"], Record("Tensor")]
    custom = Record(
        "Operator",
        opcode_index=len(model["operator_codes"]) - 1,
        inputs=graph["inputs"],
        outputs=np.array([len(graph["tensors"]) - 1], "<i4"),
    )
    graph["operators"] = [*graph["operators"], custom]
    constant_shapes.fold_shapes(model)
    assert codes(model).count(Operator.CUSTOM) == 1


def test_equal_constants_become_one(tmp_path):
    layers = LAYERS.Reshape((4, 1)), LAYERS.ReLU(), LAYERS.Reshape((4,)), LAYERS.ReLU()
    before, model = converted(*layers * 2, shape=(4,))
    constant_shapes.fold_shapes(model)
    count = len(model["subgraphs"][0]["tensors"])
    constant_shapes.share_constants(model)
    assert len(model["subgraphs"][0]["tensors"]) == count - 2
    check_same(tmp_path, before, write_records(model), noise(9, 4))


def test_only_inputs_and_outputs_say_what_is_free(tmp_path):
    before, model = converted(LAYERS.Conv2D(4, 3), LAYERS.Flatten(), LAYERS.Dense(3))
    constant_shapes.drop_inner_signatures(model)
    found = [
        number
        for number, tensor in enumerate(model["subgraphs"][0]["tensors"])
        if len(tensor["shape_signature"])
    ]
    graph = model["subgraphs"][0]
    assert found == sorted(map(int, (*graph["inputs"], *graph["outputs"])))
    check_same(tmp_path, before, write_records(model), noise(20, 6, 6, 2))


def test_as_fast_is_what_leaves_no_more_to_plain_kernels():
    def outcome(parts, left):
        description = {"delegated": parts, "left_over": left}
        return Outcome(description=description, outputs=[])

    before = outcome([[3, 1], [3, 1]], ["PACK", "RESHAPE", "SHAPE"])
    assert as_fast(outcome([[6, 1]], []), before)
    assert as_fast(outcome([[3, 1], [3, 1]], ["PACK"]), before)
    assert as_fast(outcome([[4, 1], [3, 1]], ["PACK", "SHAPE"]), before)
    assert not as_fast(outcome([[3, 1]], ["FULLY_CONNECTED"]), before)
    assert not as_fast(outcome([[4, 1]], ["SHAPE", "SHAPE"]), before)
    assert not as_fast(outcome([[4, 1]] * 3, []), before)


def test_the_whole_step_leaves_one_part_to_the_delegate(tmp_path):
    """And a file that runs on any batch."""
    before, _ = converted(LAYERS.Conv2D(4, 3), LAYERS.Flatten(), LAYERS.Dense(3))
    path, out = tmp_path / "before.tflite", tmp_path / "out.tflite"
    path.write_bytes(before)
    report = penjing.shrink_litert(path, out)
    won = {step.name: step for step in report.steps}
    assert won["constant shapes"].note == "3 operators"
    assert won["constant shapes"].gzip > 100 and won["flattening"].gzip > 30
    check_same(tmp_path, before, out.read_bytes(), noise(20, 6, 6, 2), atol=1e-5)
    assert penjing.LiteRTModel(out).outputs[0].shape == (-1, 3)
