"""Units of recurrent layers own a place in every gate."""

import keras
import pytest
from keras import layers
from tests.channels.traced import groups_of, reasons, units

pytestmark = pytest.mark.once


def around(layer, shape=(6, 4)):
    inputs = keras.Input(shape)
    x = layers.Dense(5, name="made")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="read")(layer(x)))


@pytest.mark.parametrize(
    ("layer", "gates"),
    [
        (layers.SimpleRNN(3, name="rnn"), 1),
        (layers.GRU(3, name="rnn"), 3),
        (layers.LSTM(3, name="rnn"), 4),
    ],
)
def test_a_unit_has_a_place_in_every_gate(layer, gates):
    found = groups_of(around(layer))
    own, cell = found["rnn"], layer.cell.name
    assert own.size == 3 and own.reason is None
    assert units(own, f"rnn/{cell}/kernel", 1) == [0, 1, 2] * gates
    assert units(own, f"rnn/{cell}/recurrent_kernel", 0) == [0, 1, 2]
    assert units(own, f"rnn/{cell}/recurrent_kernel", 1) == [0, 1, 2] * gates
    assert units(own, "read/kernel", 0) == [0, 1, 2]
    assert units(found["made"], f"rnn/{cell}/kernel", 0) == [0, 1, 2, 3, 4]


def test_both_directions_are_cut_alike_and_joined_in_a_row():
    found = groups_of(around(layers.Bidirectional(layers.GRU(3), name="both")))
    (group,) = [g for name, g in found.items() if name.startswith("both")]
    assert group.size == 3
    assert units(group, "read/kernel", 0) == [0, 1, 2, 0, 1, 2]
    summed = layers.Bidirectional(layers.GRU(3), merge_mode="sum", name="both")
    (group,) = [g for n, g in groups_of(around(summed)).items() if "both" in n]
    assert units(group, "read/kernel", 0) == [0, 1, 2]


def test_first_states_are_tied_to_the_units():
    inputs = keras.Input((6, 4))
    state = layers.Dense(3, name="state")(inputs[:, 0])
    x = layers.GRU(3, name="rnn")(inputs, initial_state=state)
    found = groups_of(keras.Model(inputs, layers.Dense(2)(x)))
    assert found["state"].layers == ("state", "rnn")


def test_a_first_state_from_outside_keeps_the_units():
    inputs, state = keras.Input((6, 4)), keras.Input((3,))
    x = layers.GRU(3, name="rnn")(inputs, initial_state=state)
    why = reasons(keras.Model([inputs, state], layers.Dense(2)(x)))
    assert why["rnn"] == ("its first state stays whole: it is an input of the model")


def test_convolutional_ones_have_four_gates_of_filters():
    inputs = keras.Input((3, 5, 5, 2))
    x = layers.ConvLSTM2D(4, 1, name="conv")(inputs)
    x = layers.Dense(2, name="read")(layers.GlobalAveragePooling2D()(x))
    group = groups_of(keras.Model(inputs, x))["conv"]
    (kernel,) = [m for m in group.members if m.path.endswith("/kernel") and m.axis == 3]
    assert kernel.units.tolist() == [0, 1, 2, 3] * 4
    assert units(group, "read/kernel", 0) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.RNN([layers.LSTMCell(2), layers.LSTMCell(3)]), "StackedRNNCells"),
        (
            layers.Bidirectional(
                layers.GRU(2), backward_layer=layers.GRU(3, go_backwards=True)
            ),
            "has other units in each direction",
        ),
    ],
)
def test_what_is_not_followed_keeps_what_it_reads(layer, reason):
    assert reason in str(reasons(around(layer))["made"])


def test_states_between_batches_keep_the_units():
    inputs = keras.Input((6, 4), batch_size=2)
    made = layers.Dense(5, name="made")(inputs)
    x = layers.LSTM(3, stateful=True)(made)
    why = reasons(keras.Model(inputs, layers.Dense(2)(x)))
    assert "keeps its states between batches" in str(why["made"])
