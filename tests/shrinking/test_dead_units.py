"""Units that add nothing go, all others stay, and outputs stay what they were."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.tflite import tflite_writer as writer

import penjing
from penjing.shrinking.dead_units import remove_dead_units
from penjing.tflite.constant_shapes import flattening_edits, fold_shapes
from penjing.tflite.loading import load_records
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once

LAYERS = keras.layers


def filled(model, seed=0):
    """Random weights everywhere: every unit lives, biases are positive."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        values = generator.normal(size=weight.shape) * 0.4
        weight.assign(np.abs(values) + 0.1 if len(weight.shape) == 1 else values)
    return model


def silence(layer, units, bias):
    """Units of a layer without weights, with this bias."""
    kernel, biases = (w.numpy() for w in layer.weights)
    kernel[..., units], biases[units] = 0, bias
    layer.set_weights([kernel, biases])


def mute(layer, places):
    """Inputs of a layer that it gives no weight."""
    kernel, *rest = (w.numpy() for w in layer.weights)
    kernel[..., places, :] = 0
    layer.set_weights([kernel, *rest])


def taken(content, level="folded"):
    """The file after the edit alone, and the number of units."""
    model = load_records(content, "it")
    count = remove_dead_units(model, level)
    return write_records(model), count


def outputs(folder, content, x):
    path = folder / "model.tflite"
    path.write_bytes(content)
    return penjing.LiteRTModel(path).predict(x, batch_size=7)


def shapes(content):
    """Shapes of the constants of two axes and more."""
    model = load_records(content, "it")
    return sorted(
        tuple(map(int, t["shape"]))
        for t in model["subgraphs"][0]["tensors"]
        if len(t["shape"]) > 1 and len(model["buffers"][t["buffer"]]["data"])
    )


def samples(*shape):
    return np.random.default_rng(5).normal(size=shape).astype("float32")


def check_same(folder, before, after, x, rtol=1e-5):
    expected = outputs(folder, before, x)
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(outputs(folder, after, x), expected, atol=atol)


# Chains of dense layers


def dense_model():
    """Of 12 units 0 and 1 give 0, 2, 3 and 11 a constant; nobody reads 4, 5 and 11."""
    model = filled(
        keras.Sequential(
            [
                keras.Input((9,)),
                LAYERS.Dense(12, activation="relu"),
                LAYERS.Dense(10, activation="tanh"),
                LAYERS.Dense(3),
            ]
        )
    )
    first, second, _ = model.layers
    silence(first, [0], -0.5)
    silence(first, [1], 0.0)
    silence(first, [2, 3, 11], 0.7)
    mute(second, [4, 5, 11])
    return model


@pytest.mark.parametrize(
    "level, units, kept",
    [("zero", 2, 10), ("constant", 3, 9), ("unread", 5, 7), ("folded", 7, 5)],
)
def test_of_a_dense_layer_goes_what_the_level_allows(tmp_path, level, units, kept):
    before = writer.convert(dense_model())
    after, count = taken(before, level)
    assert count == units
    assert shapes(after) == sorted([(kept, 9), (10, kept), (3, 10)])
    check_same(tmp_path, before, after, samples(40, 9))


def test_a_removal_that_silences_the_next_layer_goes_on(tmp_path):
    """Unit 6 of the second layer reads units of the first that are 0, and no other."""
    model = dense_model()
    kernel, biases = (w.numpy() for w in model.layers[1].weights)
    kernel[2:, 6], biases[6] = 0, 0.3
    model.layers[1].set_weights([kernel, biases])
    before = writer.convert(model)
    after, count = taken(before)
    assert count == 8
    assert shapes(after) == sorted([(5, 9), (9, 5), (3, 9)])
    check_same(tmp_path, before, after, samples(40, 9))


def test_dead_chains_go_back_to_their_first_unit():
    """Units that feed only a unit that nobody reads are read by nobody."""
    model = filled(dense_model())
    mute(model.layers[2], [1, 2])
    first = np.ones((12, 10), bool)
    first[7, [0, *range(3, 10)]] = False  # unit 7 feeds units 1 and 2 only
    kernel, biases = (w.numpy() for w in model.layers[1].weights)
    model.layers[1].set_weights([kernel * first, biases])
    after, count = taken(writer.convert(model))
    assert count == 3
    assert shapes(after) == sorted([(11, 9), (8, 11), (3, 8)])


def test_nothing_that_lives_goes_and_a_second_time_finds_nothing(tmp_path):
    alive = writer.convert(filled(dense_model()))
    assert taken(alive)[1] == 0
    after, _ = taken(writer.convert(dense_model()))
    assert taken(after)[1] == 0


