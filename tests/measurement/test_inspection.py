"""What is found in model files, sound and hostile ones."""

import io
import itertools
import json
import zipfile

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tflite import tflite_writer as writer

from penjing.errors import FileFormatError
from penjing.measurement.inspection import Inspection, inspect_file

pytestmark = pytest.mark.once


def rows(inspection):
    return {tensor.name: tensor for tensor in inspection.tensors}


def inspect_bytes(data, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    return inspect_file(path)


def hidden(inspection):
    return next(t for t in inspection.tensors if t.shape in ((40, 144), (144, 40)))


# Keras files


def model_with_zeros():
    model = writer.small_model()
    kernel, bias = model.get_layer("hidden").get_weights()
    kernel[:, :30] = 0
    model.get_layer("hidden").set_weights([kernel, bias])
    return model


def test_a_keras_file_shows_every_weight_of_the_model(tmp_path):
    model = model_with_zeros()
    model.save(tmp_path / "model.keras")
    inspection = inspect_file(tmp_path / "model.keras")
    assert inspection.format == "keras"
    assert inspection.bytes == (tmp_path / "model.keras").stat().st_size
    found = sorted((t.size, t.zeros, t.distinct) for t in inspection.tensors)
    assert found == sorted(
        (w.size, int((w == 0).sum()), len(np.unique(w))) for w in model.get_weights()
    )
    row = hidden(inspection)
    assert (row.layer, row.dtype, row.zeros) == ("hidden", "float32", 144 * 30)
    assert row.bytes == 4 * row.size
    assert row.gzip < 0.4 * row.bytes
    assert row.hint.startswith("75% zeros stored one by one")
    (hint,) = inspection.hints
    assert "75% of the values in 1 tensor are zeros" in hint
    assert "export it with penjing.export_litert" in hint


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5", "model.h5"])
def test_every_kind_of_keras_file_holds_the_same_tensors(tmp_path, name):
    model = model_with_zeros()
    if name.endswith(".weights.h5"):
        model.save_weights(tmp_path / name)
    else:
        model.save(tmp_path / name)
    inspection = inspect_file(tmp_path / name)
    sizes = sorted(tensor.size for tensor in inspection.tensors)
    assert sizes == sorted(weight.size for weight in model.get_weights())
    assert hidden(inspection).layer == "hidden"
    assert hidden(inspection).zeros == 144 * 30


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_the_state_of_an_optimizer_is_told_apart(tmp_path, name):
    model = writer.small_model()
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 8, 8, 1)), np.zeros((2, 3)), verbose=0)
    model.save(tmp_path / name)
    inspection = inspect_file(tmp_path / name)
    state = [t for t in inspection.tensors if t.is_optimizer_state]
    plain = [t for t in inspection.tensors if not t.is_optimizer_state]
    weights = sum(tensor.bytes for tensor in plain)
    assert weights == 4 * model.count_params()
    assert sum(tensor.bytes for tensor in state) >= 2 * weights
    assert all("not needed to run" in tensor.hint for tensor in state)
    assert any("optimizer's state takes" in hint for hint in inspection.hints)


def test_variables_come_in_counting_order(tmp_path):
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for number in range(12):
            file[f"vars/{number}"] = np.zeros(1)
    names = [tensor.name for tensor in inspect_file(tmp_path / "many.h5").tensors]
    assert names == [f"vars/{number}" for number in range(12)]


def test_every_type_is_counted(tmp_path):
    with h5py.File(tmp_path / "types.h5", "w") as file:
        file["nan"] = np.array([np.nan, np.nan, -0.0, 0.0, 1.0], "float32")
        file["half"] = np.array([0, 2, 2], "float16")
        file["flags"] = np.array([True, False, False])
        file["complex"] = np.array([0, 1j, 1j, 2], "complex128")
        brain = np.array([0, 1.5, -1.5, 1.5], ml_dtypes.bfloat16)
        file["brain"] = brain.view("V2")
        file["brain"].attrs["dtype"] = "bfloat16"
        file["text"] = np.array([b"abc", b"de"])
        file["objects"] = np.array(["abc", "de"], h5py.string_dtype())
        file["scalar"] = 3
        file["nothing"] = np.zeros((0, 3))
    found = rows(inspect_file(tmp_path / "types.h5"))
    counts = {name: (row.zeros, row.distinct) for name, row in found.items()}
    assert counts == {
        "nan": (2, 3),
        "half": (1, 2),
        "flags": (2, 2),
        "complex": (1, 3),
        "brain": (1, 3),
        "text": (None, None),
        "objects": (None, None),
        "scalar": (0, 1),
        "nothing": (0, 0),
    }
    assert found["brain"].dtype == "bfloat16"
    assert found["nothing"].sparsity == 0.0


