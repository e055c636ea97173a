"""Calls of a graph come in their order, by names, with nested graphs opened up."""

import keras
import pytest
from keras import layers

from penjing.models.graph_flow import as_graph, follow_graph, is_plain_graph, trace_flow

pytestmark = pytest.mark.once


def nested():
    part = keras.Input((4,))
    block = keras.Model(part, layers.ReLU(name="relu")(part), name="block")
    inputs = keras.Input((4,), name="image")
    shared = layers.Dense(4, name="shared")
    return keras.Model(inputs, shared(block(shared(inputs))))


def test_calls_have_names_and_take_those_before_them():
    flow = trace_flow(nested())
    assert [(call.source, call.inputs) for call in flow.calls] == [
        ("shared", ("input_0",)),
        ("block/relu", ("shared",)),
        ("shared:2", ("block/relu",)),
    ]
    assert (flow.inputs, flow.outputs) == (("input_0",), ("shared:2",))
    assert flow.floating == {"input_0", "shared", "block/relu", "shared:2"}


def test_readers_of_a_tensor_are_known():
    readers = trace_flow(nested()).consumers()
    assert {name: [c.source for c in calls] for name, calls in readers.items()} == {
        "input_0": ["shared"],
        "shared": ["block/relu"],
        "block/relu": ["shared:2"],
    }


def test_integers_are_no_floats():
    inputs = keras.Input((3,), dtype="int32")
    flow = trace_flow(keras.Model(inputs, layers.Embedding(5, 2, name="words")(inputs)))
    assert flow.floating == {"words"}


def test_a_model_with_code_of_its_own_is_no_graph():
    class Own(keras.Model):
        def call(self, x):
            return x

    model = Own()
    model.build((None, 2))
    assert as_graph(model) is None and trace_flow(model) is None
    assert as_graph(keras.Sequential([layers.Dense(2)])) is None  # not built
    assert as_graph(layers.Dense(2)) is None


def test_a_graph_runs_on_whatever_stands_for_its_tensors():
    seen = []

    def visit(node, values, prefix):
        seen.append(f"{prefix}{node.operation.name}")
        return [values[0] + 1]

    entered = []
    found = follow_graph(
        as_graph(nested()), [10], visit, lambda graph, values: entered.append(values)
    )
    assert found == [13]
    assert seen == ["shared", "block/relu", "shared"]
    assert entered == [[11]]


def test_a_graph_is_plain_where_no_class_of_ones_own_is_in_it():
    class Mine(keras.Sequential):
        pass

    assert is_plain_graph(nested())
    assert not is_plain_graph(Mine([layers.Dense(2)]))
    assert not is_plain_graph(keras.Sequential([Mine([layers.Dense(2)])]))
