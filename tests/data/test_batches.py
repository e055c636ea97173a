"""Arrays and loaders become the same batches, and what is neither is refused."""

import keras
import numpy as np
import pytest

from penjing.data.batches import (
    check_batch,
    check_trainable,
    input_batches,
    leaves,
    loader_batches,
    loader_length,
    to_arrays,
    to_batches,
)
from penjing.errors import DataError

pytestmark = pytest.mark.once

x, y = np.arange(10.0).reshape(5, 2), np.arange(5)


class Loader(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, number):
        return x[number : number + 1], y[number : number + 1]


def test_arrays_are_cut_with_a_rest_at_the_end():
    batches = to_batches(x, y, batch_size=2)
    assert batches.count == 3
    found = list(batches.stream)
    assert [len(part[0]) for part in found] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([part[1] for part in found]), y)
    assert {part[2] for part in found} == {None}


def test_structures_of_arrays_are_cut_alike_and_keep_their_order():
    given = {"second": x, "first": x + 1}
    (a, b, _), *_ = to_batches(given, [y, y], batch_size=3).stream
    assert list(a) == ["second", "first"] and isinstance(b, list)
    assert [len(leaf) for leaf in (*leaves(a), *leaves(b))] == [3] * 4


def test_a_loader_has_its_own_batches():
    batches = to_batches(Loader())
    assert batches.count == 3
    assert [float(part[0][0, 0]) for part in batches.stream] == [0.0, 2.0, 4.0]


def test_lists_of_numbers_are_one_array_and_lists_of_arrays_several():
    assert to_arrays([1, 2], "x").shape == (2,)
    assert [a.shape for a in to_arrays([x, y], "x")] == [(5, 2), (5,)]


@pytest.mark.parametrize("data", [x, [x, x], (x, x), {"a": x}])
def test_inputs_alone_are_cut_too(data):
    sizes = [
        len(keras.tree.flatten(batch)[0]) for batch in input_batches(data, 2, "data")
    ]
    assert sizes == [2, 2, 1]


def test_inputs_come_without_labels_from_a_loader():
    found = list(input_batches(iter([x, (x, y), (x, y, y)]), 2, "data"))
    assert all(batch is x for batch in found) and len(found) == 3
    assert len(list(input_batches(Loader(), 2, "data"))) == 3


def test_lists_have_labels_too_but_where_they_are_the_inputs():
    one = keras.Sequential([keras.Input((2,))])
    inputs = [keras.Input((2,)), keras.Input((2,))]
    two = keras.Model(inputs, keras.layers.Add()(inputs))
    batches = [[x], [x, y], [x, y, y], (x,)]
    assert all(b is x for b in input_batches(iter(batches), 2, "data", one))
    (found,) = input_batches(iter([[[x, x], y]]), 2, "data", two)
    assert found[0] is x
    both = [x, x]
    assert list(input_batches(iter([both]), 2, "data", two)) == [both]


@pytest.mark.parametrize("data", ["text", 3, None])
def test_what_gives_no_batches_is_refused(data):
    with pytest.raises(DataError, match="`mine` must be arrays, a data set or an it"):
        loader_batches(data, "mine")


@pytest.mark.parametrize(
    ("batch", "got"), [(x, "ndarray"), ((x,), "tuple of 1"), ([x] * 4, "list of 4")]
)
def test_a_batch_has_inputs_and_labels(batch, got):
    with pytest.raises(DataError, match=rf"The loader must give .*, got a {got}\."):
        check_batch(batch, "The loader")
    check_batch((x, y, y), "The loader")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((x, y[:4]), "x has 5, y has 4"),
        ((x[:0], y[:0]), "The data is empty"),
        ((x, None), "`y` is missing"),
        ((Loader(), y), "gives the labels itself"),
        ((iter([]),), "the loader gave no batch"),
        ((x, y, 0), "`batch_size` must be 1 or more, got 0"),
        ((x, y, 2.0), "`batch_size` must be an integer, got 2.0"),
        ((np.float32(1), y), "`x` is a single number"),
    ],
)
def test_what_makes_no_batches_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        list(to_batches(*arguments).stream)


class Repeated:
    """As `tf.data.Dataset.repeat()` gives it."""

    def cardinality(self):
        return -1

    def __iter__(self):
        return iter(Loader())


def test_what_never_ends_is_refused_with_the_way_out():
    with pytest.raises(
        DataError, match=r"Repeated never ends.*leave out `.repeat\(\)`"
    ):
        loader_length(Repeated())
    assert loader_length(Loader()) == 3
    assert loader_length(iter(())) is None


def test_iterables_that_keras_does_not_take_are_refused_for_training():
    check_trainable(Loader(), "train")
    for other in ([(x, y)], zip(x, y, strict=True), Repeated()):
        with pytest.raises(
            DataError, match="train is a .*, which Keras cannot train on"
        ):
            check_trainable(other, "train")


def test_uint64_becomes_int64_where_it_can():
    (_, labels, _), *_ = to_batches(x, y.astype(np.uint64)).stream
    assert labels.dtype == np.int64 and labels.tolist() == y.tolist()
    with pytest.raises(DataError, match="`y` is uint64 and holds 18446744073709551615"):
        to_arrays(np.array([2**64 - 1], np.uint64), "y")
