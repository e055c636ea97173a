"""Two ways to read a file: as a whole, or only the tensors that it stores."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tests.tflite import tflite_writer as writer

from penjing.errors import FileFormatError
from penjing.tflite import loading
from penjing.tflite.loading import load_records, load_tensors, read_litert
from penjing.tflite.records import Record
from penjing.tflite.stored_tensors import read_tflite
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once


def packed(model):
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def parsed(*tensors, buffers=(b"", b"abcd")):
    return schema.ModelT.InitFromPackedBuf(writer.make_file(list(tensors), buffers))


def wrong_operator(model):
    model.subgraphs[0].operators = [schema.OperatorT(7, [99], [99])]


def elsewhere(model):
    model.externalBuffers = [schema.ExternalBufferT(1, 0, 0, 8, b"none")]


def wrong_metadata(model):
    model.metadata = [schema.MetadataT(b"note", 9)]


@pytest.mark.parametrize("damage", [wrong_operator, elsewhere, wrong_metadata])
def test_tensors_are_read_from_files_that_are_refused_as_a_whole(damage):
    model = parsed(writer.make_tensor("t", [4], 9, 1, [0]))
    damage(model)
    with pytest.raises(FileFormatError):
        load_records(packed(model), "it")
    (tensor,) = load_tensors(packed(model), "it")["subgraphs"][0]["tensors"]
    assert tensor["name"] == b"t" and tensor["quantization"]["scale"].tolist() == [0.5]


def test_tensors_of_a_newer_format_are_read():
    """A tensor with a field 40, and quantization by a union's type 9."""
    builder = flatbuffers.Builder(0)
    builder.StartObject(8)
    builder.PrependUint8Slot(4, 9, 0)
    quantization = builder.EndObject()
    builder.StartObject(41)
    builder.PrependUint32Slot(2, 0, 9)
    builder.PrependUOffsetTRelativeSlot(4, quantization, 0)
    builder.PrependInt32Slot(40, 5, 0)
    tensor = builder.EndObject()
    vectors = []
    for item in (tensor, None):
        if item is None:
            builder.StartObject(1)
            builder.PrependUOffsetTRelativeSlot(0, vectors[0], 0)
            item = builder.EndObject()
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(item)
        vectors.append(builder.EndVector())
    builder.StartObject(1)
    buffer = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(2, vectors[1], 0)
    builder.PrependUOffsetTRelativeSlot(4, buffers, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    content = bytes(builder.Output())
    with pytest.raises(FileFormatError, match="field 40 of a table Tensor"):
        load_records(content, "it")
    (tensor,) = load_tensors(content, "it")["subgraphs"][0]["tensors"]
    assert tensor["quantization"] is not None


def test_bytes_behind_the_tables_belong_to_their_tensor():
    model = parsed(writer.make_tensor("t", [4], 9, 1))
    model.buffers[1] = schema.BufferT(None, 99999, 4)
    start = len(packed(model))
    model.buffers[1] = schema.BufferT(None, start, 4)
    read = load_tensors(packed(model) + b"abcd", "it")
    assert read["buffers"][1]["data"].tobytes() == b"abcd"
    with pytest.raises(FileFormatError, match="it points behind its own end"):
        load_tensors(packed(model) + b"abc", "it")


@pytest.mark.parametrize("load", [load_records, load_tensors])
def test_buffers_that_are_the_same_bytes_again_and_again_are_refused(load):
    tensors = [writer.make_tensor("t", [2**16], 9, 1)]
    model = parsed(*tensors, buffers=(b"", b"abcd"))
    model.buffers[1:] = [schema.BufferT(None, 1000, 2**16) for _ in range(99)]
    with pytest.raises(FileFormatError, match="its buffers overlap"):
        load(packed(model) + bytes(2**17), "it")


def test_a_file_without_a_graph_is_none():
    model = parsed(writer.make_tensor("t", [4], 9, 0))
    model.subgraphs = []
    with pytest.raises(FileFormatError, match="it has no graph"):
        load_records(packed(model), "it")


def test_options_that_are_the_same_bytes_again_and_again_are_refused():
    model = parsed(writer.make_tensor("t", [4], 9, 0))
    for _ in range(99):
        operator = schema.OperatorT()
        operator.inputs = operator.outputs = np.array([0], "int32")
        operator.largeCustomOptionsOffset = 1000
        operator.largeCustomOptionsSize = 2**16
        model.subgraphs[0].operators = [*(model.subgraphs[0].operators or []), operator]
    model.operatorCodes = [schema.OperatorCodeT()]
    with pytest.raises(FileFormatError, match="its operators overlap"):
        load_records(packed(model) + bytes(2**17), "it")


def test_equal_buffers_of_our_own_files_share_their_bytes(tmp_path):
    """Most of the file is one content that nine tensors have."""
    shape = np.array([500], "<i4")
    tensors = [
        Record("Tensor", shape=shape, type=9, buffer=n, name=b"%d" % n)
        for n in range(1, 10)
    ]
    data = np.zeros(500, "u1")
    buffers = [Record("Buffer"), *(Record("Buffer", data=data) for _ in tensors)]
    graph = Record("SubGraph", tensors=tensors)
    content = write_records(Record("Model", subgraphs=[graph], buffers=buffers))
    assert len(content) < 2000
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert [tensor.name for tensor in read_tflite(path)] == list("123456789")
    load_records(content, "it")


def sparse_tensor(kind, shape, count):
    """A tensor with `count` bytes, of which indices are of no interest here."""
    indices = schema.Int32VectorT([0])
    dimension = schema.DimensionMetadataT(1, 0, 1, indices, 1, indices)
    sparsity = schema.SparsityParametersT([0], None, [dimension])
    tensor = writer.make_tensor("t", shape, kind, 1, sparsity=sparsity)
    return packed(parsed(tensor, buffers=(b"", bytes(count))))


@pytest.mark.parametrize("load", [load_records, load_tensors])
@pytest.mark.parametrize(
    "kind, shape, most", [(0, [3], 12), (9, [3], 3), (17, [5], 3), (17, [4], 2)]
)
def test_a_sparse_tensor_has_no_more_values_than_places(load, kind, shape, most):
    load(sparse_tensor(kind, shape, most), "it")
    step = 4 if kind == 0 else 1
    with pytest.raises(FileFormatError, match="'t' holds more than its shape"):
        load(sparse_tensor(kind, shape, most + step), "it")


def test_a_file_is_read_if_it_is_one(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    content = writer.make_file([], [b""])
    path.write_bytes(content)
    assert read_litert(str(path)) == content
    monkeypatch.setattr(loading, "MAX_FILE_BYTES", 9)
    with pytest.raises(FileFormatError, match="bytes; a .tflite file has at most 9"):
        read_litert(path)
    path.write_bytes(b"no model")
    with pytest.raises(FileFormatError, match=r"\(it lacks the mark TFL3 at byte 4\)"):
        read_litert(path)
