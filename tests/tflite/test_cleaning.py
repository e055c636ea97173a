"""What nothing points to goes, and every number follows what it points to."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.tflite import cleaning
from penjing.tflite.loading import load_records
from penjing.tflite.records import Record, pointed_to
from penjing.tflite.tensors import TensorType
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once


def numbers(*values):
    return np.array(values, "<i4")


def tensor(name, buffer=0, **fields):
    return Record("Tensor", name=name, buffer=buffer, type=TensorType.UINT8, **fields)


def data(*values):
    return Record("Buffer", data=np.array(values, "u1"))


def scaled_by(scales, points):
    details = Record("BlockwiseQuantization", scales=scales, zero_points=points)
    return Record("QuantizationParameters", details=details)


@pytest.fixture
def model():
    """One operator that reads x and weights, whose scales are tensors as well."""
    tensors = [
        tensor(b"unused", 1, shape=numbers(1), quantization=scaled_by(4, -1)),
        tensor(b"weights", 2, shape=numbers(2), quantization=scaled_by(3, -1)),
        tensor(b"x"),
        tensor(b"scales", 4, shape=numbers(2)),
        tensor(b"scales of unused", 3, shape=numbers(1)),
        tensor(b"y"),
    ]
    run = Record(
        "Operator",
        opcode_index=2,
        inputs=numbers(2, 1, -1),
        outputs=numbers(5),
    )
    graph = Record(
        "SubGraph",
        tensors=tensors,
        inputs=numbers(2),
        outputs=numbers(5),
        operators=[run],
    )
    signature = Record(
        "SignatureDef",
        inputs=[Record("TensorMap", name=b"x", tensor_index=2)],
        outputs=[Record("TensorMap", name=b"y", tensor_index=5)],
    )
    codes = [Record("OperatorCode", builtin_code=n) for n in (1, 2, 9)]
    return Record(
        "Model",
        operator_codes=codes,
        subgraphs=[graph],
        buffers=[data(), data(1), data(2, 2), data(3), data(2, 2), data(5)],
        metadata=[Record("Metadata", name=b"note", buffer=5)],
        metadata_buffer=numbers(5),
        signature_defs=[signature],
    )


def names(model):
    return [item["name"] for item in model["subgraphs"][0]["tensors"]]


def check_numbers(model):
    """All numbers name what they did before."""
    load_records(write_records(model), "it")
    graph, signature = model["subgraphs"][0], model["signature_defs"][0]
    kept = names(model)
    (run,) = graph["operators"]
    assert [kept[n] for n in run["inputs"][:2]] == [b"x", b"weights"]
    assert run["inputs"][2] == -1 and kept[run["outputs"][0]] == b"y"
    assert [kept[n] for n in (*graph["inputs"], *graph["outputs"])] == [b"x", b"y"]
    entries = (*signature["inputs"], *signature["outputs"])
    assert [kept[e["tensor_index"]] for e in entries] == [b"x", b"y"]
    weights = graph["tensors"][kept.index(b"weights")]
    details = weights["quantization"]["details"]
    assert kept[details["scales"]] == b"scales" and details["zero_points"] == -1
    assert model["operator_codes"][run["opcode_index"]]["builtin_code"] == 9
    for number in (*model["metadata_buffer"], model["metadata"][0]["buffer"]):
        assert model["buffers"][number]["data"].tolist() == [5]


def test_what_nothing_uses_goes_with_its_scales(model):
    cleaning.drop_unused(model)
    assert names(model) == [b"weights", b"x", b"scales", b"y"]
    assert len(model["operator_codes"]) == 1
    check_numbers(model)


def test_scales_of_scales_go_however_long_their_chain():
    tensors = [Record("Tensor", name=b"x")]
    for number in range(1, 1500):
        details = Record("BlockwiseQuantization", scales=number - 1, zero_points=-1)
        quantization = Record("QuantizationParameters", details=details)
        tensors.append(Record("Tensor", name=b"s", quantization=quantization))
    graph = Record("SubGraph", tensors=tensors)
    graph["inputs"] = graph["outputs"] = np.array([0], "<i4")
    model = Record("Model", subgraphs=[graph], buffers=[Record("Buffer")])
    cleaning.drop_unused(model)
    assert names(model) == [b"x"]


def test_equal_contents_are_kept_once_and_the_first_buffer_is_empty(model):
    cleaning.share_buffers(model)
    assert [b["data"].tolist() for b in model["buffers"]] == [[], [1], [2, 2], [3], [5]]
    check_numbers(model)


def test_contents_stay_in_their_order_where_that_is_asked_for():
    tensors = [tensor(name, buffer) for name, buffer in ((b"a", 3), (b"b", 1))]
    model = Record("Model", subgraphs=[Record("SubGraph", tensors=tensors)])
    model["buffers"] = [Record("Buffer"), data(7), data(8), data(9)]
    cleaning.share_buffers(model, keep_order=True)
    assert [b["data"].tolist() for b in model["buffers"]] == [[], [7], [9]]
    assert [t["buffer"] for t in tensors] == [2, 1]
    cleaning.share_buffers(model)
    assert [b["data"].tolist() for b in model["buffers"]] == [[], [9], [7]]
    assert [t["buffer"] for t in tensors] == [1, 2]


@pytest.mark.parametrize(
    "by, order",
    [
        ("type", [b"x", b"y", b"weights", b"scales"]),
        ("size", [b"x", b"y", b"scales", b"weights"]),
        ("falling size", [b"weights", b"scales", b"x", b"y"]),
    ],
)
def test_tensors_are_sorted_with_all_that_points_to_them(model, by, order):
    model["buffers"][2] = data(2, 2, 2)
    model["subgraphs"][0]["tensors"][1]["shape"] = numbers(3)
    cleaning.sort_tensors(model, by=by)
    assert names(model) == order
    check_numbers(model)


def test_an_output_that_signatures_name_out_of_order_keeps_its_place(model):
    graph = model["subgraphs"][0]
    graph["outputs"] = numbers(5, 2)
    entries = [
        Record("TensorMap", name=b"output_1", tensor_index=5),
        Record("TensorMap", name=b"output_0", tensor_index=2),
    ]
    model["signature_defs"][0]["outputs"] = entries
    assert cleaning.drop_signatures(model) == [1, 0]
    assert graph["outputs"].tolist() == [2, 5]
    assert not model["signature_defs"]


def test_texts_and_ranges_go_and_what_is_computed_with_stays(model):
    graph = model["subgraphs"][0]
    graph["name"] = b"main"
    model["description"] = b"made by"
    read = Record("Metadata", name=b"reduced_precision_support", buffer=5)
    model["metadata"] = [*model["metadata"], read]
    graph["tensors"][2]["quantization"] = Record(
        "QuantizationParameters", min=np.zeros(1, "<f4"), max=np.ones(1, "<f4")
    )
    graph["tensors"][5]["quantization"] = Record(
        "QuantizationParameters", max=np.ones(1, "<f4"), scale=np.ones(1, "<f4")
    )
    cleaning.drop_names(model)
    cleaning.drop_metadata(model)
    cleaning.drop_ranges(model)
    assert "name" not in graph and set(names(model)) == {b""}
    assert "description" not in model and "metadata_buffer" not in model
    assert [entry["name"] for entry in model["metadata"]] == [read["name"]]
    assert graph["tensors"][2]["quantization"] is None
    assert "scale" in graph["tensors"][5]["quantization"]
    assert "max" not in graph["tensors"][5]["quantization"]


def test_shapes_are_said_once(model):
    x, y = (model["subgraphs"][0]["tensors"][n] for n in (2, 5))
    x["shape"] = x["shape_signature"] = numbers(1, 4)
    y["shape"], y["shape_signature"] = numbers(1, 4), numbers(-1, 4)
    y["has_rank"] = 1
    cleaning.drop_repeated_shapes(model)
    assert "shape_signature" not in x and "has_rank" not in y
    assert y["shape_signature"].tolist() == [-1, 4]


def test_graphs_that_options_name_are_known():
    """Also the first one, whose number 0 need not stand in the file."""
    branch = Record("IfOptions", else_subgraph_index=2)
    assert pointed_to(Record("Operator", builtin_options=branch), "graph") == [0, 2]
    cases = Record("StablehloCaseOptions", branch_subgraph_indices=numbers(3, 1))
    assert pointed_to(Record("Operator", builtin_options2=cases), "graph") == [3, 1]


def test_an_output_that_is_given_twice_keeps_both_places():
    rows = [(b"output_0", 3), (b"output_1", 4), (b"output_2", 3)]
    signature = Record(
        "SignatureDef",
        signature_key=b"serving_default",
        outputs=[Record("TensorMap", name=n, tensor_index=i) for n, i in rows],
    )
    graph = Record("SubGraph", outputs=numbers(3, 4, 3))
    model = Record("Model", subgraphs=[graph], signature_defs=[signature])
    assert cleaning.drop_signatures(model) == [0, 1, 2]
    assert graph["outputs"].tolist() == [3, 4, 3]
