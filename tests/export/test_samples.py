"""Reads representative data in every shape that users have it in."""

from __future__ import annotations

import itertools
import warnings
from collections import OrderedDict

import keras
import numpy as np
import pytest

import penjing
from penjing.errors import DataError
from penjing.export.samples import (
    random_samples,
    representative_samples,
    without_spread,
)
from penjing.models.signature import InputSignature, ModelInput, input_signature

ONE = InputSignature(
    inputs=(ModelInput(name="x", shape=(None, 3), dtype="float32"),), structure=0
)
TWO = InputSignature(
    inputs=(
        ModelInput(name="a", shape=(None, 3), dtype="float32"),
        ModelInput(name="b", shape=(None, None), dtype="int32"),
    ),
    structure=[0, 1],
)
X = np.arange(30, dtype="float64").reshape(10, 3)
B = np.arange(20).reshape(10, 2)
Y = np.zeros(10)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]


ONE_INPUT = {
    "array": lambda: X,
    "list of one": lambda: [X],
    "dict": lambda: {"x": X},
    "tensor": lambda: keras.ops.convert_to_tensor(X.astype("float32")),
    "nested numbers": lambda: X.tolist(),
    "batches": lambda: [X[:4], X[4:]],
    "pairs": lambda: iter([(X[:4], Y[:4]), (X[4:], Y[4:])]),
    "lists, as loaders give": lambda: iter([[X[:4], Y[:4]], [X[4:], Y[4:]]]),
    "weighted": lambda: iter([(X, Y, Y)]),
    "with labels": lambda: (X, Y),
    "with targets like it": lambda: (X, 1000 + X, Y),
    "function": lambda: lambda: iter([[row[None]] for row in X]),
    "PyDataset": lambda: Batches(),
}
TWO_INPUTS = {
    "list": lambda: [X, B],
    "tuple": lambda: (X, B),
    "dict": lambda: {"b": B, "a": X},
    "batches": lambda: iter([[X[:4], B[:4]], [X[4:], B[4:]]]),
    "pairs": lambda: iter([((X[:4], B[:4]), Y[:4]), ((X[4:], B[4:]), Y[4:])]),
    "dicts": lambda: iter([({"a": X, "b": B}, Y)]),
}


@pytest.mark.parametrize("kind", ONE_INPUT)
def test_one_input(kind):
    (samples,) = representative_samples(ONE_INPUT[kind](), ONE)
    assert samples.dtype == np.float32
    assert samples.tolist() == X.tolist()


@pytest.mark.parametrize("kind", TWO_INPUTS)
def test_two_inputs(kind):
    a, b = representative_samples(TWO_INPUTS[kind](), TWO)
    assert (a.dtype, b.dtype) == (np.float32, np.int32)
    assert a.tolist() == X.tolist()
    assert b.tolist() == B.tolist()


@pytest.mark.once
def test_a_tf_data_set():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3).repeat()
    (samples,) = representative_samples(data, ONE, limit=20)
    assert samples.tolist() == np.concatenate([X, X]).tolist()


def test_arrays_are_thinned_evenly_and_endless_data_ends():
    (samples,) = representative_samples(X, ONE, limit=4)
    assert samples[:, 0].tolist() == [0, 9, 18, 27]
    (samples,) = representative_samples(itertools.repeat(X), ONE, limit=15)
    assert len(samples) == 15
    with pytest.raises(DataError, match="at least 1"):
        representative_samples(itertools.repeat(X[:0]), ONE, limit=5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X[:, :2], r"shape \(samples, 3\), but .* \(10, 2\)"),
        ([X[0], X[1]], "must be batched"),
        (X[:0], "at least 1"),
        ([], "no batches"),
        (iter([]), "no batches"),
        ({"y": X}, r"keys \['y'\], but the model has the inputs \['x'\]"),
        (np.full((2, 3), np.nan), "holds NaN or infinity"),
        (np.full((2, 3), "a"), "must be numbers"),
        ("data.npz", "got str"),
        (3, "got int"),
    ],
)
def test_data_that_does_not_fit_one_input_is_refused(data, message):
    with pytest.raises(DataError, match=message):
        representative_samples(data, ONE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 0.5], "from 0 to 0.5 in fractions, and the input takes whole .* uint8"),
        ([0, 256], "from 0 to 256, and"),
        ([-1.0, 3.0], "from -1 to 3, and"),
    ],
)
def test_numbers_that_an_input_cannot_hold_are_refused(values, message):
    item = ModelInput(name="x", shape=(None, 1), dtype="uint8")
    signature = InputSignature(inputs=(item,), structure=0)
    with pytest.raises(DataError, match=message):
        representative_samples(np.array(values)[:, None], signature)
    (found,) = representative_samples(np.array([[0.0], [255.0]]), signature)
    assert found.dtype == np.uint8 and found.max() == 255


