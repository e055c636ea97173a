"""Which samples files are compared on, and how far outputs are apart."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.errors import DataError
from penjing.proof.output_comparison import Distance, choose_samples, compare_outputs
from penjing.runtime.interpreter import TensorSpec

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("pairs", "absolute", "relative"),
    [
        ([([[1.0, 2.0]], [[1.0, 2.5]])], 0.5, 0.2),
        # The second output is small, and wrong by more than it is large.
        ([([[10.0], [0.1]], [[10.0], [0.05]])], 0.05, 1.0),
        # The scale is that of all samples.
        ([([[1.0]], [[1.5]]), ([[10.0]], [[10.0]])], 0.5, 0.05),
        ([([[0.0]], [[0.0]])], 0.0, 0.0),
        ([([[1.0]], [[0.0]])], 1.0, np.inf),
        ([([[np.nan]], [[1.0]])], np.inf, np.inf),
        ([([[np.nan]], [[np.nan]])], np.inf, np.inf),
        ([([[1.0, 1.0]], [[1.0]])], np.inf, np.inf),
    ],
)
def test_distances_as_worked_out_by_hand(pairs, absolute, relative):
    distance = Distance()
    for mine, other in pairs:
        distance.add([np.array(v) for v in mine], [np.array(v) for v in other])
    assert distance.absolute == pytest.approx(absolute)
    assert distance.relative == pytest.approx(relative)


@pytest.mark.parametrize(
    ("dtype", "steps", "share", "relative"),
    [
        ("uint8", 2, 0.05, 0.05),
        ("int8", 2, 0.05, 0.05),
        ("int16", 4, 1e-3, 1e-3),
        ("int16", 4, 0.05, 0.05),  # beside tensors of int8
        ("uint8", 3, 0.05, 0.075),
    ],
)
def test_steps_of_small_integers_are_no_large_differences(
    dtype, steps, share, relative
):
    """A wake word that is not there: 0 by one kernel, 2 of 256 by another."""
    spec = TensorSpec(name="y", shape=(1, 1), dtype=dtype, scale=1 / 256)
    distance = Distance([spec], share)
    distance.add([np.array([[steps / 256]])], [np.array([[0.0]])])
    assert distance.relative == pytest.approx(relative)
    distance.add([np.array([[0.0]])], [np.array([[20_000 / 256]])])
    assert distance.relative == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_other_numbers_of_classes_are_other_classes(dtype):
    spec = TensorSpec(name="y", shape=(1,), dtype=dtype, scale=0.0)
    for same, relative in ((True, 0.0), (False, 1.0)):
        distance = Distance([spec], 0.05)
        mine = np.array([1 if dtype == "bool" else 200], dtype)
        distance.add([mine], [mine if same else mine - np.ones(1, "uint8")])
        assert distance.relative == relative


class Reference:
    """A file in Python that doubles its input."""

    inputs = (TensorSpec(name="x", shape=(2, 3), dtype="float32"),)
    outputs = (TensorSpec(name="y", shape=(2, 3), dtype="float32"),)

    def match(self, inputs):
        return [np.asarray(inputs)]

    def predict(self, x):
        return 2 * x[0]


class Elsewhere:
    """The same file in another runtime, which is wrong at the runs that it is told."""

    inputs, outputs = Reference.inputs, Reference.outputs

    def __init__(self, wrong=()):
        self.wrong, self.runs = wrong, 0

    def feed(self, arrays):
        (self.x,) = arrays

    def run(self):
        self.runs += 1
        return [2 * self.x + (self.runs - 1 in self.wrong)]


def test_random_samples_are_whole_batches_that_differ():
    (array,) = choose_samples(Reference(), None, 5)
    assert array.shape == (6, 3)
    assert len(np.unique(array)) == array.size


@pytest.mark.parametrize(("given", "count", "used"), [(9, 5, 4), (1, 5, 2), (3, 8, 2)])
def test_real_samples_are_cut_to_whole_batches(given, count, used):
    x = np.arange(3.0 * given, dtype="float32").reshape(given, 3)
    (array,) = choose_samples(Reference(), x, count)
    np.testing.assert_array_equal(array, np.resize(x, (used, 3)))


def test_samples_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="`inputs` hold NaN or infinity"):
        choose_samples(Reference(), np.full((4, 3), np.inf, "float32"), 4)


def test_quantized_samples_cover_the_range_of_their_type():
    reference = Reference()
    scale = {"dtype": "int8", "scale": 0.5, "zero_point": 10}
    reference.inputs = (TensorSpec(name="x", shape=(64, 3), **scale),)
    (array,) = choose_samples(reference, None, 64)
    assert array.min() < 0.5 * (-128 - 10) * 0.9 and array.max() > 0.5 * 117 * 0.9


@pytest.mark.parametrize("run", range(4))
def test_each_sample_runs_twice_and_each_run_is_compared(run):
    arrays = [np.zeros((4, 3), "float32")]  # two batches
    twin, file = Elsewhere(), Elsewhere(wrong=(run,))
    found = compare_outputs([twin, file], Reference(), arrays, 0.5)
    assert (twin.runs, file.runs) == (4, 4)
    assert (found.to_twin.absolute, found.to_python.absolute) == (1.0, 1.0)
    ((given,), (gave,)), *others = found.doubtful
    assert (given.max(), gave.min(), len(others)) == (0.0, 1.0, 0)
    assert compare_outputs([file, twin], Reference(), arrays).to_python.absolute == 0.0


def test_inputs_and_outputs_are_matched_by_name():
    class Pair(Reference):
        inputs = tuple(
            TensorSpec(name=name, shape=(1,), dtype="float32") for name in "ab"
        )
        outputs = inputs

        def predict(self, x):
            return list(x)

    class Turned(Elsewhere):
        inputs = outputs = Pair.inputs[::-1]

        def feed(self, arrays):
            self.arrays = arrays

        def run(self):
            return self.arrays

    arrays = [np.array([1.0], "float32"), np.array([2.0], "float32")]
    found = compare_outputs([Turned(), Turned()], Pair(), arrays)
    assert (found.to_twin.absolute, found.to_python.absolute) == (0.0, 0.0)
