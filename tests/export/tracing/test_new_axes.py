"""Slices that add axes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import penjing
from penjing.export.tracing.new_axes import divide_slice

_PLACES = st.lists(
    st.sampled_from([None, slice(None), slice(1, None), slice(None, 2), 0, 1]),
    max_size=4,
)


def as_numbers(index):
    """What TensorFlow's operation is given for an index of NumPy."""
    rows, masks = (
        [],
        dict.fromkeys(
            ("begin_mask", "end_mask", "shrink_axis_mask", "ellipsis_mask"), 0
        ),
    )
    masks["new_axis_mask"] = 0
    for place, entry in enumerate(index):
        bit = 1 << place
        if entry is None:
            masks["new_axis_mask"] |= bit
            rows.append((0, 0, 1))
        elif entry is Ellipsis:
            masks["ellipsis_mask"] |= bit
            rows.append((0, 0, 1))
        elif isinstance(entry, int):
            masks["shrink_axis_mask"] |= bit
            rows.append((entry, entry + 1, 1))
        else:
            masks["begin_mask"] |= bit * (entry.start is None)
            masks["end_mask"] |= bit * (entry.stop is None)
            rows.append((entry.start or 0, entry.stop or 0, 1))
    return np.array(rows).reshape(-1, 3).T, masks


def as_index(numbers, masks):
    """The reverse, for a slice without new axes."""
    index = []
    for place, (begin, end, stride) in enumerate(numbers.T):
        if masks["ellipsis_mask"] >> place & 1:
            index.append(Ellipsis)
        elif masks["shrink_axis_mask"] >> place & 1:
            index.append(int(begin))
        else:
            begin = None if masks["begin_mask"] >> place & 1 else begin
            end = None if masks["end_mask"] >> place & 1 else end
            index.append(slice(begin, end, stride))
    return tuple(index)


@pytest.mark.once
@settings(deadline=None)
@given(_PLACES, st.none() | _PLACES)
def test_a_slice_and_then_axes_give_what_the_slice_gives(front, back):
    index = (*front, *((Ellipsis, *back) if back is not None else ()))
    taken = sum(entry is not None and entry is not Ellipsis for entry in index)
    x = np.arange(3 ** max(taken, 3)).reshape((3,) * max(taken, 3))
    divided = divide_slice(*as_numbers(index))
    if None not in index:
        assert divided is None
        return
    found = x[as_index(divided.numbers, divided.masks)]
    assert divided.takes_all == (found.shape == x.shape)
    for axis in divided.axes:
        found = np.expand_dims(found, axis)
    np.testing.assert_array_equal(found, x[index])


@keras.saving.register_keras_serializable("penjing-tests")
class MaskedScores(layers.Layer):
    """Scores of each pair of positions, with a mask for all heads."""

    def call(self, x, mask):
        scores = ops.einsum("bqh,bkh->bqk", x[:, 1:], x)
        heads = ops.stack([scores, 2 * scores], axis=1)
        pairs = mask[:, :, None] * mask[:, None, :]
        return ops.softmax(heads - 9.0 * (1.0 - pairs[:, None, 1:, :]), axis=-1)


@pytest.mark.parametrize("length", [None, 6])
def test_a_mask_for_all_heads_converts_for_any_length(length, tmp_path):
    x, mask = keras.Input((length, 4), name="x"), keras.Input((length,), name="mask")
    scores = MaskedScores()(layers.Dense(4)(x), mask)
    model = keras.Model([x, mask], ops.sum(scores, axis=1))
    generator = np.random.default_rng(0)
    data = [generator.normal(size=(8, 6, 4)), generator.integers(0, 2, (8, 6))]
    data = [array.astype("float32") for array in data]
    path = penjing.export_litert(model, tmp_path / "m.tflite", representative_data=data)
    np.testing.assert_allclose(
        penjing.LiteRTModel(path).predict(data),
        ops.convert_to_numpy(model(data)),
        atol=1e-5,
    )
