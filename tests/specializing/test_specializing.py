"""Files of free sizes become files of a batch of 1 that compute the same."""

from __future__ import annotations

import numpy as np
import pytest
from tests.specializing.graphs import Graph

import penjing
from penjing.errors import FileFormatError
from penjing.specializing.specializing import specialize
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_name
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, all_tensors, is_plain, values_of

pytestmark = pytest.mark.once


def names(content):
    model = load_records(content, "it")
    return [operator_name(model, op) for op in model["subgraphs"][0]["operators"]]


def shape_of(it, x, rank):
    options = Record("ShapeOptions", out_type=TensorType.INT32)
    return it.add(Operator.SHAPE, [x], it.tensor([rank], "i4"), options)


def flattening(free=True):
    """Any batch of (2, 3) to rows of 6, as converters write it, times 2."""
    it = Graph()
    x = it.tensor([1, 2, 3], free=free)
    shape = shape_of(it, x, 3)
    ends = [it.constant(values, "i4") for values in ([0], [1], [1])]
    options = Record("StridedSliceOptions", shrink_axis_mask=1)
    batch = it.add(Operator.STRIDED_SLICE, [shape, *ends], it.tensor([], "i4"), options)
    options = Record("PackOptions", values_count=2)
    sizes = it.add(
        Operator.PACK, [batch, it.constant(6, "i4")], it.tensor([2], "i4"), options
    )
    rows = it.add(Operator.RESHAPE, [x, sizes], it.tensor([1, 6], free=free))
    y = it.tensor([1, 6], free=free)
    it.add(Operator.MUL, [rows, it.constant([2.0])], y, Record("MulOptions"))
    return it.content([x], [y])


def run(content, folder, x):
    path = folder / "model.tflite"
    path.write_bytes(content)
    return penjing.LiteRTModel(path).predict(x)


@pytest.mark.parametrize("batch", [1, 3])
def test_computed_shapes_become_constants(tmp_path, batch):
    fixed = specialize(flattening(), batch=batch)
    assert names(fixed) == ["RESHAPE", "MUL"]
    model = load_records(fixed, "it")
    assert not any(len(t["shape_signature"]) for t in all_tensors(model))
    graph = model["subgraphs"][0]
    sizes = graph["tensors"][graph["operators"][0]["inputs"][1]]
    assert values_of(model, sizes).tolist() == [batch, 6]
    (output,) = (graph["tensors"][n] for n in graph["outputs"])
    assert list(output["shape"]) == [batch, 6]
    x = np.random.default_rng(0).normal(size=(6, 2, 3)).astype("float32")
    assert np.array_equal(run(fixed, tmp_path, x), 2 * x.reshape(6, 6))


