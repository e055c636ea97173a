"""What reads constants alone is a constant in the model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.specializing.graphs import Graph

import penjing
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record


def test_operators_on_constants_are_computed_once(tmp_path):
    graph = Graph()
    x = graph.tensor([1, 400])
    size, number = graph.constant([1, 400], "i4"), graph.constant(0.5)
    filled = graph.tensor([1, 400])
    graph.add(Operator.FILL, [size, number], filled, Record("FillOptions"))
    other = graph.tensor([1, 400])
    graph.add(Operator.EXP, [filled], other, Record("ExpOptions"))
    y = graph.tensor([1, 400])
    graph.add(Operator.ADD, [x, other], y, Record("AddOptions"))
    path = tmp_path / "filled.tflite"
    path.write_bytes(graph.content([x], [y]))
    model = penjing.load_litert(path)
    assert model.input_shape == (None, 400)
    given = keras.ops.convert_to_numpy(model(np.zeros((2, 400), "f4")))
    np.testing.assert_allclose(given, np.full((2, 400), np.exp(0.5)), rtol=1e-6)


@pytest.mark.once
def test_chance_without_inputs_is_refused_with_its_name(tmp_path):
    graph = Graph()
    x = graph.tensor([1, 4])
    size = graph.constant([1, 4], "i4")
    drawn = graph.add(
        Operator.RANDOM_UNIFORM, [size], graph.tensor([1, 4]), Record("RandomOptions")
    )
    y = graph.add(Operator.ADD, [x, drawn], graph.tensor([1, 4]), Record("AddOptions"))
    path = tmp_path / "chance.tflite"
    path.write_bytes(graph.content([x], [y]))
    with pytest.raises(penjing.UnsupportedModelError, match="RANDOM_UNIFORM"):
        penjing.load_litert(path)
