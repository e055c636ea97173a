"""Loops are judged by one turn, in TFLM as in LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from tests.specializing.graphs import Graph

from penjing.errors import ExportError
from penjing.runtime.reference_runner import ReferenceRunner
from penjing.runtime.tflm import compare_in_tflm, has_tflm, tflm_comparison
from penjing.runtime.tflm.file_in_tflm import FileInTflm
from penjing.runtime.tflm.loop_bodies import LoopBody
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import make_scales
from penjing.tflite.writing import write_records

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not has_tflm(), reason="needs penjing[micro]"),
]
TURNS = 12
IMAGE = [1, 8, 8, 1]
STATE = {"scale": 0.02, "zero_point": -128}


class Loop:
    """A state that an int8 layer, or an operator that TFLM has wrong, turns over."""

    def __init__(self):
        self.model = Record("Model", version=3, buffers=[Record("Buffer")])
        self.model["subgraphs"] = [Record("SubGraph") for _ in range(3)]

    def graph(self, number):
        it = Graph()
        it.model, it.graph = self.model, self.model["subgraphs"][number]
        return it

    def ends(self, number, inputs, outputs):
        graph = self.model["subgraphs"][number]
        graph["inputs"], graph["outputs"] = (
            np.array(n, "<i4") for n in (inputs, outputs)
        )


def looping(turn):
    """A file whose loop makes `turn` of a float state of 8 x 8."""
    loop = Loop()
    main = loop.graph(0)
    x = main.tensor(IMAGE)
    count = main.constant(0, "i4")
    ends = [main.tensor([], "i4"), main.tensor(IMAGE)]
    options = Record("WhileOptions", cond_subgraph_index=1, body_subgraph_index=2)
    main.add(Operator.WHILE, [count, x], ends[0], options)
    main.graph["operators"][0]["outputs"] = np.array(ends, "<i4")
    loop.ends(0, [x], ends[1:])
    condition = loop.graph(1)
    taken = [condition.tensor([], "i4"), condition.tensor(IMAGE)]
    goes_on = condition.tensor([], "?")
    limit = condition.constant(TURNS, "i4")
    condition.add(Operator.LESS, [taken[0], limit], goes_on, Record("LessOptions"))
    loop.ends(1, taken, [goes_on])
    body = loop.graph(2)
    taken = [body.tensor([], "i4"), body.tensor(IMAGE)]
    one, later = body.constant(1, "i4"), body.tensor([], "i4")
    body.add(Operator.ADD, [taken[0], one], later, Record("AddOptions"))
    loop.ends(2, taken, [later, turn(body, taken[1])])
    return write_records(loop.model)


def in_integers(make):
    """A turn that makes integers of the state, and floats of what comes out."""

    def turn(it, state):
        stored = it.tensor(IMAGE, "i1", **STATE)
        it.add(Operator.QUANTIZE, [state], stored, Record("QuantizeOptions"))
        made, floats = make(it, stored), it.tensor(IMAGE)
        return it.add(
            Operator.DEQUANTIZE, [made], floats, Record("DequantizeOptions"), 2
        )

    return turn


def dense(it, state):
    """A dense layer, which TFLM rounds another way."""
    generator = np.random.default_rng(0)
    weights = generator.integers(-90, 90, (64, 64))
    scales = generator.uniform(0.002, 0.006, 64)
    rows = it.tensor([1, 64], "i1", **STATE)
    flat, image = it.constant([1, 64], "i4"), it.constant(IMAGE, "i4")
    it.add(Operator.RESHAPE, [state, flat], rows)
    w = it.constant(weights, "i1")
    it.graph["tensors"][w]["quantization"] = make_scales(scales, 0)
    b = it.constant(np.full(64, 900), "i4")
    it.graph["tensors"][b]["quantization"] = make_scales(0.02 * scales, 0)
    made, end = (it.tensor(s, "i1", **STATE) for s in ([1, 64], IMAGE))
    it.add(
        Operator.FULLY_CONNECTED, [rows, w, b], made, Record("FullyConnectedOptions")
    )
    return it.add(Operator.RESHAPE, [made, image], end)


def wrong_padding(it, state):
    """TFLM pads with the integer 0 what LiteRT pads with 0.0."""
    cut = it.tensor([4, 6, 6, 1], "i1", **STATE)
    end = it.tensor(IMAGE, "i1", **STATE)
    two = it.constant([2, 2], "i4")
    more, less = (it.constant(n, "i4") for n in ([[2, 2], [2, 2]], [[0, 4], [0, 4]]))
    it.add(Operator.SPACE_TO_BATCH_ND, [state, two, more], cut, None, 3)
    return it.add(Operator.BATCH_TO_SPACE_ND, [cut, two, less], end, None, 3)


def test_roundings_of_many_turns_are_let_pass():
    content = looping(in_integers(dense))
    found = compare_in_tflm(content)
    assert found.first_difference.operator == "WHILE"
    assert found.relative_difference < 0.1


def test_a_wrong_operator_within_a_loop_is_named():
    content = looping(in_integers(wrong_padding))
    with pytest.raises(ExportError, match=r"the loop `tensor_2` .* SPACE_TO_BATCH_ND"):
        compare_in_tflm(content)


def less_turns(monkeypatch, counter):
    """TFLM stops after 11 of the 12 turns; the runs of other files are as they are."""
    run, content = tflm_comparison.TflmRunner.run, looping(in_integers(dense))
    file = FileInTflm(content, "it")
    places = {n: p for p, n in enumerate(file.watched(1)["tensors"])}
    count, state = (places[number] for number in file.calls[0].outputs)

    def early(self, asked, *arguments, **options):
        done = run(self, asked, *arguments, **options)
        if asked == content:
            for kept, other, outputs in zip(
                done.kept, done.kept_outputs, done.outputs, strict=True
            ):
                kept[count] = np.full_like(kept[count], counter)
                kept[state] = 0.7 * kept[state]
                other[0], outputs[0] = 0.7 * other[0], 0.7 * outputs[0]
        return done

    monkeypatch.setattr(tflm_comparison.TflmRunner, "run", early)
    return content


@pytest.mark.parametrize("counter", [11, 13])
def test_a_loop_that_takes_another_number_of_turns_is_wrong(monkeypatch, counter):
    content = less_turns(monkeypatch, counter)
    with pytest.raises(
        ExportError, match="loop `tensor_2` does not take as many turns"
    ):
        compare_in_tflm(content, samples=1)


def test_a_loop_ends_where_its_condition_no_longer_holds(monkeypatch):
    """Though its counter were the same in both."""
    content = less_turns(monkeypatch, TURNS)
    monkeypatch.setattr(LoopBody, "goes_on", lambda *_: True)
    with pytest.raises(ExportError, match="does not take as many turns"):
        compare_in_tflm(content, samples=1)


def test_whether_a_loop_goes_on_is_asked_of_what_it_gave():
    loop = LoopBody(looping(in_integers(dense)), "it", 0)
    image = np.zeros(IMAGE, "f4")
    with ReferenceRunner() as runner:
        found = [
            loop.goes_on([[np.array(n, "i4"), image]], runner, "it")
            for n in (TURNS - 1, TURNS)
        ]
    assert found == [True, False]


def test_a_condition_that_is_wrong_in_tflm_is_named(monkeypatch):
    content = less_turns(monkeypatch, TURNS)
    condition = LoopBody(content, "it", 0).condition
    run = tflm_comparison.TflmRunner.run

    def wrong(self, asked, *arguments, **options):
        done = run(self, asked, *arguments, **options)
        if asked == condition:
            for values in (*done.outputs, *done.kept_outputs, *done.kept):
                values[0] = ~values[0]
        return done

    monkeypatch.setattr(tflm_comparison.TflmRunner, "run", wrong)
    with pytest.raises(ExportError, match="condition of the loop .* of LESS"):
        compare_in_tflm(content, samples=1)


def test_a_body_begins_with_what_the_loop_is_given():
    body = LoopBody(looping(in_integers(dense)), "it", 0)
    assert body.given == [1, 0]
    assert body.constants[0] == 0 and body.constants[1] is None