def test_a_batch_may_be_larger_than_all_samples(tmp_path):
    model = keras.Sequential(
        [keras.Input(batch_shape=(8, 3)), keras.layers.Dense(2, activation="relu")]
    )
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    for settings in ({}, {"observer": "mse"}):
        path = penjing.export_litert(
            model, tmp_path / "m.tflite", "int8", representative_data=x, **settings
        )
        whole = np.resize(x, (8, 3))
        found = penjing.LiteRTModel(path).predict(whole)
        wanted = keras.ops.convert_to_numpy(model(whole))
        np.testing.assert_allclose(found, wanted, atol=0.1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, "has 2 inputs .*holds 1"),
        ([X, B[:3]], "same number of samples"),
        (iter([[X, B], [X, B[:, :1]]]), "different shapes. Pad them"),
    ],
)
def test_data_that_does_not_fit_two_inputs_is_refused(data, message):
    with pytest.raises(DataError, match=message):
        representative_samples(data, TWO)


def test_inputs_without_spread_are_told_by_name():
    signature = input_signature(
        keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(1)])
    )
    (note,) = without_spread([np.full((4, 3), 0.5, "f4")], signature)
    assert "for the input `x` are equal (0.5)" in note and "Give real inputs" in note
    assert without_spread([np.eye(3, dtype="f4")], signature) == []
    assert without_spread([np.zeros((4, 3), "i4")], signature) == []


@pytest.mark.parametrize("mode", ["int8", "dynamic"])
def test_data_without_spread_is_warned_of_where_it_gives_ranges(mode, tmp_path):
    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = np.zeros((4, 3), "f4")
        path = tmp_path / "f.tflite"
        penjing.export_litert(model, path, mode, representative_data=data, verify=False)
    told = [str(w.message) for w in caught if "`x` are equal (0)" in str(w.message)]
    assert len(told) == (mode == "int8")


def test_random_inputs_are_seeded_and_stay_in_the_vocabulary():
    ids = keras.Input((50,), dtype="int32", name="ids")
    free = keras.Input((None, 2), name="free")
    flags = keras.Input((4,), dtype="bool", name="flags")
    pooled = keras.layers.Flatten()(keras.layers.Embedding(5, 2)(ids))
    model = keras.Model([ids, free, flags], [pooled, free, flags])
    signature = input_signature(model)
    first = random_samples(signature, model, 6)
    second = random_samples(signature, model, 6)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert set(np.unique(first[0])) == {0, 1, 2, 3, 4}
    assert [a.shape for a in first] == [(6, 50), (6, 32, 2), (6, 4)]
    assert [a.dtype.name for a in first] == ["int32", "float32", "bool"]


def test_inputs_are_taken_as_the_model_itself_takes_them():
    inputs = {
        "hours-per-week": keras.Input((2,), name="hours-per-week"),
        "meta": {"age (years)": keras.Input((1,), name="age (years)")},
    }
    parts = [inputs["hours-per-week"], inputs["meta"]["age (years)"]]
    model = keras.Model(inputs, keras.layers.Concatenate()(parts))
    signature = input_signature(model)
    data = {
        "meta": {"age (years)": np.ones((6, 1))},
        "hours-per-week": np.zeros((6, 2)),
    }
    assert keras.ops.shape(model(data)) == (6, 3)
    found = representative_samples(data, signature)
    assert [array.shape for array in found] == [(6, 2), (6, 1)]
    names = [item.name for item in signature.inputs]
    flat = dict(zip(names, found, strict=True))
    np.testing.assert_equal(representative_samples(flat, signature), found)


@pytest.mark.parametrize("kind", [dict, OrderedDict])
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_inputs_of_a_mapping_are_taken_by_their_keys(kind, order):
    inputs = kind((name, keras.Input((2,), name=name)) for name in order)
    model = keras.Model(inputs, keras.layers.Concatenate()([*inputs.values()]))
    signature = input_signature(model)
    values = {"a": np.zeros((4, 2)), "b": np.ones((4, 2))}
    for data in (values, OrderedDict((n, values[n]) for n in reversed(order))):
        for given in (data, (data, np.zeros(4))):
            found = representative_samples(given, signature)
            for item, array in zip(signature.inputs, found, strict=True):
                np.testing.assert_array_equal(array, values[item.name])
