"""Packed files: smaller, equal in TFLM, within the arena, or refused."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from tests.packing.micro_files import MicroFile, dense_file, levels
from tests.runtime.tflm.micro_files import unknown_operator

import penjing
from penjing.errors import (
    CompressionWarning,
    DataError,
    ExportError,
    FileFormatError,
    UnsupportedModelError,
)
from penjing.packing import choice, decode_operators, tflm_comparison
from penjing.packing.choice import PackedFiles
from penjing.packing.forms import all_forms
from penjing.packing.packable import packable_constants
from penjing.packing.packing import pack, restore
from penjing.packing.slimming import slim
from penjing.runtime.tflm import has_tflm
from penjing.tflite.cleaning import drop_names
from penjing.tflite.decode_records import is_decode
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import all_tensors, data_of, values_of
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once
needs_tflm = pytest.mark.skipif(not has_tflm(), reason="needs penjing[micro]")

FEW = levels((24, 64), [-9, -4, 4, 9])
SPARSE = levels((24, 64), np.arange(-127, 128), 0.9)
FEW_AND_SPARSE = levels((24, 64), [-2, -1, 1, 2], 0.9)
BELL = np.round(np.random.default_rng(0).normal(size=(24, 64)) * 9)


def decoders(content):
    model = load_records(content, "f")
    operators = model["subgraphs"][0]["operators"]
    return [is_decode(model, operator) for operator in operators]


def three_layers():
    """A convolution, a depthwise one and a dense layer, with scales of channels."""
    file = MicroFile()
    x = file.tensor((1, 8, 8, 2), name=b"x")
    h = file.convolve(x, levels((8, 3, 3, 2), [-3, 5], 0.8), np.linspace(0.1, 1, 8))
    h = file.convolve(
        h, levels((1, 3, 3, 8), [-7, 7], 0.5), np.linspace(1, 2, 8), depthwise=True
    )
    flat = file.tensor((1, 128), scales=(40.0,))
    shape = file.tensor((2,), "int32", [1, 128], ())
    options = Record("ReshapeOptions", new_shape=np.array([1, 128], "<i4"))
    file.operate(Operator.RESHAPE, [h, shape], flat, options)
    return file.end([x], [file.dense(flat, levels((10, 128), [-1, 0, 1]))])


@pytest.fixture(scope="module")
def three():
    return three_layers()


@needs_tflm
@pytest.mark.parametrize(
    ("values", "form"),
    [
        (FEW, ("table", 2)),
        (SPARSE, ("mask", 0)),
        (FEW_AND_SPARSE, ("huffman", 0)),
        (BELL, ("huffman", 0)),
    ],
    ids=["few", "sparse", "both", "bell"],
)
def test_each_kind_of_weight_gets_its_form(values, form):
    plain = dense_file(values)
    packed = pack(plain)
    assert [(row.form, row.bits) for row in packed.rows] == [form]
    assert packed.rows[0].name == "dense/kernel"
    assert packed.rows[0].reader == "FULLY_CONNECTED"
    assert decoders(packed.content) == [True, False]
    assert packed.flash_saved == len(plain) - len(packed.content) > 0
    assert packed.compared == tflm_comparison.SAMPLES and packed.arena_is_measured
    assert 0 < packed.arena_added - values.size < 500


@needs_tflm
def test_scales_of_channels_do_not_stand_in_the_way(three):
    packed = pack(three)
    assert [row.reader for row in packed.rows] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
    ]
    assert packed.compared and packed.flash_saved > 700
    assert packed.rows[2].form != "plain"


@needs_tflm
@pytest.mark.parametrize("form", ["table", "tables", "mask", "huffman"])
def test_every_form_is_right_in_every_layout(three, form):
    """Forms that are not the smallest too: axis 0, the last axis, and one scale."""
    model = load_records(three, "f")
    with tflm_comparison.Comparison(three, model, "f") as comparison:
        plain = model.copy()
        slim(plain)
        constants = packable_constants(plain)
        kinds = [
            next((kind for kind in all_forms(c) if kind.form == form), None)
            for c in constants
        ]
        if form == "tables":
            values = np.repeat(levels((24, 1), np.arange(99)), 64, axis=1)
            values[:, ::3] += 1
            three = dense_file(values, np.linspace(0.1, 1, 24))
            assert pack(three).rows[0].form == "tables"
        else:
            assert all(kinds)
            content = PackedFiles(plain, constants).write(tuple(kinds))
            assert comparison.arena(content) > comparison.plain.arena.total


def test_no_other_choice_gives_a_smaller_file(three):
    model = load_records(three, "f")
    slim(model)
    constants = packable_constants(model)
    drop_names(model)
    files = PackedFiles(model, constants)
    chosen = files.size(files.choose([True] * 3))
    every = [[None, *all_forms(constant)] for constant in constants]
    assert chosen <= min(files.size(forms) for forms in itertools.product(*every))


@needs_tflm
def test_codes_are_shared_where_that_wins():
    file = MicroFile()
    x = file.tensor((1, 64))
    h = file.dense(x, levels((64, 64), [-2, -1, 1, 2], 0.9, seed=1))
    y = file.dense(h, levels((64, 64), [-2, -1, 1, 2], 0.9, seed=2))
    packed = pack(file.end([x], [y]))
    first, second = packed.rows
    assert first.form == second.form == "huffman"
    shapes = [tuple(t["shape"]) for t in all_tensors(load_records(packed.content, "f"))]
    assert shapes.count((first.flash_after - second.flash_after,)) <= 1
    assert sum(len(shape) == 1 for shape in shapes) == 3  # two weights, one code


@needs_tflm
def test_a_weight_that_two_read_is_stored_once_and_decoded_before_each():
    file = MicroFile()
    x = file.tensor((1, 64))
    weights = file.tensor((64, 64), "int8", levels((64, 64), [-2, 1], 0.9))
    y = file.dense_with(file.dense_with(x, weights), weights)
    packed = pack(file.end([x], [y]))
    assert len(packed.rows) == 1 and packed.rows[0].flash_after < 700
    assert decoders(packed.content) == [True, False, True, False]
    assert packed.compared


@needs_tflm
def test_floats_of_few_levels_are_packed_too():
    file = MicroFile()
    x = file.tensor((1, 64), "float32", scales=())
    y = file.dense(x, levels((24, 64), [-0.5, 0.25, 1.5]), (), "float32")
    packed = pack(file.end([x], [y]))
    assert [(row.form, row.bits, row.type) for row in packed.rows] == [
        ("table", 2, "float32")
    ]
    assert packed.flash_saved > 5500 and packed.compared


def test_what_is_an_output_or_must_be_constant_stays():
    file = MicroFile()
    x = file.tensor((1, 64))
    weights = file.tensor((64, 64), "int8", levels((64, 64), [-2, 1], 0.9))
    file.dense_with(x, weights)
    with pytest.raises(UnsupportedModelError, match="no constant that TensorFlow Lite"):
        pack(file.end([x], [weights]))


@needs_tflm
def test_layers_that_do_not_fit_stay_plain():
    file = MicroFile()
    x = file.tensor((1, 64))
    h = file.dense(x, levels((200, 64), [-2, -1, 1, 2], 0.9))
    content = file.end([x], [file.dense(h, levels((16, 200), [-3, 3], 0.9))])
    whole = pack(content)
    large, small = (row.ram for row in whole.rows)
    assert whole.arena_added > large
    bound = whole.arena_before + small + 1500
    part = pack(content, max_arena=bound)
    assert [row.form != "plain" for row in part.rows] == [False, True]
    assert part.rows[0].note == "does not fit in the arena"
    assert part.arena_before + part.arena_added <= bound
    assert pack(content, max_arena=whole.arena_before + whole.arena_added) == whole
    with pytest.raises(UnsupportedModelError, match=r"[0-9,]+ more than max_arena="):
        pack(content, max_arena=whole.arena_before + 100)
    lacking = rf"{whole.arena_before - 1000:,} more than max_arena=1,000"
    with pytest.raises(UnsupportedModelError, match=lacking):
        pack(content, max_arena=1000)


def test_without_tflm_the_arena_is_an_estimate_and_says_so(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    packed = pack(dense_file(FEW))
    assert not packed.arena_is_measured and packed.compared == 0
    assert packed.arena_before == 64 + 32 and packed.arena_added == FEW.size
    with pytest.raises(UnsupportedModelError, match="1,632 bytes are needed, 32 more"):
        pack(dense_file(FEW), max_arena=1600)


@needs_tflm
def test_a_packed_file_that_computes_something_else_is_not_given(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "_equal", lambda plain, packed: False)
    with pytest.raises(ExportError, match="computes something else"):
        pack(dense_file(FEW))


def test_a_constant_that_decodes_wrong_is_not_given(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    found = choice.insert_decoders

    def wrong(model, constants, forms):
        found(model, constants, [form and _flipped(form) for form in forms])

    monkeypatch.setattr(choice, "insert_decoders", wrong)
    with pytest.raises(ExportError, match="does not decode to the same constants"):
        pack(dense_file(FEW))


def test_a_packed_file_whose_numbers_mean_something_else_is_not_given(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    found = choice.insert_decoders

    def wrong(model, constants, forms):
        graph = model["subgraphs"][0]
        (number,) = graph["outputs"]
        graph["tensors"][number] = graph["tensors"][number].copy()
        graph["tensors"][number]["quantization"] = None
        found(model, constants, forms)

    monkeypatch.setattr(choice, "insert_decoders", wrong)
    with pytest.raises(ExportError, match="have other scales"):
        pack(dense_file(FEW))


def test_the_bound_holds_for_the_file_that_is_given(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    smallest = PackedFiles.smallest
    monkeypatch.setattr(PackedFiles, "smallest", lambda *a: smallest(*a) + bytes(16))
    monkeypatch.setattr(
        "penjing.packing.packing._Fitting._arena",
        lambda self, content: 3000 if content.endswith(bytes(16)) else 1700,
    )
    with pytest.raises(UnsupportedModelError, match="3,000 bytes are needed"):
        pack(dense_file(FEW), max_arena=2000)


def test_a_bound_that_only_an_estimate_keeps_is_warned_of(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    with pytest.warns(CompressionWarning, match="was not measured.*1,632.*needs more"):
        pack(dense_file(FEW), max_arena=1632)


@needs_tflm
def test_no_process_is_left_of_a_file_that_tflm_refuses(monkeypatch):
    closed = []
    close = tflm_comparison.TflmRunner.close
    monkeypatch.setattr(
        tflm_comparison.TflmRunner, "close", lambda s: (closed.append(s), close(s))[1]
    )
    content = unknown_operator()
    comparison = tflm_comparison.Comparison(content, load_records(content, "f"), "f")
    with pytest.raises(FileFormatError, match="GELU"), comparison:
        pass
    assert closed and closed[-1]._worker is None


def _flipped(form):
    data = bytes([form.data[0] ^ 0x40, *form.data[1:]])
    return dataclasses.replace(form, data=data)


def read_by_operators(content):
    """What each operator reads: type, shape, numbers and scales of each input."""
    model = load_records(content, "f")
    graph = model["subgraphs"][0]
    return [
        [described(model, graph["tensors"][n]) for n in operator["inputs"] if n >= 0]
        for operator in graph["operators"]
    ]


def described(model, tensor):
    scales = tensor["quantization"] or Record("QuantizationParameters")
    return (
        tensor["type"],
        tuple(tensor["shape"]),
        data_of(model, tensor).tobytes(),
        tuple(scales["scale"]),
        tuple(scales["zero_point"]),
        scales["quantized_dimension"],
    )


def test_restored_it_is_the_plain_file_again(three, monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    packed = pack(three).content
    assert len(packed) < len(three) - 700
    assert read_by_operators(restore(packed)) == read_by_operators(three)


def decoded_many_times(times, kinds=1):
    """A packed file of which one vector is decoded again and again."""
    model = load_records(pack(dense_file(FEW)).content, "f")
    graph = model["subgraphs"][0]
    (decoder,) = (one for one in graph["operators"] if is_decode(model, one))
    (number,) = decoder["outputs"]
    copies = []
    for index in range(times):
        copy = graph["tensors"][number].copy()
        copy["quantization"] = copy["quantization"].copy()
        copy["quantization"]["zero_point"] = np.array([index % kinds], "<i8")
        copies.append(copy)
    first = len(graph["tensors"])
    graph["tensors"] = [*graph["tensors"], *copies]
    decoder["outputs"] = np.array([number, *range(first, first + times)], "<i4")
    decoder["inputs"] = np.tile(decoder["inputs"], times + 1)
    return write_records(model)


def test_what_is_decoded_again_is_decoded_and_stored_once(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    model = load_records(decoded_many_times(60), "f")
    buffers = len(model["buffers"])
    decode_operators.decode_constants(model, "f")
    assert len(model["buffers"]) == buffers + 1
    tensors = model["subgraphs"][0]["tensors"][-60:]
    assert all(np.array_equal(values_of(model, t), FEW) for t in tensors)


def test_constants_far_beyond_the_size_of_a_file_are_not_decoded(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    monkeypatch.setattr(decode_operators, "EXPANSION_FLOOR", 2**17)
    assert restore(decoded_many_times(40, kinds=40))
    hostile = decoded_many_times(120, kinds=120)
    monkeypatch.setattr(decode_operators, "MAX_EXPANSION", 10)
    with pytest.raises(FileFormatError, match=r"131,072 bytes once .*PENJING_LIMITS"):
        restore(hostile, "it")


def two_inputs():
    """A dense layer for each of two equal inputs, with a signature that names them."""
    file = MicroFile()
    ends = [file.tensor((1, 64), name=b"serving_default_x:0") for _ in range(2)]
    outputs = [file.dense(x, FEW_AND_SPARSE) for x in ends]
    signature = Record("SignatureDef", signature_key=b"serving_default")
    signature["inputs"] = [
        Record("TensorMap", name=name, tensor_index=n)
        for name, n in zip([b"left", b"right"], ends, strict=True)
    ]
    signature["outputs"] = [
        Record("TensorMap", name=name, tensor_index=n)
        for name, n in zip([b"output_1", b"output_0"], outputs, strict=True)
    ]
    file.model["signature_defs"] = [signature]
    return file.end(ends, outputs)


def test_several_inputs_and_outputs_keep_their_names(tmp_path):
    content = pack(two_inputs()).content
    graph = load_records(content, "f")["subgraphs"][0]
    names = [
        [graph["tensors"][n]["name"] for n in graph[side]]
        for side in ("inputs", "outputs")
    ]
    assert names == [[b"left", b"right"], [b"output_1", b"output_0"]]
    path = tmp_path / "packed.tflite"
    path.write_bytes(content)
    if has_tflm():
        x = np.zeros((2, 64), "f4")
        penjing.verify(path, "micro", inputs={"right": x, "left": x})
        with pytest.raises(DataError, match="packed.tflite has the inputs") as caught:
            penjing.verify(path, "micro", inputs={"wrong": x, "left": x})
        assert "['left', 'right']" in str(caught.value)
        assert str(path) in str(caught.value)


def test_one_input_takes_no_bytes_for_its_name():
    content = pack(dense_file(FEW_AND_SPARSE)).content
    assert all(not t["name"] for t in all_tensors(load_records(content, "f")))


def test_a_file_that_is_packed_is_not_packed_again():
    packed = pack(dense_file(FEW)).content
    with pytest.raises(FileFormatError, match="is packed already"):
        pack(packed)


def test_free_sizes_are_refused_with_the_way_out():
    model = load_records(dense_file(FEW), "f")
    tensor = model["subgraphs"][0]["tensors"][0]
    tensor["shape_signature"] = np.array([-1, 64], "<i4")
    with pytest.raises(FileFormatError, match=r"tensor 'x'.*runtime='micro'"):
        pack(write_records(model))


def test_a_memory_plan_of_its_own_is_refused():
    model = load_records(dense_file(FEW), "f")
    model["metadata"] = [Record("Metadata", name=b"OfflineMemoryAllocation")]
    with pytest.raises(FileFormatError, match="plan its memory again"):
        pack(write_records(model))


@needs_tflm
def test_noise_is_refused():
    noise = np.random.default_rng(0).integers(-128, 128, (24, 64))
    with pytest.raises(UnsupportedModelError, match="too few zeros and too many"):
        pack(dense_file(noise))


def test_what_can_not_be_decoded_is_named():
    file = MicroFile()
    x = file.tensor((1, 4))
    with pytest.raises(UnsupportedModelError, match="Its types are int8"):
        pack(file.end([x], [file.dense(x, np.ones((3, 4)))]))


@pytest.mark.parametrize("bound", [0, 1.5, True])
def test_the_bound_of_the_arena_is_a_number_of_bytes(bound):
    with pytest.raises(ValueError, match="max_arena"):
        pack(dense_file(FEW), max_arena=bound)