def test_signatures_name_the_same_inputs_and_outputs(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(specialize(flattening()))
    model = penjing.LiteRTModel(path)
    assert [spec.name for spec in model.inputs] == ["x_0"]
    assert [(s.name, s.shape) for s in model.outputs] == [("output_0", (1, 6))]


def test_a_file_without_free_sizes_is_left_as_it_is():
    fixed = specialize(flattening())
    assert specialize(fixed) is fixed


def test_free_sizes_besides_the_batch_are_refused():
    it = Graph()
    x = it.tensor([1, 1, 3])
    it.graph["tensors"][x]["shape_signature"] = np.array([-1, -1, 3], "<i4")
    y = it.add(Operator.ABS, [x], it.tensor([1, 1, 3]))
    with pytest.raises(FileFormatError, match=r"`tensor_0` of it .*\(-1, -1, 3\)"):
        specialize(it.content([x], [y]), where="it")


def test_shapes_that_depend_on_values_are_refused():
    it = Graph()
    x = it.tensor([1, 2], "i4", free=True)
    axis, sums = it.constant([0], "i4"), it.tensor([2], "i4")
    it.add(Operator.SUM, [x, axis], sums, Record("ReducerOptions"))
    sizes = it.tensor([2], "i4")
    it.add(Operator.ADD, [sums, it.constant([1, 1], "i4")], sizes, Record("AddOptions"))
    y = it.add(Operator.FILL, [sizes, it.constant(1.0)], it.tensor([0, 0]))
    with pytest.raises(FileFormatError, match=r"`tensor_6` of it has the shape .* for"):
        specialize(it.content([x], [y]), where="it")


def sized_by_the_largest(ids, least):
    """A file that gives as many ones as its largest id, or `least`, and one more."""
    it = Graph()
    x = it.tensor([1, ids], "i4", free=True)
    axes, largest = it.constant([0, 1], "i4"), it.tensor([], "i4")
    it.add(Operator.REDUCE_MAX, [x, axes], largest, Record("ReducerOptions"))
    size = it.tensor([], "i4")
    options = Record("MaximumMinimumOptions")
    it.add(Operator.MAXIMUM, [largest, it.constant(least, "i4")], size, options)
    last = it.tensor([], "i4")
    one = it.constant(1, "i4")
    size = it.add(Operator.ADD, [size, one], last, Record("AddOptions"))
    sizes = it.tensor([1], "i4")
    it.add(Operator.PACK, [size], sizes, Record("PackOptions", values_count=1))
    y = it.add(Operator.FILL, [sizes, it.constant(1.0)], it.tensor([0]))
    return it.content([x], [y])


def test_shapes_that_random_ids_do_not_change_are_refused_too():
    with pytest.raises(FileFormatError, match="the shape .* for some inputs"):
        specialize(sized_by_the_largest(8, 0), where="it")


def test_shapes_that_only_larger_ids_change_are_refused_too():
    with pytest.raises(FileFormatError, match="the shape .* for some inputs"):
        specialize(sized_by_the_largest(8, 2), where="it")


def test_ids_that_a_vocabulary_does_not_have_do_no_harm(tmp_path):
    it = Graph()
    x = it.tensor([1, 8], "i4", free=True)
    rows = it.constant(np.arange(8).reshape(2, 4), "f4")
    y = it.tensor([1, 8, 4], free=True)
    it.add(Operator.GATHER, [rows, x], y, Record("GatherOptions"))
    fixed = specialize(it.content([x], [y]))
    given = run(fixed, tmp_path, np.ones((1, 8), "int32"))
    assert given.tolist() == [[[4, 5, 6, 7]] * 8]


def test_chance_is_refused():
    it = Graph()
    x = it.tensor([1, 2], free=True)
    shape = shape_of(it, x, 2)
    noise = it.tensor([1, 2], free=True)
    it.add(Operator.RANDOM_UNIFORM, [shape], noise, Record("RandomOptions"))
    y = it.add(Operator.ADD, [x, noise], it.tensor([1, 2]), Record("AddOptions"))
    with pytest.raises(FileFormatError, match="it gives other outputs"):
        specialize(it.content([x], [y]), where="it")


def test_constants_that_are_larger_than_what_makes_them_stay_computed(tmp_path):
    it = Graph()
    x = it.tensor([1, 2000], free=True)
    shape = shape_of(it, x, 2)
    ones = it.tensor([1, 2000], free=True)
    it.add(Operator.FILL, [shape, it.constant(1.0)], ones)
    y = it.add(Operator.ADD, [x, ones], it.tensor([1, 2000]), Record("AddOptions"))
    content = it.content([x], [y])
    fixed = specialize(content)
    assert names(fixed) == ["FILL", "ADD"]
    assert len(fixed) < len(content)
    model = load_records(fixed, "it")
    graph = model["subgraphs"][0]
    assert is_plain(model, graph["tensors"][graph["operators"][0]["inputs"][0]])
    x = np.ones((1, 2000), "float32")
    assert np.array_equal(run(fixed, tmp_path, x), x + 1)