def test_one_unit_of_each_layer_stays(tmp_path):
    model = dense_model()
    silence(model.layers[0], list(range(12)), -1.0)
    before = writer.convert(model)
    after, count = taken(before)
    assert count == 11 + 9
    assert shapes(after) == [(1, 1), (1, 9), (3, 1)]
    check_same(tmp_path, before, after, samples(8, 9))


def test_random_masks_leave_exactly_the_units_of_an_own_count(tmp_path):
    """The twin: follow the arrays of the model, forwards and backwards."""
    for seed in range(3):
        model = filled(dense_model(), seed)
        generator = np.random.default_rng(seed)
        arrays = [w.numpy() for w in model.weights]
        for n in (0, 2, 4):
            arrays[n] *= generator.random(arrays[n].shape) < 0.12
        arrays[1] *= generator.choice([-1, 1], 12)
        model.set_weights(arrays)
        before = writer.convert(model)
        after, count = taken(before, "unread")
        assert count == dead_by_hand(arrays)
        check_same(tmp_path, before, after, samples(20, 9))


def dead_by_hand(arrays):
    a, a_bias, b, _, c, _ = (np.array(v) for v in arrays)
    alive = [np.ones(12, bool), np.ones(10, bool)]
    for _ in range(20):
        zero = ~(a != 0).any(axis=0) & (a_bias <= 0)
        read = (b[:, alive[1]] != 0).any(axis=1)
        alive[0] &= ~zero & read
        alive[1] &= (c != 0).any(axis=1)
    return sum(max(int((~part).sum()), 0) - (not part.any()) for part in alive)


# Convolutions


def conv_model(padding, between=()):
    return filled(
        keras.Sequential(
            [
                keras.Input((12, 12, 2)),
                LAYERS.Conv2D(8, 3, padding="same", activation="relu"),
                LAYERS.MaxPooling2D(),
                *between,
                LAYERS.Conv2D(6, 3, padding=padding, activation="relu"),
                LAYERS.GlobalAveragePooling2D(),
                LAYERS.Dense(3),
            ]
        )
    )


@pytest.mark.parametrize("padding, units", [("valid", 4), ("same", 3)])
def test_constants_go_into_biases_only_without_padding(tmp_path, padding, units):
    model = conv_model(padding)
    silence(model.layers[0], [1], -0.2)
    silence(model.layers[0], [3], 0.9)  # a border of zeros would surround it
    mute(model.layers[2], [5])
    silence(model.layers[2], [0], 0.6)  # constant up to the dense layer
    before = writer.convert(model)
    after, count = taken(before)
    assert count == units
    assert (5, 3, 3, 9 - units) in shapes(after)
    check_same(tmp_path, before, after, samples(9, 12, 12, 2))


def test_padding_between_layers_keeps_all_constants_but_zero(tmp_path):
    model = conv_model("valid", [LAYERS.ZeroPadding2D()])
    silence(model.layers[0], [1], -0.2)
    silence(model.layers[0], [3], 0.9)
    before = writer.convert(model)
    after, count = taken(before)
    assert count == 1
    check_same(tmp_path, before, after, samples(9, 12, 12, 2))


def residual_model():
    x = keras.Input((6, 6, 2))
    a = LAYERS.Conv2D(8, 1, name="a")(x)
    b = LAYERS.Conv2D(8, 3, padding="same", name="b")(a)
    c = LAYERS.ReLU()(LAYERS.Add()([a, b]))
    d = LAYERS.Concatenate()([c, LAYERS.Conv2D(4, 1, name="d")(x)])
    e = LAYERS.DepthwiseConv2D(3, name="e", activation="relu")(d)
    return filled(keras.Model(x, LAYERS.Conv2D(3, 1, name="f")(e)))


def test_the_sum_of_two_layers_goes_only_where_both_are_silent(tmp_path):
    model = residual_model()
    silence(model.get_layer("a"), [1, 2], 0.0)
    silence(model.get_layer("b"), [2, 3], -0.5)
    silence(model.get_layer("d"), [0], 0.0)
    kernel, biases = (w.numpy() for w in model.get_layer("e").weights)
    biases[[1, 2, 3, 8]] = 0  # behind the kernel of each channel
    kernel[:, :, 11] = 0  # channel 3 of d: the depthwise kernel makes it constant
    model.get_layer("e").set_weights([kernel, biases])
    before = writer.convert(model)
    after, count = taken(before)
    assert count == 3  # unit 2 of a + b, units 0 and 3 of d
    assert (1, 3, 3, 9) in shapes(after)
    check_same(tmp_path, before, after, samples(9, 6, 6, 2))


