"""Real inputs for a file: arrays, or those of data."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.specializing.graphs import Graph

from penjing import cli
from penjing.cli.files.real_inputs import read_inputs
from penjing.errors import DataError
from penjing.tflite.operators import Operator

pytestmark = pytest.mark.once

X = np.arange(12.0, dtype="float32").reshape(3, 4)


def test_arrays_are_taken_as_they_are_and_data_by_its_test_part(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.testing.assert_array_equal(read_inputs(tmp_path / "x.npy", None), X)
    path = tmp_path / "x.npz"
    np.savez(path, anything=X)
    np.testing.assert_array_equal(read_inputs(path, None), X)
    np.savez(path, a=X, b=X + 1)
    found = read_inputs(path, None)
    assert sorted(found) == ["a", "b"] and found["b"][0, 0] == 1
    np.savez(path, x_train=X, y_train=X, x_test=X + 2, y_test=X)
    np.testing.assert_array_equal(read_inputs(path, None), X + 2)
    np.savez(path, x_train_a=X, x_train_b=X, y_train=X)
    assert sorted(read_inputs(path, None)) == ["a", "b"]
    assert read_inputs(None, None) is None


def test_a_function_gives_its_test_part(tmp_path, monkeypatch):
    (tmp_path / "own_inputs.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    x = np.ones((3, 4), 'float32')\n"
        "    return (x, x[:, 0]), (2 * x, x[:, 0])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read_inputs("own_inputs:load", None).max() == 2.0


def test_pixels_of_a_folder_go_as_far_as_is_said(tmp_path):
    net = Graph()
    x, y = net.tensor([1, 2, 2, 3]), net.tensor([1, 2, 2, 3])
    net.add(Operator.RELU, [x], y)
    (tmp_path / "m.tflite").write_bytes(net.content([x], [y]))
    for part in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            Image.fromarray(np.full((2, 2, 3), 255, "uint8")).save(folder / "i.png")
    for pixels, most in (("0-255", 255.0), ("0-1", 1.0)):
        found = read_inputs(tmp_path / "photos", tmp_path / "m.tflite", pixels)
        assert found.max() == most


def test_photos_are_read_in_no_size_where_a_file_leaves_it_open(tmp_path):
    net = Graph()
    x, y = net.tensor([1, 1, 1, 3]), net.tensor([1, 1, 1, 3])
    net.graph["tensors"][x]["shape_signature"] = np.array([-1, -1, -1, 3], "<i4")
    net.add(Operator.RELU, [x], y)
    (tmp_path / "free.tflite").write_bytes(net.content([x], [y]))
    (tmp_path / "photos").mkdir()
    image = Image.fromarray(np.full((2, 2, 3), 255, "uint8"))
    image.save(tmp_path / "photos" / "i.png")
    with pytest.raises(DataError, match="need `image_size`.*got None"):
        read_inputs(tmp_path / "photos", tmp_path / "free.tflite")


def test_inputs_of_several_names_are_those_that_compress_reads(tmp_path):
    net = Graph()
    x, y = net.tensor([1, 4]), net.tensor([1, 4])
    net.add(Operator.RELU, [x], y)
    file = tmp_path / "m.tflite"  # its input is x_0
    file.write_bytes(net.content([x], [y]))
    for names, expected in (
        (("x_a", "x_b", "y_a"), ["a", "b"]),
        (("x_train_a", "x_train_b", "x_test_a", "x_test_b"), ["a", "b"]),
        (("x_a", "other"), ["other", "x_a"]),
    ):
        np.savez(tmp_path / "x.npz", **dict.fromkeys(names, X))
        assert sorted(read_inputs(tmp_path / "x.npz", file)) == expected
    np.savez(tmp_path / "x.npz", x=X, y=X + 1)
    np.testing.assert_array_equal(read_inputs(tmp_path / "x.npz", file), X)
    both = net.tensor([1, 4])
    file.write_bytes(net.content([x, both], [y]))
    np.savez(tmp_path / "x.npz", x_0=X, x_1=X)
    assert sorted(read_inputs(tmp_path / "x.npz", file)) == ["x_0", "x_1"]


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_pixels_of_arrays_are_not_scaled(tmp_path, name):
    with pytest.raises(DataError, match="Pixels are scaled where"):
        read_inputs(tmp_path / name, None, "0-1")


def test_damaged_arrays_are_refused(tmp_path):
    whole = io.BytesIO()
    np.save(whole, X)
    for content in (b"x", whole.getvalue()[:-1], whole.getvalue()[:20]):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(DataError, match="Cannot read .*numpy.save"):
            read_inputs(tmp_path / "x.npy", None)
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match="objects are not allowed"):
        read_inputs(tmp_path / "o.npy", None)
    np.savez(tmp_path / "none.npz")
    with pytest.raises(DataError, match="holds no arrays"):
        read_inputs(tmp_path / "none.npz", None)


def test_verify_compares_on_them(tmp_path, capsys):
    net = Graph()
    x, y = net.tensor([1, 4]), net.tensor([1, 4])
    net.add(Operator.RELU, [x], y)
    (tmp_path / "m.tflite").write_bytes(net.content([x], [y]))
    np.save(tmp_path / "x.npy", X)
    common = ["verify", str(tmp_path / "m.tflite"), "--runtime", "x86", "--rounds", "1"]
    assert cli.main([*common, "--inputs", str(tmp_path / "x.npy")]) == 0
    assert "on 3 samples" in " ".join(capsys.readouterr().out.split())
    np.save(tmp_path / "x.npy", X[:, :3])
    assert cli.main([*common, "--inputs", str(tmp_path / "x.npy")]) == 1
    assert "has the shape" in capsys.readouterr().err
