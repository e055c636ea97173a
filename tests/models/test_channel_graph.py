"""Groups of channels, against groups found by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.models.test_channel_removal import residual

import penjing
from penjing.models.channel_graph import trace_channels

layers = keras.layers


@pytest.mark.once
def test_residual_and_concatenation_by_hand():
    graph = trace_channels(residual())
    assert [group.name for group in graph.groups] == ["stem", "side", "hidden", "head"]
    stem, side, hidden, head = graph.groups
    assert (stem.size, side.size, hidden.size, head.size) == (8, 4, 10, 5)
    assert stem.layers == ("stem", "branch")
    assert head.reason == "it is an output of the model"
    assert stem.reason is side.reason is hidden.reason is None
    found = {(member.path, member.axis): member for member in stem.members}
    assert found["branch/kernel", 2].role == "input"
    assert found["branch/kernel", 3].role == "output"
    assert found["norm/gamma", 0].role == "scale"
    flat = found["hidden/kernel", 0].units.reshape(4, 4, 12)
    np.testing.assert_array_equal(flat[2, 3], [*range(8), -1, -1, -1, -1])
    assert graph.skipped == (("head", "it is an output of the model"),)


@pytest.mark.once
def test_a_subclassed_model_is_refused_with_the_way_out():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model(np.zeros((1, 3), "float32"))
    with pytest.raises(penjing.UnsupportedModelError, match="Make it a Functional"):
        trace_channels(model)
