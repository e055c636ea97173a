"""What a user's arrays must be, and what a model makes of them."""

import keras
import numpy as np
import pytest

from penjing.data.data_checks import (
    check_inputs,
    check_labels,
    check_lengths,
    first_batch,
    to_array,
)
from penjing.errors import DataError


def classifier(input_shape=(4,), classes=3, dtype="float32"):
    inputs = keras.Input(input_shape, dtype=dtype, name="pixels")
    hidden = keras.layers.Flatten()(inputs)
    if dtype != "float32":
        hidden = keras.layers.Embedding(9, 2)(inputs)
        hidden = keras.layers.Flatten()(hidden)
    return keras.Model(inputs, keras.layers.Dense(classes, name="kind")(hidden))


def two_by_two(as_mapping=False):
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    both = keras.layers.concatenate([left, right])
    kind = keras.layers.Dense(4, name="kind")(both)
    value = keras.layers.Dense(1, name="value")(both)
    if as_mapping:
        return keras.Model(
            {"left": left, "right": right}, {"kind": kind, "value": value}
        )
    return keras.Model([left, right], [kind, value])


class Subclassed(keras.Model):
    """A model whose shapes are not known before it runs."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        """Give three logits."""
        return self.dense(x)


@pytest.mark.parametrize(
    "value",
    [
        [[1.0, 2.0]],
        ((1, 2),),
        np.array([[True, False]]),
        np.float16([[1, 2]]),
        keras.ops.ones((1, 2)),
        keras.ops.cast(keras.ops.ones((1, 2)), "bfloat16"),
    ],
    ids=["list", "tuple", "bool", "float16", "tensor", "bfloat16"],
)
def test_numbers_of_any_kind_become_an_array(value):
    array = to_array(value, "x")
    assert isinstance(array, np.ndarray) and array.shape == (1, 2)


@pytest.mark.once
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "`x_train` cannot be made an array"),
        (["cat"], "`x_train` must hold numbers, got dtype <U3"),
        (np.array([None]), "must hold numbers, got dtype object"),
        (np.array([1j]), "must hold numbers, got dtype complex"),
        (3, r"at least one example .* got shape \(\)"),
        (np.zeros((0, 3)), r"at least one example .* got shape \(0, 3\)"),
        ([[0, 1], [2, float("nan")]], r"1 values that are NaN .* first at \(1, 1\)"),
        ([float("inf"), float("-inf")], r"2 values that are .* infinite.* at \(0,\)"),
    ],
)
def test_what_is_not_numbers_is_refused(value, message):
    with pytest.raises(DataError, match=message):
        to_array(value, "x_train")


@pytest.mark.once
def test_different_lengths_are_named():
    with pytest.raises(DataError, match="x_train has 3, y_train has 2"):
        check_lengths({"x_train": np.zeros(3), "y_train": np.zeros(2)})
    check_lengths({"x_train": np.zeros((3, 2)), "y_train": np.zeros(3)})


@pytest.mark.once
@pytest.mark.parametrize(
    ("shape", "dtype", "x", "message"),
    [
        (
            (4,),
            "float32",
            np.zeros((2, 5)),
            r"shape \(5,\), but the model takes \(4,\)",
        ),
        (
            (4, 4, 1),
            "float32",
            np.zeros((2, 4, 4)),
            r"Add the last axis with x\[\.\.\.",
        ),
        ((4, 4, 3), "float32", np.zeros((2, 4, 4)), r"Reshape the data or choose"),
        ((4,), "int32", np.full((2, 4), 0.5), r"with fractions, .* takes int32"),
        ((4,), "float32", {"pixel": np.zeros((2, 4))}, r"'pixel'.*Give it as x_train"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(shape, dtype, x, message):
    with pytest.raises(DataError, match=message):
        check_inputs(classifier(shape, dtype=dtype), x, "train")


@pytest.mark.once
def test_inputs_that_fit_pass():
    check_inputs(classifier(), np.zeros((2, 4), np.uint8), "train")
    check_inputs(classifier(dtype="int32"), np.ones((2, 4), np.float64), "train")
    check_inputs(Subclassed(), np.zeros((2, 7)), "train")
    any_width = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(2)])
    check_inputs(any_width, np.zeros((3, 9, 2)), "train")


@pytest.mark.once
@pytest.mark.parametrize("as_mapping", [False, True])
def test_several_inputs_and_outputs_go_by_name(as_mapping):
    model = two_by_two(as_mapping)
    x = {"right": np.zeros((5, 2)), "left": np.zeros((5, 3))}
    y = {"value": np.zeros((5, 1)), "kind": np.array([0, 1, 2, 3, 3])}
    check_inputs(model, x, "test")
    check_labels(model, x, y, "test")
    with pytest.raises(
        DataError, match=r"one array, but the model has 2 inputs: 'left'"
    ):
        check_inputs(model, x["left"], "test")
    with pytest.raises(
        DataError, match="got 'left', expected 'left', 'right'.*x_test_<"
    ):
        check_inputs(model, {"left": x["left"]}, "test")
    with pytest.raises(DataError, match=r"x of test \(right\) has .* shape \(3,\)"):
        check_inputs(model, {"left": x["left"], "right": x["left"]}, "test")
    with pytest.raises(
        DataError, match="one array, but the model has 2 outputs: 'kind'"
    ):
        check_labels(model, x, y["kind"], "test")
    with pytest.raises(DataError, match=r"y of test \(kind\) has labels from 0 to 4"):
        check_labels(model, x, {**y, "kind": np.array([0, 1, 2, 3, 4])}, "test")


@pytest.mark.parametrize("model", [classifier(), Subclassed()], ids=["known", "run"])
def test_labels_are_compared_with_the_output(model):
    x = np.zeros((4, 4), np.float32)
    for good in (
        np.array([0, 1, 2, 0]),
        np.array([[0], [1], [2], [0]], np.uint8),
        np.array([0.0, 1.0, 2.0, 0.0]),
        np.eye(4, 3),
    ):
        check_labels(model, x, good, "train")
    for bad, message in (
        (np.array([0, 1, 3, 0]), r"labels from 0 to 3, .* \(3,\) allows 0 to 2"),
        (np.array([-1, 1, 2, 0]), r"labels from -1 to 2"),
        (np.array([0.5, 1, 2, 0]), r"labels with fractions"),
        (np.eye(4), r"labels of shape \(4,\), but the model's output is \(3,\)"),
        (np.zeros((4, 2, 3)), r"labels of shape \(2, 3\)"),
    ):
        with pytest.raises(DataError, match=message):
            check_labels(model, x, bad, "train")


@pytest.mark.once
def test_a_single_output_takes_any_number():
    x = np.zeros((2, 4))
    for y in (np.array([-3.5, 900.0]), np.array([[7], [8]])):
        check_labels(classifier(classes=1), x, y, "train")


@pytest.mark.once
def test_labels_per_position():
    model = keras.Sequential([keras.Input((6, 2)), keras.layers.Dense(5)])
    x = np.zeros((3, 6, 2))
    check_labels(model, x, np.full((3, 6), 4), "train")
    with pytest.raises(DataError, match=r"labels of shape \(5,\).*of shape \(6,\)"):
        check_labels(model, x, np.full((3, 5), 4), "train")
    with pytest.raises(DataError, match=r"allows 0 to 4"):
        check_labels(model, x, np.full((3, 6), 5), "train")


def test_a_subclassed_model_that_fails_says_on_what():
    model = Subclassed()
    model(np.zeros((1, 4), np.float32))
    x = np.zeros((2, 5), np.float32)
    with pytest.raises(DataError, match="model 'subclassed' fails on x of test"):
        check_labels(model, x, np.zeros(2), "test")


@pytest.mark.once
def test_the_first_batch_of_a_loader_is_named_by_the_model():
    left, right = np.zeros((2, 3)), np.zeros((2, 2))
    kind, value = np.zeros(2), np.ones((2, 1))
    for structure in (list, tuple):
        batches = [(structure([left, right]), structure([kind, value]), np.ones(2))]
        x, y = first_batch(two_by_two(), batches, "train")
        assert {name: array.shape for name, array in x.items()} == {
            "left": (2, 3),
            "right": (2, 2),
        }
        np.testing.assert_array_equal(y["value"], value)


@pytest.mark.once
@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "loader of 'test' gives no batch"),
        ([np.zeros(3)], r"must give \(x, y\).* got a ndarray\."),
        ([(np.zeros(3),)], "got a tuple of 1"),
        ([(np.array([np.nan]), np.zeros(1))], "`x_test` has 1 values that are NaN"),
    ],
)
def test_a_loader_of_something_else_is_refused(loader, message):
    with pytest.raises(DataError, match=message):
        first_batch(classifier(), loader, "test")
