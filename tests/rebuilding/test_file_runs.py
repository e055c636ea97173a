"""Files run on inputs for which they give numbers, over their whole range."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.specializing.graphs import Graph

import penjing
from penjing.rebuilding import file_runs, litert_loading
from penjing.rebuilding.source_graph import SourceGraph
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record


def logarithms(shift=0.0):
    """A logarithm, and a sum of what it gives."""
    graph = Graph()
    x = graph.tensor([1, 6], free=True)
    low = graph.constant(shift)
    options = Record("SubOptions")
    moved = graph.add(Operator.SUB, [x, low], graph.tensor([1, 6]), options)
    logs = graph.add(Operator.LOG, [moved], graph.tensor([1, 6]))
    axes = graph.constant([1], "i4")
    y = graph.tensor([1, 1])
    options = Record("ReducerOptions", keep_dims=True)
    graph.add(Operator.SUM, [logs, axes], y, options)
    return graph.content([x], [y])


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "log.tflite"
    file.write_bytes(logarithms())
    return file


def test_a_file_of_logarithms_is_compared_on_positive_inputs(path, monkeypatch):
    model = penjing.load_litert(path)
    x = np.random.default_rng(0).uniform(0.1, 2, (3, 6)).astype("f4")
    given = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(given, penjing.LiteRTModel(path).predict(x), atol=1e-5)
    rules = litert_loading.build_model.__globals__["RULES"]
    wrong = keras.ops.max
    monkeypatch.setitem(
        rules, Operator.SUM, lambda step: lambda x: wrong(x, axis=1, keepdims=True)
    )
    with pytest.raises(penjing.ExportError, match="SUM .* give different results"):
        penjing.load_litert(path)


@pytest.mark.once
def test_what_never_gave_a_number_is_named(path):
    path.write_bytes(logarithms(shift=9.0))
    with pytest.warns(penjing.CompressionWarning, match=r"LOG 'tensor_\d+', SUM"):
        penjing.load_litert(path)


@pytest.mark.once
def test_floats_that_become_integers_are_drawn_from_their_range():
    graph = Graph()
    x = graph.tensor([1, 400])
    small = graph.tensor([1, 400], "i1", scale=1.0, zero_point=-128)
    graph.add(Operator.QUANTIZE, [x], small, Record("QuantizeOptions"))
    y = graph.add(Operator.DEQUANTIZE, [small], graph.tensor([1, 400]))
    content = graph.content([x], [y])
    source = SourceGraph(model=load_records(content, "file"))
    for run in file_runs.run_file(content, source, "file"):
        assert 0 <= run.real(x).min() < 50
        assert 120 < run.real(x).mean() < 135
        assert 205 < run.real(x).max() <= 255


@pytest.mark.once
def test_files_of_too_many_values_are_refused(path, monkeypatch):
    monkeypatch.setattr(file_runs, "_MOST_TOGETHER", 100)
    with pytest.raises(penjing.FileFormatError, match=r"more than 100 bytes.*LIMITS"):
        penjing.load_litert(path)
