"""Operators as files of their own, with what unpacks their constants."""

import numpy as np
import pytest
from tests.sparse.sparse_topologies import build_topology, sparse_unchecked

import penjing
from penjing.runtime.operator_files import single_operators
from penjing.sparse.dense_twin import dense_twin
from penjing.tflite.loading import load_records
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def sparse_file(tmp_path_factory):
    """A network with float16 weights behind DENSIFY and DEQUANTIZE."""
    path = tmp_path_factory.mktemp("network") / "model.tflite"
    penjing.export_litert(build_topology("mobilenet"), path, "float16", verify=False)
    return sparse_unchecked(path.read_bytes())


def test_what_unpacks_a_constant_goes_with_what_reads_it(sparse_file):
    found = single_operators(sparse_file, "it")
    names = {item.name for item in found}
    assert "CONV_2D" in names and not names & {"DENSIFY", "DEQUANTIZE"}
    pointwise = [item for item in found if item.name == "CONV_2D"][1]
    model = load_records(pointwise.content, "it")
    assert len(model["subgraphs"][0]["inputs"]) == 1  # the image alone
    assert len(model["subgraphs"][0]["operators"]) >= 3


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_operators_that_read_or_give_nothing_do_no_harm(side, sparse_file):
    model = load_records(sparse_file, "it")
    model["subgraphs"][0]["operators"][0][side] = np.zeros(0, "<i4")
    content = write_records(model)
    assert single_operators(content, "it")
    assert dense_twin(content, "it")
