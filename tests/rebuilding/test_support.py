"""Damaged and greedy files are refused in words, before anything is built."""

from __future__ import annotations

import numpy as np
import pytest
from tests.specializing.graphs import Graph

import penjing
from penjing.rebuilding import litert_loading, support
from penjing.rebuilding.source_graph import SourceGraph
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once


def sums(count, values=4):
    """Additions of one constant, again and again."""
    graph = Graph()
    x = start = graph.tensor([1, values])
    shared = graph.constant(np.ones((1, values)))
    for _ in range(count):
        x = graph.add(
            Operator.ADD, [x, shared], graph.tensor([1, values]), Record("AddOptions")
        )
    return graph, start, x


def rebuilt(graph, start, end):
    return litert_loading.rebuild(graph.content([start], [end]), "file")


def test_a_file_without_a_graph_is_refused():
    model = Record("Model", version=3, subgraphs=[], buffers=[Record("Buffer")])
    with pytest.raises(penjing.FileFormatError, match="it has no graph"):
        litert_loading.rebuild(write_records(model), "file")


@pytest.mark.parametrize("code", [Operator.ADD, Operator.DEQUANTIZE])
def test_an_operator_that_gives_nothing_is_refused(code):
    graph, start, end = sums(1)
    graph.add(code, [end], graph.tensor([1, 4]))
    graph.graph["operators"][-1]["outputs"] = np.zeros(0, "<i4")
    with pytest.raises(penjing.FileFormatError, match=f"{code.name} .* gives nothing"):
        rebuilt(graph, start, end)


def test_scales_of_floats_mean_nothing():
    graph, _, end = sums(1)
    number = graph.tensor([1, 4], scale=0.5)
    graph.graph["tensors"][number]["type"] = TensorType.FLOAT64
    source = SourceGraph(model=load_records(graph.content([number], [end]), "file"))
    assert source.grid(number) is None
    assert source.ends(number) is None


def test_more_operators_than_layers_are_refused(monkeypatch):
    monkeypatch.setattr(support, "MAX_LAYERS", 3)
    with pytest.raises(
        penjing.UnsupportedModelError, match=r"4 operators.* 3 layers.*PENJING_LIMITS"
    ):
        rebuilt(*sums(4))


def test_a_constant_of_many_operators_is_counted_each_time(monkeypatch):
    graph, start, end = sums(5, 100)
    monkeypatch.setattr(support, "most_variable_bytes", lambda size: 1900)
    with pytest.raises(penjing.UnsupportedModelError, match=r"2,000 bytes.* 1,900"):
        rebuilt(graph, start, end)


def test_names_are_free_in_no_time():
    from penjing.rebuilding.layer_naming import LayerNames

    graph, start, end = sums(1)
    names = LayerNames(
        SourceGraph(model=load_records(graph.content([start], [end]), ""))
    )
    found = [names.free("add") for _ in range(20_000)]
    assert found[:3] == ["add", "add_1", "add_2"]
    assert len(set(found)) == 20_000
