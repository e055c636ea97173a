"""Node data: of the shape that Model Explorer reads, for operators that there are."""

import dataclasses
import json
from pathlib import Path

import pytest

import penjing
from penjing import cli
from penjing.errors import CompressionError, DataError
from penjing.report.explorer.node_data import (
    nodes_of_inspection,
    nodes_of_sensitivity,
    write_node_data,
)
from penjing.tflite.loading import load_records
from penjing.tflite.tensors import tensor_name

pytestmark = pytest.mark.once
FILE = Path(__file__).parents[2] / "data/mlperf_tiny/keyword_spotting.tflite"


def outputs():
    graph = load_records(FILE.read_bytes(), str(FILE))["subgraphs"][0]
    return [
        tensor_name(graph["tensors"][int(operator["outputs"][0])])
        for operator in graph["operators"]
    ]


def check_shape(data):
    """As google-ai-edge/model-explorer describes it in node_data_builder.py."""
    assert set(data) == {"results", "gradient"}
    assert data["results"] and set(data["results"]) <= set(outputs())
    for result in data["results"].values():
        assert set(result) == {"value"} and type(result["value"]) in (int, float)
    assert [stop["stop"] for stop in data["gradient"]] == [0, 1]
    for stop in data["gradient"]:
        assert set(stop) == {"stop", "bgColor", "textColor"}
        for color in (stop["bgColor"], stop["textColor"]):
            assert color[0] == "#" and len(color) == 7 and int(color[1:], 16) >= 0


@pytest.mark.parametrize("value", ["bytes", "zeros", "gzip"])
def test_operators_are_told_what_their_constants_take(value):
    inspection = penjing.inspect_file(FILE)
    data = nodes_of_inspection(inspection, value)
    check_shape(json.loads(json.dumps(data)))
    total = sum(result["value"] for result in data["results"].values())
    assert total == sum(getattr(row, value) for row in inspection.tensors)


def test_keras_files_have_no_such_nodes(tmp_path):
    keras_file = FILE.with_suffix(".h5")
    with pytest.raises(DataError, match="Model Explorer draws .tflite files"):
        nodes_of_inspection(penjing.inspect_file(keras_file))


def table(name, method="channels"):
    rows = tuple(
        penjing.SensitivityRow(
            name=name, ratio=ratio, removed=1, size=4, scores={"accuracy": score}
        )
        for ratio, score in ((0.25, 0.85), (0.5, 0.6))
    )
    return penjing.SensitivityTable(
        model="kws", method=method, baseline={"accuracy": 0.9}, rows=rows
    )


def layer():
    """The name of a layer, as an operator of the file has it."""
    return node().split(";")[-1].split("/")[1]


def node():
    """What an operator gives: the first convolution."""
    return outputs()[1]


@pytest.mark.parametrize(
    ("name", "method"), [("{}", "channels"), ("net/{}/kernel", "weights")]
)
def test_operators_are_told_what_their_layer_costs(name, method):
    found = table(name.format(layer()), method)
    data = nodes_of_sensitivity(found, FILE)
    check_shape(data)
    assert data["results"][node()]["value"] == pytest.approx(0.3)
    milder = nodes_of_sensitivity(found, FILE, ratio=0.25)
    assert milder["results"][node()]["value"] == pytest.approx(0.05)


def two_layers(first, second):
    rows = [*table(first).rows, *table(second).rows]
    rows[2:] = [dataclasses.replace(row, scores={"accuracy": 0.2}) for row in rows[2:]]
    return dataclasses.replace(table(first), rows=tuple(rows))


def test_layers_of_one_name_in_two_networks_are_told_apart_or_left_out():
    inner = node().split(";")[-1].split("/")[0]
    found = two_layers(f"{inner}/{layer()}", f"other/{layer()}")
    data = nodes_of_sensitivity(found, FILE)
    assert data["results"][node()]["value"] == pytest.approx(0.3)
    with pytest.raises(DataError, match="No operator"):
        nodes_of_sensitivity(two_layers(f"a/{layer()}", f"b/{layer()}"), FILE)


def test_files_whose_names_were_dropped_are_refused(tmp_path):
    small = tmp_path / "small.tflite"
    penjing.shrink_litert(FILE, small)
    with pytest.raises(DataError, match="have no names of their own"):
        nodes_of_inspection(penjing.inspect_file(small))


def test_a_table_of_another_model_is_refused():
    with pytest.raises(DataError, match="No operator .* 'nothing'"):
        nodes_of_sensitivity(table("nothing"), FILE)
    with pytest.raises(DataError, match="no rows of the ratio 0.9. It has 0.25, 0.5"):
        nodes_of_sensitivity(table(layer()), FILE, ratio=0.9)


def test_the_command_writes_a_file_once(tmp_path, capsys):
    target = tmp_path / "zeros.json"
    options = ["--node-data", str(target), "--node-value", "zeros", "--json"]
    assert cli.main(["inspect", str(FILE), *options]) == 0
    inspection = penjing.inspect_file(FILE)
    written = json.loads(target.read_text())
    assert written == nodes_of_inspection(inspection, "zeros")
    capsys.readouterr()
    assert cli.main(["inspect", str(FILE), *options]) == 1
    assert "There is a file" in capsys.readouterr().err
    with pytest.raises(CompressionError, match="There is a file"):
        write_node_data(written, target)
    write_node_data({}, target, overwrite=True)


def test_sensitivity_needs_both_options(tmp_path, capsys):
    model = str(FILE.with_suffix(".h5"))
    wanted = ["--data", "d.npz", "--out", str(tmp_path), "--node-data", "a.json"]
    assert cli.main(["sensitivity", model, *wanted]) == 2
    assert "go together" in " ".join(capsys.readouterr().err.split())