def test_an_inspection_is_frozen_prints_and_becomes_json(tmp_path):
    model_with_zeros().save(tmp_path / "model.keras")
    inspection = inspect_file(tmp_path / "model.keras")
    content = json.loads(json.dumps(inspection.to_dict()))
    assert content["tensors"][2]["shape"] == [144, 40]
    assert content["tensors"][2]["zeros"] == 144 * 30
    assert "layers/dense/vars/0 (144, 40) float32: 75.0% zeros" in str(inspection)
    with pytest.raises(AttributeError):
        inspection.path = "other"


# .tflite files


def test_a_float_file_shows_its_weights(converted):
    inspection = inspect_file(converted / "zeros.tflite")
    kernel = np.load(converted / "data.npz")["kernel"]
    row = hidden(inspection)
    assert (row.dtype, row.zeros) == ("float32", int((kernel == 0).sum()))
    assert row.distinct == len(np.unique(kernel))
    assert row.bytes == kernel.nbytes
    assert any('quantization="int8"' in hint for hint in inspection.hints)


def test_a_dynamic_range_file_says_what_stayed_float(converted):
    inspection = inspect_file(converted / "dynamic.tflite")
    row = hidden(inspection)
    assert (row.dtype, row.num_scales, row.bytes) == ("int8", 40, 144 * 40)
    assert row.distinct <= 255
    assert "40 scales, one for each channel" in row.hint
    small = [tensor for tensor in inspection.tensors if tensor.shape == (3, 40)]
    assert (
        small[0].hint == "left in float32, as the converter does below 1,024 elements"
    )
    assert any("4 tensors (652 B) stayed float32" in hint for hint in inspection.hints)


def test_the_numbers_agree_with_those_of_the_runtime(converted):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    for name in ("float", "dynamic", "int8", "zeros"):
        path = converted / f"{name}.tflite"
        # A delegate would repack the weights.
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(str(path), experimental_op_resolver_type=plain)
        interpreter.allocate_tensors()
        known = {}
        for detail in interpreter.get_tensor_details():
            known.setdefault(detail["name"], detail)
        for row in inspect_file(path).tensors:
            values = interpreter.get_tensor(known[row.name]["index"])
            assert row.shape == values.shape
            assert row.dtype == str(values.dtype)
            assert row.zeros == int((values == 0).sum())
            assert row.distinct == len(np.unique(values))
            assert row.bytes == values.nbytes


def test_a_sparse_encoded_tensor_is_reported_as_such(converted):
    kernel = np.load(converted / "data.npz")["kernel"]
    row = hidden(inspect_file(converted / "sparse.tflite"))
    assert row.is_sparse
    assert row.zeros == int((kernel == 0).sum())
    assert row.distinct == len(np.unique(kernel))
    kept = 4 * int((kernel != 0).sum())
    assert kept < row.bytes < 0.5 * kernel.nbytes
    assert row.hint.startswith("sparse-encoded")


def test_packed_integers_are_unpacked(tmp_path):
    four = bytes([0x0F, 0x80, 0x07])  # -1, 0, 0, -8, 7
    two = bytes([0b11100100])  # 0, 1, -2, -1
    tensors = [
        writer.make_tensor("four", [5], 17, 1, [0]),
        writer.make_tensor("two", [2, 2], 19, 2, [0]),
        writer.make_tensor("unsigned", [5], 20, 3, [15]),
    ]
    data = writer.make_file(tensors, [b"", four, two, four])
    found = rows(inspect_bytes(data, tmp_path))
    assert (found["four"].dtype, found["four"].zeros) == ("int4", 2)
    assert (found["four"].distinct, found["four"].bytes) == (4, 3)
    assert (found["two"].dtype, found["two"].zeros, found["two"].distinct) == (
        "int2",
        1,
        4,
    )
    assert (found["unsigned"].zeros, found["unsigned"].distinct) == (1, 4)


def test_zero_is_the_zero_point(tmp_path):
    values = np.array([[3, 5, 3], [5, 5, 0]], "u1").tobytes()
    tensors = [
        writer.make_tensor("whole", [2, 3], 3, 1, [3]),
        writer.make_tensor("rows", [2, 3], 3, 2, [3, 5], axis=0),
        writer.make_tensor("columns", [2, 3], 3, 3, [3, 5, 1], axis=1),
    ]
    found = rows(
        inspect_bytes(writer.make_file(tensors, [b"", *[values] * 3]), tmp_path)
    )
    assert found["whole"].zeros == 2
    assert found["rows"].zeros == 4
    assert found["columns"].zeros == 3


