"""Steps are taken where they win bytes and move outputs no more than they may."""

from __future__ import annotations

import functools
import gzip

import numpy as np
import pytest

from penjing.shrinking import gzip_sizes
from penjing.shrinking.stepwise import Step, Stepwise
from penjing.tflite.loading import load_records
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once

NAMES = [bytes(row) for row in np.random.default_rng(0).integers(33, 126, (6, 60))]


def model_of(names=NAMES):
    """Tensors with names that cost bytes, no two of them alike."""
    shape = np.array([4], "<i4")
    tensors = [
        Record("Tensor", name=name, type=TensorType.INT8, shape=shape) for name in names
    ]
    graph = Record("SubGraph", tensors=tensors)
    return Record("Model", subgraphs=[graph], buffers=[Record("Buffer")])


def tensors_of(model):
    return model["subgraphs"][0]["tensors"]


class FakeTrial:
    """Outputs move by what the names that are gone weigh."""

    def __init__(self, weights):
        self._weights = weights
        self.asked = []

    def difference(self, content, order=None, *, same_speed=True):
        left = {t["name"] for t in tensors_of(load_records(content, "it"))}
        gone = [
            w for name, w in zip(NAMES, self._weights, strict=True) if name not in left
        ]
        self.asked.append((len(gone), order, same_speed))
        return float(sum(gone))


def begin(weights=None):
    model = model_of()
    trial = None if weights is None else FakeTrial(weights)
    return Stepwise(write_records(model), model, trial)


def drop(n, model):
    tensors_of(model)[n].drop("name")


def drop_all(model):
    for tensor in tensors_of(model):
        tensor.drop("name")
    return "all of them"


def fail(model):
    raise IndexError("a part that is none")


def test_a_step_that_wins_is_noted_with_what_it_won():
    shrinking = begin()
    before = shrinking.content
    assert shrinking.take(Step("names"), drop_all)
    (step,) = shrinking.steps
    assert step.raw == len(before) - len(shrinking.content) > 200
    zipped = [len(gzip.compress(c, 9, mtime=0)) for c in (before, shrinking.content)]
    assert step.gzip == zipped[0] - zipped[1] > 0
    assert (step.difference, step.note) == (None, "all of them")
    report = shrinking.report("it")
    assert [report.gzip_before, report.gzip_after] == zipped
    assert load_records(shrinking.content, "it")["subgraphs"]


@pytest.mark.parametrize(
    "edit, note",
    [
        (lambda model: None, "no bytes to win"),
        (fail, "the file is built in an unusual way"),
        (drop_all, "would change the outputs"),
    ],
)
def test_a_step_that_is_not_taken_says_why_and_changes_nothing(edit, note):
    shrinking = begin([0.5] * 6)
    before = shrinking.content
    assert not shrinking.take(Step("it", tolerance=2.9), edit)
    assert shrinking.steps[0].note == note and shrinking.content == before
    assert write_records(shrinking.model) == before


def runs_dry(model):
    next(iter(()))


def gives_up(model):
    raise RuntimeError("of any kind")


@pytest.mark.parametrize("edit, kind", [(runs_dry, "Stop"), (gives_up, "Runtime")])
def test_a_step_that_fails_for_no_fault_of_the_file_is_left_out(edit, kind):
    """By whichever way it is tried; what can be taken beside it still is."""
    shrinking = begin([0] * 6)
    before = shrinking.content
    step, note = Step("it"), f"left out: it failed with {kind}"
    assert not shrinking.take(step, edit)
    shrinking.take_all([(step, edit), (step, edit)])
    shrinking.take_first(step, [edit, edit])
    shrinking.take_best(step, [edit])
    shrinking.take_each(step, edit)
    shrinking.take_each(step, lambda model: [edit, edit])
    assert shrinking.ask(step, edit) is None
    assert shrinking.difference(edit) == float("inf")
    assert [s.note[: len(note)] for s in shrinking.steps] == [note] * 8
    assert shrinking.content == before
    assert len(shrinking.failures) >= 8 and note in shrinking.failures[0]
    shrinking.take_each(step, lambda model: [edit, drop_all])
    assert shrinking.steps[-1].note == "1 of 2 tensors"


