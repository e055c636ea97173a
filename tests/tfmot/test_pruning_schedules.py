"""Schedules: the peer's numbers, the last step, refusals, serialization."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from penjing.engine import schedules
from penjing.errors import CompressionError
from penjing.tfmot.pruning_schedules import (
    ConstantSparsity,
    PolynomialDecay,
    PruningSchedule,
    ScheduleAdapter,
    serialize_schedule,
)


@keras.saving.register_keras_serializable("penjing.tests")
class EveryThird(PruningSchedule):
    """A user's schedule, written as one would for tfmot."""

    def __init__(self, sparsity):
        self.sparsity = sparsity

    def __call__(self, step):
        return self._should_prune_in_step(step, 3, -1, 3), self.sparsity

    def get_config(self):
        return {"class_name": "EveryThird", "config": {"sparsity": self.sparsity}}


def turns(schedule, steps):
    steps = np.array(steps, "int32")
    due = ops.convert_to_numpy(schedule(ops.convert_to_tensor(steps))[0])
    return steps[due].tolist()


# Made with tensorflow-model-optimization 0.8.1: step -> sparsity in float32.
PEER_CURVES = [
    (
        PolynomialDecay(0.5, 0.8, 0, 844),
        {1: 0.5010650753974915, 100: 0.5944995880126953, 800: 0.7999575138092041},
    ),
    (
        PolynomialDecay(0, 0.9, 10, 35, power=1, frequency=5),
        {3: 0.0, 11: 0.03600001335144043, 20: 0.35999995470046997, 40: 0.8999999762},
    ),
    (PolynomialDecay(0.8, 0.5, 0, 5), {0: 0.8, 5: 0.5, 9: 0.5}),
]


@pytest.mark.parametrize(("schedule", "expected"), PEER_CURVES)
def test_sparsities_are_the_peers(schedule, expected):
    for step, sparsity in expected.items():
        value = schedule(ops.convert_to_tensor(step, "int32"))[1]
        # Two float32 roundings of numbers below 1.
        np.testing.assert_allclose(ops.convert_to_numpy(value), sparsity, atol=1.2e-7)


def test_turns_are_the_peers_within_the_range():
    assert turns(ConstantSparsity(0.5, 200), range(1, 601)) == [200, 300, 400, 500, 600]
    schedule = ConstantSparsity(0.5, 2, 10, frequency=3)
    assert turns(schedule, range(1, 10)) == [2, 5, 8]


def test_the_last_step_is_a_turn_whatever_the_frequency():
    schedule = PolynomialDecay(0.5, 0.8, 0, 844)
    assert turns(schedule, range(1, 900)) == [1, *range(100, 801, 100), 844]
    assert float(schedule(844)[1]) == np.float32(0.8)
    assert turns(PolynomialDecay(0.0, 0.5, 2, 7, frequency=100), range(20)) == [2, 7]


def test_equal_steps_jump_to_the_final_sparsity():
    schedule = PolynomialDecay(0.2, 0.6, 5, 5)
    values = [float(schedule(step)[1]) for step in (4, 5)]
    np.testing.assert_allclose(values, [0.2, 0.6], rtol=1e-6)  # float32
    assert turns(schedule, range(20)) == [5]
    assert turns(PolynomialDecay(0.2, 0.6, 0, 0), range(1, 20)) == [1]


REFUSED = {
    "begin before 0": (lambda: ConstantSparsity(0.5, -1), "`begin_step` must be 0"),
    "end first": (lambda: ConstantSparsity(0.5, 5, 3), "begin_step=5 and end_step=3"),
    "end below -1": (lambda: ConstantSparsity(0.5, 0, -2), "or -1 for no end, got -2"),
    "no end": (lambda: PolynomialDecay(0.5, 0.8, 0, -1), "`end_step` cannot be -1"),
    "frequency": (lambda: ConstantSparsity(0.5, 0, frequency=0), "1 or more"),
    "fraction": (lambda: ConstantSparsity(0.5, 2.5), "whole number.*got 2.5"),
    "all zeros": (lambda: ConstantSparsity(1.0, 0), r"`target_sparsity`.*\[0, 1\)"),
    "below 0": (lambda: PolynomialDecay(-0.1, 0.8, 0, 5), "`initial_sparsity`"),
    "final": (lambda: PolynomialDecay(0.1, 80, 0, 5), "`final_sparsity`.*got 80"),
    "NaN": (lambda: ConstantSparsity(float("nan"), 0), "got nan"),
    "power": (lambda: PolynomialDecay(0.1, 0.8, 0, 5, power=0), "`power`.*got 0"),
}


@pytest.mark.once
@pytest.mark.parametrize("name", REFUSED)
def test_impossible_schedules_are_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.once
def test_the_base_class_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        PruningSchedule()


@pytest.mark.parametrize(
    "schedule",
    [
        ConstantSparsity(0.5, 0),
        PolynomialDecay(0.5, 0.8, np.int64(0), np.int32(844), power=2.5),
        EveryThird(0.25),
        schedules.CosineDecay(final_sparsity=0.5, begin_step=0, end_step=9),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_schedules_survive_serialization(schedule):
    config = serialize_schedule(schedule)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(schedule)
    assert again == schedule
    assert "class_name" not in config["config"]


@pytest.mark.once
def test_a_config_is_that_of_the_peer():
    assert PolynomialDecay(0.5, 0.8, 0, 844).get_config() == {
        "class_name": "PolynomialDecay",
        "config": {
            "initial_sparsity": 0.5,
            "final_sparsity": 0.8,
            "power": 3,
            "begin_step": 0,
            "end_step": 844,
            "frequency": 100,
        },
    }


@pytest.mark.once
def test_saving_a_schedule_without_a_config_says_what_to_write():
    class Bare(PruningSchedule):
        def __call__(self, step):
            return True, 0.5

    with pytest.raises(CompressionError, match=r"Bare cannot be saved.*get_config"):
        serialize_schedule(Bare())


def test_the_adapter_says_what_the_schedule_says():
    adapter = ScheduleAdapter(EveryThird(0.25))
    assert [bool(adapter.updates_at(step)) for step in (1, 3, 4, 6)] == [
        False,
        True,
        False,
        True,
    ]
    assert float(adapter(3)) == adapter.final_sparsity == 0.25
    assert (adapter.begin_step, adapter.end_step) == (0, None)
    decay = ScheduleAdapter(PolynomialDecay(0.5, 0.8, 3, 844))
    assert (decay.begin_step, decay.end_step, decay.frequency) == (3, 844, 100)
    assert decay.final_sparsity == np.float32(0.8)
    config = keras.saving.serialize_keras_object(decay)
    again = keras.saving.deserialize_keras_object(config)
    assert again.pruning_schedule == decay.pruning_schedule