def test_units_that_nobody_reads_behind_a_sum_go_everywhere(tmp_path):
    model = residual_model()
    mute(model.get_layer("f"), [4, 9])
    before = writer.convert(model)
    # Unit 4 of a is read by b too.
    assert taken(before)[1] == 1
    mute(model.get_layer("b"), [4])
    before = writer.convert(model)
    after, count = taken(before)
    assert count == 2
    check_same(tmp_path, before, after, samples(9, 6, 6, 2))


def flattened_model():
    return filled(
        keras.Sequential(
            [
                keras.Input((8, 8, 2)),
                LAYERS.Conv2D(6, 3, activation="relu"),
                LAYERS.Conv2D(5, 3, activation="relu"),
                LAYERS.Flatten(),
                LAYERS.Dense(7, activation="relu"),
                LAYERS.Reshape((7, 1)),
                LAYERS.Flatten(),
                LAYERS.Dense(3),
            ]
        )
    )


@pytest.mark.parametrize("samples_shape", [None, (40, 8, 8, 2)])
def test_channels_go_from_what_is_flattened_behind_them(tmp_path, samples_shape):
    model = flattened_model()
    silence(model.layers[1], [1], 0.5)
    kernel, biases = (w.numpy() for w in model.layers[3].weights)
    kernel.reshape(4, 4, 5, 7)[:, :, 2] = 0
    kernel.reshape(4, 4, 5, 7)[:, 1:, 3] = 0  # read in the first column yet
    model.layers[3].set_weights([kernel, biases])
    if samples_shape:
        before = writer.convert(model, "DEFAULT", samples=samples(*samples_shape))
    else:
        before = writer.convert(model)
    records = load_records(before, "it")
    assert remove_dead_units(records) == 0  # the converter computes the shape
    fold_shapes(records)
    assert remove_dead_units(records) == 2
    after = write_records(records)
    assert {(3, 3, 3, 6), (7, 48)} <= set(shapes(after))
    for x in (samples(9, 8, 8, 2), samples(1, 8, 8, 2)):
        check_same(tmp_path, before, after, x, rtol=0 if samples_shape else 1e-5)
    for edit in flattening_edits(records)[:1]:
        edit(records)
    check_same(tmp_path, before, write_records(records), samples(9, 8, 8, 2))


# Integers


@pytest.mark.parametrize("padding, units", [("valid", 5), ("same", 4)])
def test_integer_files_stay_the_same_bit_by_bit(tmp_path, padding, units):
    model = conv_model(padding)
    silence(model.layers[0], [1, 2], -0.2)
    silence(model.layers[0], [3], 0.9)
    mute(model.layers[2], [5])
    silence(model.layers[2], [0], 0.6)
    before = writer.convert(model, "DEFAULT", samples=samples(40, 12, 12, 2))
    after, count = taken(before)
    assert count == units
    x = samples(50, 12, 12, 2) * 2
    expected = outputs(tmp_path, before, x)
    np.testing.assert_array_equal(outputs(tmp_path, after, x), expected)


def test_float16_weights_go_with_their_units(tmp_path):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(dense_model())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    before = converter.convert()
    after, count = taken(before)
    assert count == 5  # biases of float16 take up no constants
    check_same(tmp_path, before, after, samples(20, 9), rtol=1e-4)


# The whole step


@pytest.mark.parametrize(
    "options, units",
    [
        ((), 43),
        # Its kernels round in steps of the largest unit, which a live one may be.
        (("DEFAULT",), 41),
    ],
)
def test_the_step_reports_units_and_bytes(tmp_path, options, units):
    model = filled(
        keras.Sequential(
            [
                keras.Input((40,)),
                LAYERS.Dense(64, activation="relu"),
                LAYERS.Dense(48, activation="relu"),
                LAYERS.Dense(3),
            ]
        )
    )
    silence(model.layers[0], list(range(10, 50)), -0.1)
    mute(model.layers[1], [2, 3, 5])
    silence(model.layers[0], [5], 0.01)
    path, out = tmp_path / "model.tflite", tmp_path / "out.tflite"
    path.write_bytes(writer.convert(model, *options))
    report = penjing.shrink_litert(path, out)
    step = next(s for s in report.steps if s.name == "dead units")
    assert step.note == f"{units} units"
    assert step.raw > 2000 and step.gzip > 0
    assert report.raw_after < 0.7 * report.raw_before
    x = samples(30, 40)
    expected = penjing.LiteRTModel(path).predict(x)
    actual = penjing.LiteRTModel(out).predict(x)
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())