def test_a_trial_that_fails_leaves_the_step_out():
    shrinking = begin([0] * 6)
    shrinking.trial.difference = lambda *_, **__: gives_up(None)
    assert not shrinking.take(Step("it"), drop_all)
    assert "RuntimeError" in shrinking.steps[0].note


def test_tolerances_add_to_what_was_reached():
    shrinking = begin([0.2, 0.2, 0.2, 0, 0, 0])
    edits = [functools.partial(drop, n) for n in range(3)]
    taken = [shrinking.take(Step("it", tolerance=0.2), edit) for edit in edits]
    assert taken == [True, True, True] and shrinking.reached == pytest.approx(0.6)
    assert not shrinking.take(Step("exact"), lambda model: drop_all(model) and drop(0))


def test_the_edits_that_work_together_are_found():
    shrinking = begin([0, 0, 9, 0, 0, 9])
    edits = [functools.partial(drop, n) for n in range(6)]
    shrinking.take_each(Step("each"), lambda model: edits)
    left = [t["name"] for t in tensors_of(load_records(shrinking.content, "it"))]
    assert left == [b"", b"", NAMES[2], b"", b"", NAMES[5]]
    assert shrinking.steps[0].note == "4 of 6 tensors"


def test_a_file_is_run_once_however_often_it_is_asked_for():
    shrinking = begin([0] * 6)
    shrinking.take_each(Step("each"), lambda model: [drop_all])
    assert shrinking.difference(lambda model: None) == 0.0
    assert len(shrinking.trial.asked) == 1


def test_the_first_that_can_be_taken_is_taken():
    shrinking = begin([0, 0, 0, 0, 0, 9])
    edits = [drop_all, functools.partial(drop, 5), functools.partial(drop, 1)]
    shrinking.take_first(Step("first"), edits)
    assert [step.raw > 0 for step in shrinking.steps] == [True]
    assert tensors_of(shrinking.model)[1]["name"] == b""
    assert tensors_of(shrinking.model)[5]["name"] == NAMES[5]


def test_the_best_is_what_gzip_makes_least_of():
    shrinking = begin()
    edits = [functools.partial(drop, 0), fail, drop_all]
    shrinking.take_best(Step("best"), edits)
    assert {t["name"] for t in tensors_of(shrinking.model)} == {b""}
    shrinking.take_best(Step("none"), [fail])
    assert shrinking.steps[-1].note == "the file is built in an unusual way"


def test_sizes_are_found_ahead_and_steps_judged_one_by_one(monkeypatch):
    """The second one is not taken, so what was guessed of the third is of no use."""
    sizes = []
    gzip_bytes = gzip_sizes.gzip_bytes
    monkeypatch.setattr(
        gzip_sizes,
        "gzip_bytes",
        lambda c, level: sizes.append(c) or gzip_bytes(c, level),
    )
    alone = begin([0, 9, 0, 0, 0, 0])
    together = begin([0, 9, 0, 0, 0, 0])
    steps = [(Step(str(n)), functools.partial(drop, n)) for n in range(3)]
    for step, edit in steps:
        alone.take(step, edit)
    one_by_one = set(sizes)
    sizes.clear()
    together.take_all(steps)
    assert together.steps == alone.steps and together.content == alone.content
    assert [step.raw > 0 for step in together.steps] == [True, False, True]
    assert len(sizes) == len(set(sizes))
    assert len(set(sizes) - one_by_one) == 1


def test_a_new_order_of_outputs_is_told_to_the_trial_from_then_on():
    shrinking = begin([0] * 6)
    shrinking.take(Step("order"), lambda model: drop(0, model) or [1, 0])
    shrinking.take(Step("next"), functools.partial(drop, 1))
    shrinking.take(Step("other", same_speed=False), functools.partial(drop, 2))
    assert [ask[1:] for ask in shrinking.trial.asked] == [
        ([1, 0], True),
        ([1, 0], True),
        ([1, 0], False),
    ]


def test_both_sizes_must_fall_where_a_step_says_so():
    assert Step("it").wins(raw=-5, compressed=1)
    assert Step("it").wins(raw=1, compressed=0)
    assert not Step("it").wins(raw=9, compressed=-1)
    assert Step("it", raw_first=True).wins(raw=1, compressed=-9)
    assert not Step("it", both=True).wins(raw=5, compressed=0)
    assert Step("it", both=True).wins(raw=1, compressed=1)
