"""Constants are known behind what unpacks them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.shrinking.graphs_by_hand import dense_chain, operate, tensor

from penjing.shrinking.graph_walk import GraphWalk
from penjing.tflite.operators import Operator

pytestmark = pytest.mark.once


def test_the_walk_leaves_out_what_unpacks_constants_and_knows_what_is_in_them():
    model = dense_chain(Operator.DEQUANTIZE)
    packed, unpacked = tensor(model, [2, 1], [4, 5]), tensor(model, [2, 1])
    operate(model, Operator.DEQUANTIZE, [packed], unpacked)
    operate(model, Operator.NEG, [unpacked], tensor(model, [2, 1]))
    walk = GraphWalk(model, 0)
    assert walk.source(unpacked) is None
    codes = [call.code for call in walk.calls()]
    dense = Operator.FULLY_CONNECTED
    assert codes == [dense, Operator.DEQUANTIZE, dense, Operator.NEG]
    assert walk.source(unpacked) == walk.source(packed) == packed
    np.testing.assert_array_equal(walk.values(walk.source(unpacked)), [[4], [5]])
    assert walk.source(0) is None and walk.source(-1) is None


def test_a_tensor_without_axes_has_one_value():
    model = dense_chain(Operator.RELU)
    number = tensor(model, [])
    walk = GraphWalk(model, 0)
    assert walk.last(number) == 1 and walk.shape(1) == (6, 4)