def test_tensors_without_data_are_left_out_and_shared_bytes_come_once(tmp_path):
    tensors = [
        writer.make_tensor("activation", [1, 4], 0, 0),
        writer.make_tensor("first", [2], 0, 1),
        writer.make_tensor("second", [2], 0, 1),
    ]
    data = writer.make_file(tensors, [b"", b"\0" * 8])
    assert list(rows(inspect_bytes(data, tmp_path))) == ["first"]


def test_text_is_no_number(tmp_path):
    data = writer.make_file([writer.make_tensor("t", [1], 5, 1)], [b"", b"abc"])
    (row,) = inspect_bytes(data, tmp_path).tensors
    assert (row.dtype, row.zeros, row.distinct, row.bytes) == ("string", None, None, 3)


# Hostile files


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (("t", [3], 0, 1), "has 3 values of 32 bits, but 8 bytes"),
        (("t", [2**31 - 1] * 20, 0, 1), "values of 32 bits, but 8 bytes"),
        (("t", [-2], 0, 1), r"has the shape \(-2,\)"),
        (("t", [1] * 33, 0, 1), "has the shape"),
        (("t", [2], 99, 1), "unknown type 99"),
        (("t", [2], 0, 7), "uses buffer 7 of 2"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(tmp_path, tensor, message):
    data = writer.make_file([writer.make_tensor(*tensor)], [b"", b"\0" * 8])
    with pytest.raises(FileFormatError, match=f"is corrupt: .*{message}"):
        inspect_bytes(data, tmp_path)


def test_every_truncation_is_refused_or_read(converted, tmp_path):
    data = (converted / "dynamic.tflite").read_bytes()
    cuts = itertools.chain(range(200), range(200, len(data) - 1, 97))
    refused = 0
    for cut in cuts:
        try:
            inspect_bytes(data[:cut], tmp_path)
        except FileFormatError:
            refused += 1
    assert refused > 0.9 * (200 + (len(data) - 200) // 97)


@settings(max_examples=300)
@given(st.data())
def test_flipped_bytes_are_refused_or_read(converted, tmp_path_factory, data):
    original = (converted / "int8.tflite").read_bytes()
    content = bytearray(original)
    # Most bytes are weights; the tables that point to each other are the rest.
    tables = [n for n in range(len(original)) if n < 200 or n > len(original) - 4000]
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.sampled_from(tables))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("flipped", numbered=True)
    try:
        assert isinstance(inspect_bytes(bytes(content), folder), Inspection)
    except FileFormatError as error:
        assert len(str(error)) < 500


@settings(max_examples=100)
@given(st.binary(max_size=400))
def test_noise_is_refused_or_read(tmp_path_factory, noise):
    folder = tmp_path_factory.mktemp("noise", numbered=True)
    try:
        inspect_bytes(noise[:4] + b"TFL3" + noise[4:], folder)
    except FileFormatError as error:
        assert len(str(error)) < 500


def test_a_file_of_another_kind_is_refused(tmp_path):
    for name, content, message in [
        ("a.tflite", b"no model at all", "lacks the mark TFL3"),
        ("a.keras", b"no model at all", "a.keras.*corrupt or not of the type"),
        ("a.h5", b"no model at all", "a.h5.*corrupt or not of the type"),
        ("a.onnx", b"1", "unknown suffix '.onnx'. Allowed: .keras, .h5, .hdf5"),
        ("a.h5", b"", "is empty"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=message):
            inspect_file(tmp_path / name)
    with pytest.raises(FileFormatError, match="There is no file"):
        inspect_file(tmp_path / "none.keras")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(FileFormatError, match="is a folder"):
        inspect_file(tmp_path / "folder.keras")


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_truncated_keras_files_are_refused(tmp_path, name):
    model = writer.small_model()
    getattr(model, "save_weights" if "weights" in name else "save")(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for share in (0.01, 0.3, 0.6, 0.9, 0.99):
        (tmp_path / name).write_bytes(data[: int(share * len(data))])
        with pytest.raises(FileFormatError, match="corrupt"):
            inspect_file(tmp_path / name)


def test_damaged_members_are_refused(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(
        tmp_path / "model.keras"
    )
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        weights = bytearray(archive.read("model.weights.h5"))
    for start in range(0, 600, 40):
        damaged = bytes(weights[:start] + b"\xff" * 40 + weights[start + 40 :])
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("model.weights.h5", damaged)
        (tmp_path / "damaged.keras").write_bytes(packed.getvalue())
        try:
            assert inspect_file(tmp_path / "damaged.keras").format == "keras"
        except FileFormatError as error:
            assert "Cannot read" in str(error) or "not a model" in str(error)
