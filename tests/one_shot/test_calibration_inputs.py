"""What calibration data may be, and what is said where it is nothing of that."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from penjing.errors import DataError
from penjing.one_shot.calibration_inputs import calibration_batches

ROWS = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
LABELS = np.arange(12) % 3


def one_input():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3)])


def two_inputs():
    inputs = [keras.Input((4,), name=name) for name in "ab"]
    return keras.Model(inputs, layers.Dense(2)(layers.Add()(inputs)))


class Table:
    """An array in the clothes of a data frame: iterating gives names of columns."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter("abcd")

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __getitem__(self, name):
        raise KeyError(name)


def halves(kind=list, *arrays):
    return [kind(a[part] for a in arrays) for part in (slice(6), slice(6, None))]


def weighted(kind):
    return halves(kind, ROWS, LABELS, LABELS)


FORMS = {
    "loader of lists": lambda: iter(halves(list, ROWS, LABELS)),
    "loader of weighted lists": lambda: iter(weighted(list)),
    "list of lists": lambda: halves(list, ROWS, LABELS),
    "list of tuples": lambda: halves(tuple, ROWS, LABELS),
    "table": lambda: Table(ROWS),
    "table and labels": lambda: (Table(ROWS), LABELS),
    "loader of tables": lambda: iter([Table(ROWS[:6]), Table(ROWS[6:])]),
    "numbers": lambda: ROWS.tolist(),
    "numbers and labels": lambda: (ROWS.tolist(), LABELS.tolist()),
    "loader of numbers": lambda: iter([ROWS[:6].tolist(), ROWS[6:].tolist()]),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_left_out_and_tables_and_lists_are_arrays(form):
    batches = calibration_batches(one_input(), FORMS[form]())
    np.testing.assert_allclose(np.concatenate(batches), ROWS, rtol=1e-6)


def test_a_loader_of_pytorch_gives_lists():
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    tensors = data.TensorDataset(torch.tensor(ROWS), torch.tensor(LABELS))
    batches = calibration_batches(one_input(), data.DataLoader(tensors, batch_size=5))
    np.testing.assert_array_equal(np.concatenate(batches), ROWS)


def test_lists_of_two_inputs_stay_two_inputs():
    model = two_inputs()
    for data in (
        [ROWS, ROWS],
        iter(halves(list, ROWS, ROWS)),
        halves(list, ROWS, ROWS),
        iter([([ROWS, ROWS], LABELS)]),
        {"a": ROWS.tolist(), "b": Table(ROWS)},
    ):
        for batch in calibration_batches(model, data):
            assert [a.shape[1] for a in keras.tree.flatten(batch)] == [4, 4]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([ROWS, ROWS[:5]], "same number of samples"),
        ({"a": ROWS, "b": ROWS[:5]}, "same number of samples"),
        (iter([[ROWS, ROWS[:5]]]), "same number of samples"),
        ({"a": ROWS, "b": np.float32(1)}, "single number"),
        (iter([{"a": ROWS, "b": np.float32(1)}]), "single number"),
        (np.float32(1), "single number"),
        (3.0, "must be arrays"),
        ("x.npz", "must be arrays"),
        ([], "is empty"),
        ({}, "is empty"),
        ([[1.0, 2.0], [3.0]], "must hold arrays of numbers"),
        ([1.0, None], "must hold numbers"),
    ],
)
def test_what_holds_no_samples_is_refused(data, text):
    with pytest.raises(DataError, match=text):
        calibration_batches(two_inputs(), data)
