"""Schedules: values by hand, updates, the end reached exactly, JSON, refusals."""

import dataclasses
import json
import math

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

import penjing
from penjing import (
    ConstantSparsity,
    CosineDecay,
    OneShot,
    PolynomialDecay,
    Schedule,
    schedule_from_json,
)


@keras.saving.register_keras_serializable(package="penjing_tests")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Staircase(Schedule):
    """Half of the final sparsity in the first half, then all of it."""

    final_sparsity: float
    begin_step: int = 0
    end_step: int = 10
    frequency: int = 2

    def __call__(self, step):
        late = self.progress(step) >= 0.5
        return self.final_sparsity * 0.5 * (1.0 + keras.ops.cast(late, "float32"))


EVERY_CLASS = [
    ConstantSparsity(0.5),
    ConstantSparsity(0.25, begin_step=3, end_step=20, frequency=7),
    PolynomialDecay(final_sparsity=0.8, begin_step=2, end_step=50),
    PolynomialDecay(
        initial_sparsity=0.5,
        final_sparsity=0.9,
        begin_step=0,
        end_step=30,
        power=1,
        frequency=4,
    ),
    CosineDecay(initial_sparsity=0.1, final_sparsity=0.7, begin_step=5, end_step=9),
    OneShot(0.5),
    OneShot(0.75, step=12),
    Staircase(final_sparsity=0.6),
]
every_schedule = pytest.mark.parametrize("schedule", EVERY_CLASS, ids=repr)


def value(sparsity):
    return float(keras.ops.convert_to_numpy(keras.ops.cast(sparsity, "float32")))


def tensor(step):
    return keras.ops.convert_to_tensor(step, "int32")


@st.composite
def ramps(draw):
    begin = draw(st.integers(0, 500))
    end = begin + draw(st.integers(1, 5_000))
    initial, final = sorted(draw(st.tuples(*[st.floats(0, 0.99)] * 2)))
    arguments = {
        "initial_sparsity": initial,
        "final_sparsity": final,
        "begin_step": begin,
        "end_step": end,
        "frequency": draw(st.integers(1, 6_000)),
    }
    if draw(st.booleans()):
        return CosineDecay(**arguments)
    return PolynomialDecay(**arguments, power=draw(st.floats(0.25, 6)))


def zhu_gupta(step, initial, final, begin, end, power):
    """Equation 1 of the paper, held outside its range."""
    p = np.clip((step - begin) / (end - begin), 0, 1)
    return final + (initial - final) * (1 - p) ** power


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (ConstantSparsity(0.5, begin_step=4), {0: 0.5, 4: 0.5, 900: 0.5}),
        (
            PolynomialDecay(final_sparsity=0.8, begin_step=0, end_step=100),
            {0: 0, 50: 0.7, 100: 0.8, 500: 0.8},
        ),
        (
            PolynomialDecay(
                initial_sparsity=0.5,
                final_sparsity=0.8,
                begin_step=10,
                end_step=20,
                power=1,
            ),
            {0: 0.5, 10: 0.5, 15: 0.65, 20: 0.8, 21: 0.8},
        ),
        (
            CosineDecay(final_sparsity=0.8, begin_step=0, end_step=120),
            {0: 0, 40: 0.2, 60: 0.4, 80: 0.6, 120: 0.8, 121: 0.8},
        ),
        (OneShot(0.5, step=10), {0: 0, 9: 0, 10: 0.5, 11: 0.5}),
        (Staircase(final_sparsity=0.6), {0: 0.3, 4: 0.3, 5: 0.6, 10: 0.6}),
    ],
    ids=lambda case: repr(case)[:20],
)
def test_values_by_hand_with_numbers_and_with_tensors(schedule, values):
    for step, expected in values.items():
        assert value(schedule(step)) == pytest.approx(expected, abs=1e-6)
        assert value(schedule(tensor(step))) == pytest.approx(expected, abs=1e-6)


@hypothesis.given(ramps(), st.integers(0, 7_000))
def test_numbers_and_tensors_agree_with_the_paper(schedule, step):
    if isinstance(schedule, PolynomialDecay):
        expected = zhu_gupta(
            step,
            schedule.initial_sparsity,
            schedule.final_sparsity,
            schedule.begin_step,
            schedule.end_step,
            schedule.power,
        )
    else:
        way = min(
            max(step - schedule.begin_step, 0)
            / (schedule.end_step - schedule.begin_step),
            1,
        )
        share = 0.5 * (1 - math.cos(math.pi * way))
        gap = schedule.final_sparsity - schedule.initial_sparsity
        expected = schedule.initial_sparsity + gap * share
    assert schedule(step) == pytest.approx(expected, abs=1e-9)
    # float32, with a slope of up to `power` at either end.
    assert value(schedule(tensor(step))) == pytest.approx(expected, abs=5e-6)


