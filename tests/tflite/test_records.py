"""Nothing is lost between reading and writing a `.tflite` file."""

from __future__ import annotations

import struct
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tests.tflite import tflite_writer as writer

from penjing.errors import FileFormatError
from penjing.tflite.loading import load_records
from penjing.tflite.records import Record, read_records
from penjing.tflite.table_layouts import UNIONS
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once

DATA = Path(__file__).parents[1] / "data/mlperf_tiny/keyword_spotting.tflite"


def numbered(value):
    """The schema's union of a table's class name."""
    return {name: n for n, name in vars(value).items() if isinstance(n, int)}


def filled(kind, number):
    """An object of the runtime's own schema, every field set to something unusual."""
    item = getattr(schema, f"{kind}T")()
    for name, default in vars(item).items():
        number += 1
        if isinstance(default, bool):
            setattr(item, name, not default)
        elif isinstance(default, float):
            setattr(item, name, 0.5 + number)
        elif isinstance(default, int):
            setattr(item, name, 1 + number % 100)
    for name in vars(item):
        if getattr(item, name) is None:
            setattr(item, name, guessed(kind, name))
    return item


def guessed(kind, name):
    """A value for a vector or text: the class does not say which of them it is."""
    getter = getattr(getattr(schema, kind), name[0].upper() + name[1:], None)
    if getter is None:
        return None
    code = getter.__code__.co_names
    if "String" in code:
        return b"some text"
    if "Vector" not in code:
        return None
    kinds = {"Int32Flags": "i4", "Int64Flags": "i8", "Uint32Flags": "u4"}
    kinds |= {"Float32Flags": "f4", "Uint8Flags": "u1", "BoolFlags": "?"}
    dtype = next((kinds[part] for part in code if part in kinds), None)
    return None if dtype is None else np.array([1, 0, 1], dtype)


def packed(model):
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def everything():
    """A file with an operator for each kind of options that the runtime knows."""
    model = schema.ModelT(version=3, description=b"all of them")
    model.operatorCodes = [schema.OperatorCodeT(0, b"my op", 7, 32)]
    model.buffers = [schema.BufferT(), schema.BufferT(np.arange(24, dtype="u1"))]
    model.metadata = [schema.MetadataT(b"note", 1)]
    model.metadataBuffer = [1]
    tensor = schema.TensorT([2, 3], 0, 1, b"t", isVariable=True, hasRank=True)
    tensor.shapeSignature = [-1, 3]
    tensor.variantTensors = [schema.VariantSubTypeT([4], 2, True)]
    details = schema.CustomQuantizationT(np.arange(3, dtype="u1"))
    tensor.quantization = schema.QuantizationParametersT(
        [0.5],
        [1.5],
        [0.25],
        [3],
        schema.QuantizationDetails.CustomQuantization,
        details,
    )
    dimension = schema.DimensionMetadataT(1, 3, 1, schema.Int32VectorT([0, 1]), 3)
    dimension.arrayIndices = schema.Uint8VectorT(np.array([1], "u1"))
    tensor.sparsity = schema.SparsityParametersT([0, 1], [0], [dimension])
    graph = schema.SubGraphT([tensor], [0], [0], [], b"main", 5)
    for slot, union in (("", "BuiltinOptions"), ("2", "BuiltinOptions2")):
        for kind, number in vars(getattr(schema, union)).items():
            if kind.startswith("_") or not number:
                continue
            operator = schema.OperatorT(0, [0], [0], debugMetadataIndex=number)
            setattr(operator, f"builtinOptions{slot}Type", number)
            setattr(operator, f"builtinOptions{slot}", filled(kind, number))
            operator.customOptions = np.arange(number % 7, dtype="u1")
            operator.mutatingVariableInputs = np.array([True, False])
            operator.intermediates = [0]
            graph.operators.append(operator)
    model.subgraphs = [graph]
    entry = schema.TensorMapT(b"x", 0)
    model.signatureDefs = [schema.SignatureDefT([entry], [entry], b"serve", 0)]
    return model


def plain(value):
    """Nested lists and dicts of an object of the runtime's schema."""
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__dict__"):
        return {name: plain(item) for name, item in vars(value).items()}
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize("share", [True, False])
def test_all_that_the_runtimes_schema_knows_survives(share):
    original = packed(everything())
    count = len(UNIONS["BuiltinOptions"]) + len(UNIONS["BuiltinOptions2"])
    assert len(everything().subgraphs[0].operators) == count
    written = write_records(read_records(original, "it"), share=share)
    wanted = plain(schema.ModelT.InitFromPackedBuf(original))
    assert plain(schema.ModelT.InitFromPackedBuf(written)) == wanted
    assert write_records(read_records(written, "it"), share=share) == written
    assert len(written) < len(original) or not share


def test_the_test_fills_most_fields():
    text = str(plain(everything()))
    assert text.count("some text") >= 4
    assert text.count("[1, 0, 1]") >= 35


