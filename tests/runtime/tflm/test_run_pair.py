"""Runs whose values are made up: which operator is judged, and by which sample."""

from __future__ import annotations

import numpy as np
import pytest
from tests.runtime.tflm.micro_files import Network

from penjing.errors import ExportError
from penjing.runtime.reference_runner import ReferenceRun
from penjing.runtime.tflm.file_in_tflm import FileInTflm
from penjing.runtime.tflm.run_pair import RunPair
from penjing.runtime.tflm.tflm_runner import Arena, TflmRun

pytestmark = pytest.mark.once

ARENA = Arena(head=0, tail=0, total=0)
SPLIT = 49


def dense():
    """A file with one operator, which may round by two steps."""
    return FileInTflm(Network((1, 4)).dense(np.ones((2, 4), "i1"), 0.5).content(), "it")


def split():
    """An operator that gives twice integers."""
    net = Network((1, 4))
    ends = [net.tensor(name, (1, 2), 0.5) for name in ("left", "right")]
    net.then(SPLIT, [], ends[0])
    net._graph.operators[-1].outputs = ends
    return FileInTflm(net.content(), "it")


def pair(file, mine, expected, *, kept=None, check=None):
    """Runs that gave these rows, each all that the operator gives in a sample."""
    watched = list(file.calls[0].outputs)
    arrays = [
        [[np.array([row], kind) for row, kind in rows] for rows in side]
        for side in (mine, expected)
    ]
    ends = [watched.index(number) for number in file.outputs]
    outputs = [[[rows[place] for place in ends] for rows in side] for side in arrays]
    kept = len(mine) if kept is None else kept
    run = TflmRun(
        outputs=outputs[0],
        arena=ARENA,
        kept=arrays[0][:kept],
        kept_outputs=outputs[0][:kept],
    )
    reference = ReferenceRun(outputs=outputs[1], tensors=arrays[1][:kept])
    rounds = [[np.full((1, 4), n, "i1")] for n in range(len(mine))]
    return RunPair(file, rounds, run, reference, watched, check)


def integers(*rows):
    return [[(row, "i1")] for row in rows]


def test_small_numbers_do_not_hide_a_wrong_sample():
    """Half of the largest magnitude is one step; a quarter of it is 30."""
    runs = pair(dense(), integers([2, 0], [127, 0]), integers([1, 0], [97, 0]))
    (found,) = runs.differences()
    assert (found.steps, found.allowed, found.is_wrong) == (30, 2, True)


def test_an_output_does_not_hide_a_wrong_one_of_the_same_operator():
    mine, expected = integers([2, 0], [127, 0]), integers([1, 0], [97, 0])
    (found,) = pair(split(), [sum(mine, [])], [sum(expected, [])]).differences()
    assert (found.tensor, found.steps, found.is_wrong) == ("right", 30, True)


def test_outputs_that_are_equal_do_not_hide_a_rounding():
    mine, expected = integers([2, 0], [7, 0]), integers([1, 0], [7, 0])
    (found,) = pair(split(), [sum(mine, [])], [sum(expected, [])]).differences()
    assert (found.tensor, found.steps, found.is_wrong) == ("left", 1, False)


def test_a_sample_whose_tensors_were_not_kept_is_run_again():
    asked = []
    runs = pair(
        dense(),
        integers([5, 0], [6, 0], [100, 0], [9, 0]),
        integers([5, 0], [5, 3], [-100, 0], [1, 0]),
        kept=1,
        check=lambda file, rounds: asked.append((file.where, rounds[0][0][0, 0])),
    )
    assert runs.differences() == []
    runs.check_outputs(None, None, "")
    assert asked == [("it", 2)], "the sample that is wrong by most"
    runs.check_outputs(1.5, None, "")
    assert len(asked) == 2, "200 steps of 100 are more than 1.5 of the magnitude"
    runs.check_outputs(2.0, None, "")
    assert len(asked) == 2


def test_a_state_makes_samples_depend_on_those_before(monkeypatch):
    runs = pair(dense(), integers([5, 0], [100, 0]), integers([5, 0], [0, 0]), kept=1)
    monkeypatch.setattr(FileInTflm, "keeps_state", lambda *_: True)
    with pytest.raises(ExportError, match="output 'dense' differs .* by 100 steps"):
        runs.check_outputs(None, None, "")
