"""Files whose operators round otherwise in TFLM, or are wrong there or in LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.runtime.tflm.micro_files import (
    RESHAPE,
    Network,
    amplified_rounding,
    wrong_padding,
    wrong_reference,
)
from tests.specializing.graphs import Graph

from penjing.errors import ExportError, FileFormatError
from penjing.runtime.reference_runner import OPTIMIZED, ReferenceRunner
from penjing.runtime.tflm import (
    TflmComparison,
    compare_in_tflm,
    has_tflm,
    run_pair,
    tflm_comparison,
)
from penjing.runtime.tflm.file_in_tflm import FileInTflm
from penjing.runtime.tflm.operator_differences import distance
from penjing.specializing import specialize
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import tensor_name

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not has_tflm(), reason="needs penjing[micro]"),
]

FREE = Path(__file__).parents[2] / "data/mlperf_tiny/keyword_spotting.tflite"


@pytest.fixture(scope="module")
def keywords():
    return specialize(FREE.read_bytes())


def test_a_right_file_is_described(keywords):
    found = compare_in_tflm(keywords)
    assert (found.steps, found.difference, found.first_difference) == (0.0, 0.0, None)
    assert (found.samples, found.flash) == (7, len(keywords))
    assert "DEPTHWISE_CONV_2D" in found.operators and "SOFTMAX" in found.operators
    assert 20_000 < found.arena.total < 30_000
    assert TflmComparison.from_dict(found.to_dict()) == found


def test_samples_reach_all_that_floats_are_rounded_to(keywords):
    *rounds, zero, low, high = (x for (x,) in FileInTflm(keywords, "it").rounds(2))
    assert len(rounds) == 2 and not np.array_equal(*rounds)
    (scale,) = {  # of the int8 that they are rounded to
        float(tensor["quantization"]["scale"][0])
        for tensor in FileInTflm(keywords, "it").tensors
        if tensor_name(tensor) == "input_1_int8"
    }
    assert {x.dtype.name for x in (*rounds, zero, low, high)} == {"float32"}
    assert len(np.unique(np.rint(rounds[0] / scale))) > 200
    np.testing.assert_allclose(high - low, 255 * scale, rtol=1e-5)
    assert not zero.any()


def test_samples_of_the_user_are_compared(keywords):
    sample = [np.ones((1, 50, 10, 1), "f4")]
    assert compare_in_tflm(keywords, inputs=[sample, sample]).samples == 2


def test_free_sizes_are_refused_with_the_way_out():
    message = r"leaves sizes of its input 'input_1' free, \[-1, 50, 10, 1\].*'micro'\)"
    with pytest.raises(FileFormatError, match=message):
        compare_in_tflm(FREE.read_bytes())


@pytest.mark.parametrize("kind", [5, 1, 17])
def test_inputs_that_are_no_numbers_of_tflm_are_refused(kind):
    with pytest.raises(FileFormatError, match=r"takes \w+ values, 'input', .* has no"):
        compare_in_tflm(Network((1, 8), kind=kind).content())


def test_a_wrong_operator_is_named():
    with pytest.raises(
        ExportError, match=r"output of SPACE_TO_BATCH_ND 'padded' \(operator 0\) by 128"
    ):
        compare_in_tflm(wrong_padding(), tolerance=10.0)


def test_an_operator_that_the_reference_has_wrong_is_right():
    content = wrong_reference()
    rounds = FileInTflm(content, "it").rounds(1)
    with ReferenceRunner() as runner:
        mine, other = (
            runner.run(content, rounds, where="it", **kernels).outputs[0][0]
            for kernels in ({}, {"kernels": OPTIMIZED})
        )
    assert distance(mine, other).absolute > 2
    found = compare_in_tflm(content)
    assert (found.steps, found.kernels, found.passed_by) == (
        0.0,
        "optimized",
        "rounding",
    )
    assert "LiteRT's optimized kernels" in str(found)


def test_roundings_that_add_up_are_right(monkeypatch):
    found = compare_in_tflm(amplified_rounding())
    assert (found.steps, found.first_difference.steps) == (10.0, 1)
    assert (found.passed_by, found.kernels) == ("summed roundings", "reference")
    assert (
        str(found.first_difference) == "FULLY_CONNECTED 'dense' (operator 0) by 1 step"
    )
    monkeypatch.setattr(run_pair, "single_operators", lambda *_: [])
    with pytest.raises(
        ExportError, match=r"output 'finer' .* by 10 steps .* by 1 step"
    ):
        compare_in_tflm(amplified_rounding())
    let_pass = compare_in_tflm(amplified_rounding(), tolerance=0.1)
    assert (let_pass.steps, let_pass.passed_by) == (10.0, "tolerance")
    assert "Outputs pass by tolerance. " in str(let_pass)


def test_an_operator_that_is_wrong_on_other_inputs_is_found(monkeypatch):
    """Its inputs differ by rounding, so it is run alone."""
    content = amplified_rounding()
    run = tflm_comparison.TflmRunner.run

    def wrong_in_the_end(self, *arguments, **options):
        done = run(self, *arguments, **options)
        for values in (*done.outputs, *done.kept_outputs):
            values[0] = np.bitwise_xor(values[0], 64)
        for values in done.kept:
            values[1] = np.bitwise_xor(values[1], 64)
        return done

    monkeypatch.setattr(tflm_comparison.TflmRunner, "run", wrong_in_the_end)
    with pytest.raises(ExportError, match="output of QUANTIZE 'finer'"):
        compare_in_tflm(content)


def test_outputs_must_not_depend_on_places_in_the_arena(monkeypatch, keywords):
    run = tflm_comparison.TflmRunner.run

    def elsewhere(self, *arguments, **options):
        done = run(self, *arguments, **options)
        done.outputs[0][0] = done.outputs[0][0] + 1
        return done

    monkeypatch.setattr(tflm_comparison.TflmRunner, "run", elsewhere)
    with pytest.raises(ExportError, match="outputs change with the places"):
        compare_in_tflm(keywords)


def test_a_twin_gives_the_same_bit_for_bit(keywords):
    found = compare_in_tflm(keywords, twin=keywords)
    assert found.twin_flash == found.flash and found.twin_arena == found.arena
    assert compare_in_tflm(keywords).twin_arena is None
    with pytest.raises(ExportError, match="does not give .* what its twin gives there"):
        compare_in_tflm(amplified_rounding(1), twin=amplified_rounding(2))
    with pytest.raises(ValueError, match="`twin` must be a file of the same network"):
        compare_in_tflm(keywords, twin=wrong_reference())


def test_outputs_must_be_numbers_even_where_litert_gives_none():
    net = Graph()
    x, y = net.tensor([1, 2]), net.tensor([1, 2])
    net.add(Operator.ADD, [x, net.constant([np.nan, 0.0])], y, Record("AddOptions"))
    content = net.content([x], [y])
    with pytest.raises(ExportError, match="'tensor_1' holds NaN or .* sample 1 of 4"):
        compare_in_tflm(content)
    with pytest.raises(ExportError, match="sample 1 of 1. Do not ship it"):
        compare_in_tflm(content, inputs=[[np.zeros((1, 2), "f4")]])


def test_zeros_may_give_no_numbers_as_in_keras():
    net = Graph()
    x, y = net.tensor([1, 2]), net.tensor([1, 2])
    net.add(Operator.DIV, [x, x], y, Record("DivOptions"))
    assert compare_in_tflm(net.content([x], [y])).difference == 0.0
    with pytest.raises(ExportError, match="sample 1 of 1"):
        compare_in_tflm(net.content([x], [y]), inputs=[[np.zeros((1, 2), "f4")]])
    rounds = [[np.full((1, 2), value, "f4")] for value in (3.0, 0.0)]
    found = compare_in_tflm(net.content([x], [y]), inputs=rounds, finite=1)
    assert found.difference == 0.0


@pytest.mark.parametrize(("scale", "zero_point"), [(0.25, 0), (0.5, 3)])
def test_a_twin_gives_numbers_of_the_same_meaning(scale, zero_point):
    """Stored outputs are equal, bit for bit, and mean something else."""

    def reshaped(*quantization):
        net = Network((1, 4), *quantization)
        output = net.tensor("rows", (2, 2), *quantization)
        return net.then(RESHAPE, [net.sizes([2, 2])], output).content()

    with pytest.raises(ValueError, match="must be a file of the same network.*scale"):
        compare_in_tflm(reshaped(scale, zero_point), twin=reshaped(0.5, 0))
