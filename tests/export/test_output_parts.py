"""Parts of one output that one scale cannot hold."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import penjing
from penjing.errors import ExportError
from penjing.export.output_parts import Part, columns_of, part_errors

once = pytest.mark.once
X = np.random.default_rng(0).normal(size=(40, 8)).astype("float32")


def detector(join):
    """Boxes in pixels and scores from 0 to 1, as `join` puts them together."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    hidden = layers.Dense(16, activation="relu")(inputs)
    boxes = layers.Rescaling(150.0)(layers.Dense(4)(hidden))
    return keras.Model(inputs, join(boxes, layers.Dense(2, "sigmoid")(hidden)))


def in_training(model):
    return penjing.quantize_aware(model, activations="int8", calibration_data=X)


@once
@pytest.mark.parametrize("prepare", [lambda model: model, in_training])
@pytest.mark.parametrize(
    ("join", "where"),
    [
        (lambda boxes, scores: ops.concatenate([boxes, scores], 1), "columns 4 to 5 "),
        (
            lambda boxes, scores: ops.stack([boxes[:, 0], scores[:, 0]], -1),
            "column 1 ",
        ),
    ],
)
def test_scores_beside_boxes_are_refused_by_their_place(join, where, prepare, tmp_path):
    with pytest.raises(ExportError) as caught:
        penjing.export_litert(
            prepare(detector(join)),
            tmp_path / "m.tflite",
            "int8",
            representative_data=X,
        )
    message = str(caught.value)
    assert f"output 0, the part in {where}" in message
    assert "outputs of their own" in message
    assert 'use "int16x8"' in message
    assert not list(tmp_path.iterdir())


@once
def test_what_the_refusal_advises_helps(tmp_path):
    joined = detector(lambda boxes, scores: ops.concatenate([boxes, scores], 1))
    apart = detector(lambda boxes, scores: {"boxes": boxes, "scores": scores})
    path = tmp_path / "m.tflite"
    penjing.export_litert(joined, path, "int16x8", representative_data=X)
    penjing.export_litert(apart, path, "int8", representative_data=X)


@once
def test_parts_that_are_joined_more_than_once_are_told_apart(tmp_path):
    def join(boxes, scores):
        near = ops.concatenate([boxes[:, :2], boxes[:, 2:]], 1)
        return ops.reshape(ops.concatenate([near, scores], 1), (-1, 1, 6))

    with pytest.raises(ExportError, match="the part in columns 4 to 5 "):
        penjing.export_litert(
            detector(join), tmp_path / "m.tflite", "int8", representative_data=X
        )


@once
def test_a_column_of_one_tensor_that_is_lost_is_named(tmp_path):
    dense = layers.Dense(3)
    model = keras.Sequential([keras.Input((8,)), dense])
    kernel = np.random.default_rng(1).normal(size=(8, 3))
    dense.set_weights([kernel * [500, 500, 0.5], np.zeros(3)])
    with pytest.raises(ExportError, match=r"the part in column 2 is off by \d"):
        penjing.export_litert(
            model, tmp_path / "m.tflite", "int8", representative_data=X
        )


def test_columns_that_nothing_is_lost_in_are_not_judged():
    wanted = X.copy()
    assert columns_of(wanted) == []
    wanted[:, 3] = 0.0
    wanted[:, 4] *= 1e-7
    wanted[:, 5] = 0.01 + 1e-6 * wanted[:, 5]
    wanted[:, 6] *= 0.1
    assert [part.start for part in columns_of(wanted)] == [3, 4, 5]
    ((error, part),) = part_errors(wanted + 1e-3, wanted, columns_of(wanted))
    assert part.start == 5
    assert error == pytest.approx(0.2, rel=0.01)  # of half its size
    assert columns_of(np.abs(wanted) / 10) == []  # probabilities have a grid
    assert columns_of(np.zeros((4, 100)) - 1) == []


def test_each_part_is_measured_by_its_own_spread():
    wanted = np.stack([1000 * X[:, 0], X[:, 1]], -1)
    parts = [Part(axis=-1, start=i, stop=i + 1, name="bs"[i]) for i in (0, 1)]
    (worst, part), (least, _) = part_errors(wanted + 2, wanted, parts)
    assert worst == pytest.approx(2 / X[:, 1].std(), rel=1e-5)
    assert least == pytest.approx(worst / 1000, rel=0.5)
    assert str(part) == "the part in column 1 (from 's')"
    assert str(Part(axis=-2, start=0, stop=8)) == "the part in axis -2, 0 to 7"


@once
def test_what_where_and_stack_choose_among_shares_one_range(tmp_path):
    inputs = keras.Input((8,))
    a, b = layers.Dense(6, "sigmoid")(inputs), layers.Dense(6)(inputs)
    both = ops.stack([ops.where(b > 0.5, a, b), b], axis=1)
    model = in_training(keras.Model(inputs, layers.Dense(3)(both)))
    assert list(model.activations.plan.in_float) == ["greater"]
    penjing.export_litert(model, tmp_path / "m.tflite", "int8")