def test_data_in_buffers_begins_at_multiples_of_16():
    with open(DATA, "rb") as file:
        content = file.read()
    written = write_records(read_records(content, "it"))
    model = schema.Model.GetRootAs(written)
    found = 0
    for n in range(model.BuffersLength()):
        buffer = model.Buffers(n)
        if not buffer.DataIsNone() and buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            assert start % 16 == 0
            found += 1
    assert found > 20


def two_buffers(offset=0, size=0):
    graph = schema.SubGraphT([], [], [], [], b"main", 0)
    model = schema.ModelT(version=3, operatorCodes=[], subgraphs=[graph])
    model.buffers = [schema.BufferT(), schema.BufferT(None, offset, size)]
    return packed(model)


def test_bytes_behind_the_tables_are_moved_into_their_buffer():
    length = len(two_buffers(99999, 4))
    content = two_buffers(length, 4) + b"abcd"
    model = load_records(content, "it")
    assert model["buffers"][1]["data"].tobytes() == b"abcd"
    again = load_records(write_records(model), "it")
    assert again["buffers"][1]["data"].tobytes() == b"abcd"
    with pytest.raises(FileFormatError, match="points behind its own end"):
        load_records(two_buffers(length, 5) + b"abcd", "it")


def test_data_in_other_files_is_refused():
    model = everything()
    model.externalBuffers = [schema.ExternalBufferT(1, 0, 0, 8, b"none")]
    model.externalBufferGroups = [schema.ExternalBufferGroupT(b"weights.bin")]
    with pytest.raises(FileFormatError, match="keeps weights in other files"):
        load_records(packed(model), "it")


def test_fields_of_newer_formats_are_refused_not_dropped():
    builder = flatbuffers.Builder(0)
    builder.StartObject(40)
    builder.PrependInt32Slot(39, 5, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    with pytest.raises(FileFormatError, match="field 39 of a table Model, which this"):
        read_records(bytes(builder.Output()), "it")


def wrong(change):
    model = schema.ModelT(version=3)
    model.operatorCodes = [schema.OperatorCodeT(9, None, 1, 9)]
    model.buffers = [schema.BufferT(), schema.BufferT(np.zeros(24, "u1"))]
    tensor = schema.TensorT([2, 3], 0, 1, b"t")
    operator = schema.OperatorT(0, [0, 0, -1], [0])
    graph = schema.SubGraphT([tensor], [0], [0], [operator])
    model.subgraphs = [graph]
    change(model, graph, tensor, operator)
    return packed(model)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m, g, t, o: setattr(t, "buffer", 2), "uses buffer 2 of 2"),
        (
            lambda m, g, t, o: setattr(t, "shape", [2, 4]),
            "has 8 values of 32 bits, but 24 bytes",
        ),
        (lambda m, g, t, o: setattr(t, "shape", [-2, -3]), r"the shape \(-2, -3\)"),
        (lambda m, g, t, o: setattr(t, "type", 99), "unknown type 99"),
        (lambda m, g, t, o: setattr(o, "inputs", [1]), "uses tensor 1 of 1"),
        (lambda m, g, t, o: setattr(o, "inputs", [-2]), "uses tensor -2 of 1"),
        (lambda m, g, t, o: setattr(o, "inputs", [8, 3]), "uses tensor 3 to 8 of 1"),
        (lambda m, g, t, o: setattr(o, "opcodeIndex", 1), "uses operator code 1"),
        (lambda m, g, t, o: setattr(g, "outputs", [7]), "uses tensor 7"),
        (
            lambda m, g, t, o: [
                setattr(o, "builtinOptionsType", schema.BuiltinOptions.IfOptions),
                setattr(o, "builtinOptions", schema.IfOptionsT(0, 1)),
            ],
            "uses graph 1",
        ),
        (
            lambda m, g, t, o: setattr(m, "metadata", [schema.MetadataT(b"a", 9)]),
            "uses buffer 9",
        ),
    ],
)
def test_indices_that_point_nowhere_are_refused(change, message):
    load_records(wrong(lambda *_: None), "it")
    with pytest.raises(FileFormatError, match=message):
        load_records(wrong(change), "it")


def test_records_read_absent_fields_as_defaults():
    record = Record("OperatorCode", custom_code=b"x")
    assert (record["version"], record["custom_code"]) == (1, b"x")
    assert "version" not in record
    assert record.drop("custom_code") and not record.drop("custom_code")
    with pytest.raises(KeyError):
        record["custom"]


def test_a_file_without_the_mark_is_refused():
    with pytest.raises(FileFormatError, match="lacks the mark TFL3"):
        read_records(struct.pack("<I", 8) + b"TFL9" + bytes(20), "it")


def test_files_of_the_hand_written_kind_survive():
    tensor = writer.make_tensor("a", [4], 9, 1, zero_points=[3])
    content = writer.make_file([tensor], [b"", b"abcd"])
    again = schema.ModelT.InitFromPackedBuf(write_records(read_records(content, "it")))
    assert plain(again) == plain(schema.ModelT.InitFromPackedBuf(content))
