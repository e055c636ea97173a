"""What rules note down: axes, edits of configs, and layers that are shared."""

import keras
import numpy as np
import pytest
from keras import layers

from penjing.channels.rules.trace import ChannelStep, ChannelTrace
from penjing.channels.rules.units import Channels, Whole

pytestmark = pytest.mark.once


def variable(*shape):
    return keras.Variable(np.zeros(shape, "float32"))


def labels(trace):
    return trace.units.labels().tolist()


def why(trace):
    found, said = trace.units.reasons(trace.units.labels())
    return [said[i] if i >= 0 else None for i in found]


def step(trace, operation=None, layouts=None, shape=(None, 5, 4)):
    tensor = keras.KerasTensor(shape)
    return ChannelStep(
        operation=operation or layers.ReLU(name="act"),
        path="net/act",
        tensors=[tensor],
        layouts=layouts or [Channels(2, trace.units.new(4))],
        outputs=[tensor],
        arguments=((tensor,), {}),
        trace=trace,
    )


def test_two_readers_of_one_variable_are_tied():
    trace = ChannelTrace()
    kernel, one, other = variable(2, 3), trace.units.new(2), trace.units.new(2)
    trace.add_axis(kernel, 0, one, "input")
    trace.add_axis(kernel, -2, other, "input")
    assert labels(trace) == [0, 1, 0, 1]
    assert list(trace.axes) == [(id(kernel), 0)]


def test_an_axis_that_must_stay_pins_readers_before_and_after():
    trace = ChannelTrace()
    kernel, one, other = variable(2, 3), trace.units.new(2), trace.units.new(3)
    trace.add_axis(kernel, 0, one, "input")
    trace.keep_axis(kernel, 0, "first")
    trace.keep_axis(kernel, 1, "second")
    trace.add_axis(kernel, 1, other, "output")
    assert why(trace) == ["first"] * 2 + ["second"] * 3


def test_a_layer_makes_the_same_channels_in_all_its_calls():
    trace, layer = ChannelTrace(), layers.Dense(2)
    made = trace.make(layer, "", 2, "dense", 1)
    assert trace.make(layer, "", 2, "dense", 1) is made
    assert trace.make(layer, "out", 2, "dense/out", 3).tolist() == [2, 3]
    assert [path for path, _ in trace.producers] == ["dense", "dense/out"]
    assert trace.producers[1][1].tolist() == [2, 2, 2, 3, 3, 3]


def test_calls_that_change_a_config_must_change_it_alike():
    trace, layer = ChannelTrace(), layers.Dense(2)
    one, other, longer = (trace.units.new(n) for n in (2, 2, 3))
    trace.edit(layer, "units", one)
    trace.edit(layer, "units", other)
    assert labels(trace)[:4] == [0, 1, 0, 1]
    trace.edit(layer, "units", longer)
    assert set(why(trace)) == {"a shared layer has other channels in another call"}


def test_what_only_one_of_two_calls_changes_stays():
    trace, layer = ChannelTrace(), layers.Reshape((4,))
    trace.edit(layer, "target_shape", (trace.units.new(4),))
    trace.end_call(layer)
    trace.end_call(layer)
    trace.keep_uneven()
    assert set(why(trace)) == {"another call of a shared layer is whole"}


def test_a_step_that_leaves_channels_says_so_once():
    trace = ChannelTrace()
    assert [part.reason for part in step(trace).leave("so it is")] == ["so it is"]
    step(trace).leave("later")
    assert trace.skipped == {"net/act": "so it is"}
    assert why(trace)[:4] == ["so it is"] * 4


def test_a_step_between_whole_tensors_skips_nothing():
    trace = ChannelTrace()
    left = step(trace, layouts=[Whole("it is an input")]).leave("mixed")
    assert [part.reason for part in left] == ["mixed"]
    assert trace.skipped == {}


def test_a_kernel_reads_channels_on_their_own_axis_only():
    trace, kernel = ChannelTrace(), variable(4, 2)
    own = step(trace)
    own.read(kernel, 0, own.layout, 2)
    assert why(trace) == [None] * 4
    own.read(variable(5, 2), 0, own.layout, 1)
    assert why(trace)[0] == "'act' of class ReLU works along another axis than its " + (
        "channels'"
    )


def test_constant_channels_never_go():
    trace = ChannelTrace()
    assert step(trace).constant(2, "padding").tolist() == [4, 5]
    assert why(trace)[4:] == ["padding"] * 2


def test_arguments_have_the_names_that_the_operation_gives_them():
    trace, tensor = ChannelTrace(), keras.KerasTensor((2, 3))
    own = ChannelStep(
        operation=layers.LSTM(2),
        path="lstm",
        tensors=[tensor],
        layouts=[Whole("")],
        outputs=[tensor],
        arguments=((tensor, None), {"mask": tensor}),
        trace=trace,
    )
    assert own.named_arguments == {
        "sequences": tensor,
        "initial_state": None,
        "mask": tensor,
    }