@pytest.mark.once
@hypothesis.given(ramps(), st.integers(0, 7_000), st.integers(0, 7_000))
def test_a_ramp_never_falls_and_stays_between_its_ends(schedule, first, second):
    low, high = (schedule(step) for step in sorted((first, second)))
    assert low <= high + 1e-12
    assert schedule.initial_sparsity - 1e-12 <= low
    assert high <= schedule.final_sparsity + 1e-12


@pytest.mark.once
@hypothesis.given(ramps())
def test_the_sparsity_asked_for_is_reached_exactly_at_the_end_step(schedule):
    """Whatever the frequency: the masks of the end step are made, and by the end."""
    reached = None
    for step in range(1, schedule.end_step + 1):
        if schedule.updates_at(step):
            reached = schedule(step)
    assert reached == schedule.final_sparsity
    assert not any(
        schedule.updates_at(schedule.end_step + later) for later in range(1, 300)
    )


@hypothesis.given(ramps())
def test_a_tensor_of_the_end_step_gives_the_final_sparsity_exactly(schedule):
    end = tensor(schedule.end_step)
    assert bool(schedule.updates_at(end))
    assert np.float32(value(schedule(end))) == np.float32(schedule.final_sparsity)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (ConstantSparsity(0.5, frequency=4), [1, 4, 8, 12]),
        (ConstantSparsity(0.5, begin_step=3, frequency=5), [3, 8, 13]),
        (ConstantSparsity(0.5, end_step=6, frequency=4), [1, 4, 6]),
        (ConstantSparsity(0.5, end_step=0), [1]),
        (
            PolynomialDecay(final_sparsity=0.5, begin_step=2, end_step=9, frequency=3),
            [2, 5, 8, 9],
        ),
        (
            CosineDecay(final_sparsity=0.5, begin_step=0, end_step=3, frequency=100),
            [1, 3],
        ),
        (OneShot(0.5, step=7), [7]),
        (OneShot(0.5), [1]),
    ],
    ids=repr,
)
def test_masks_are_made_at_these_steps(schedule, steps):
    asked = range(1, 14)
    assert [step for step in asked if schedule.updates_at(step)] == steps
    assert [step for step in asked if bool(schedule.updates_at(tensor(step)))] == steps


@every_schedule
def test_numbers_give_a_bool_and_tensors_a_bool_tensor(schedule):
    assert isinstance(schedule.updates_at(3), bool)
    due = schedule.updates_at(tensor(3))
    assert keras.backend.standardize_dtype(due.dtype) == "bool"


@pytest.mark.once
@every_schedule
def test_it_survives_json_and_keras_serialization(schedule):
    text = schedule.to_json()
    assert json.loads(text)["config"] == schedule.get_config()
    assert schedule_from_json(text) == schedule
    assert type(schedule).from_config(schedule.get_config()) == schedule
    config = keras.saving.serialize_keras_object(schedule)
    assert keras.saving.deserialize_keras_object(config) == schedule


@pytest.mark.once
@every_schedule
def test_it_is_a_value(schedule):
    assert hash(schedule) == hash(type(schedule).from_config(schedule.get_config()))
    assert type(schedule).__name__ in repr(schedule)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.frequency = 3


@pytest.mark.once
@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "3",
        "{}",
        "[1, 2]",
        "[" * 5_000,
        '{"class_name": "Missing", "config": {}}',
        '{"class_name": "OneShot", "module": 5, "config": {}}',
        '{"class_name": "OneShot", "module": "penjing.engine.schedules", "config": 5}',
    ],
    ids=lambda text: text[:40],
)
def test_text_that_is_no_schedule_is_refused(text):
    with pytest.raises(ValueError, match="schedule"):
        schedule_from_json(text)


@pytest.mark.once
def test_another_object_in_the_json_is_refused():
    text = json.dumps(keras.saving.serialize_keras_object(penjing.Block(2, 2)))
    with pytest.raises(ValueError, match="Expected a schedule, got Block"):
        schedule_from_json(text)


@pytest.mark.once
def test_an_invalid_schedule_in_the_json_keeps_its_reason():
    text = PolynomialDecay(final_sparsity=0.5, begin_step=0, end_step=9).to_json()
    with pytest.raises(ValueError, match=r"\[0, 1\), got final_sparsity=5"):
        schedule_from_json(text.replace("0.5", "5"))


NOT_A_SPARSITY = [1, 1.0, -0.1, math.nan, math.inf, "0.5", None, True]


@pytest.mark.once
def test_numbers_of_numpy_become_those_of_python():
    steps = np.ceil(1000 / 64).astype(np.int32)  # as tutorials compute them
    schedule = PolynomialDecay(
        final_sparsity=np.float64(0.75), begin_step=np.int64(0), end_step=2 * steps
    )
    assert type(schedule.end_step) is int and type(schedule.final_sparsity) is float
    assert schedule_from_json(schedule.to_json()) == schedule
    assert schedule == PolynomialDecay(final_sparsity=0.75, begin_step=0, end_step=32)
    with pytest.raises(ValueError, match="an integer"):
        OneShot(0.5, step=np.float64(3.0))


NOT_A_STEP = [-1, 2.0, "3", True]


@pytest.mark.once
@pytest.mark.parametrize("bad", NOT_A_SPARSITY)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sparsity", ConstantSparsity),
        ("sparsity", OneShot),
        (
            "initial_sparsity",
            lambda bad: PolynomialDecay(
                initial_sparsity=bad, final_sparsity=0.5, begin_step=0, end_step=1
            ),
        ),
        (
            "final_sparsity",
            lambda bad: CosineDecay(final_sparsity=bad, begin_step=0, end_step=1),
        ),
    ],
)
def test_a_sparsity_outside_0_to_1_is_refused(name, make, bad):
    with pytest.raises(ValueError, match=rf"`{name}` must be a number in \[0, 1\)"):
        make(bad)


@pytest.mark.once
@pytest.mark.parametrize("bad", NOT_A_STEP)
def test_a_step_that_is_no_count_is_refused(bad):
    refusal = "`{}` must be an integer of at least {}"
    with pytest.raises(ValueError, match=refusal.format("begin_step", 0)):
        ConstantSparsity(0.5, begin_step=bad)
    with pytest.raises(ValueError, match=refusal.format("end_step", 0)):
        PolynomialDecay(final_sparsity=0.5, begin_step=0, end_step=bad)
    with pytest.raises(ValueError, match=refusal.format("step", 1)):
        OneShot(0.5, step=bad)
    with pytest.raises(ValueError, match=refusal.format("frequency", 1)):
        CosineDecay(final_sparsity=0.5, begin_step=0, end_step=1, frequency=bad)


@pytest.mark.once
def test_zero_is_no_frequency_and_no_one_shot_step():
    with pytest.raises(ValueError, match="got frequency=0"):
        ConstantSparsity(0.5, frequency=0)
    with pytest.raises(ValueError, match="got step=0"):
        OneShot(0.5, step=0)


@pytest.mark.once
@pytest.mark.parametrize("kind", [PolynomialDecay, CosineDecay])
@pytest.mark.parametrize("end", [5, 4, None])
def test_a_ramp_without_length_is_refused(kind, end):
    with pytest.raises(ValueError, match="`end_step` must"):
        kind(final_sparsity=0.5, begin_step=5, end_step=end)


@pytest.mark.once
def test_a_constant_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match="begin_step=5 and end_step=4.*never fire"):
        ConstantSparsity(0.5, begin_step=5, end_step=4)
    assert ConstantSparsity(0.5, begin_step=5, end_step=5).updates_at(5)


@pytest.mark.once
@pytest.mark.parametrize("kind", [PolynomialDecay, CosineDecay])
def test_a_ramp_that_falls_is_refused(kind):
    with pytest.raises(ValueError, match="initial_sparsity=0.6 and final_sparsity=0.5"):
        kind(initial_sparsity=0.6, final_sparsity=0.5, begin_step=0, end_step=1)


@pytest.mark.once
@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "3", True, None])
def test_a_power_that_is_not_above_zero_is_refused(bad):
    with pytest.raises(ValueError, match="`power` must be a number above 0"):
        PolynomialDecay(final_sparsity=0.5, begin_step=0, end_step=1, power=bad)


@pytest.mark.once
def test_progress_needs_an_end():
    with pytest.raises(ValueError, match="ConstantSparsity has no `end_step`"):
        ConstantSparsity(0.5).progress(3)


@pytest.mark.once
def test_a_subclass_without_a_call_is_told_what_to_define():
    class Empty(Schedule):
        pass

    with pytest.raises(NotImplementedError, match="Empty must define `__call__"):
        Empty()(3)
