"""`penjing export`: files of a model without training, and what stays as it is."""

import json

import keras
import numpy as np
import pytest

from penjing import cli
from penjing.export.litert import export_litert
from penjing.runtime.tflm import has_tflm

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A classifier, its data, and inputs alone."""
    folder = tmp_path_factory.mktemp("export")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(folder / "m.keras")
    x = np.random.default_rng(0).normal(size=(60, 16)).astype("float32")
    y = np.argmax(model.predict(x, verbose=0), axis=1)
    np.savez(
        folder / "d.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:]
    )
    np.save(folder / "x.npy", x)
    return folder


def export(folder, *arguments):
    return cli.main(["export", str(folder / "m.keras"), *map(str, arguments)])


def test_a_file_of_integers_is_written_scored_and_told_of(folder, capsys):
    file = folder / "int8.tflite"
    data = ["--quantization", "int8x4", "--data", folder / "d.npz"]
    assert export(folder, file, *data, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == file.stat().st_size > found["gzip"]
    assert found["scores"]["model"]["accuracy"] == 1.0
    assert found["scores"]["file"]["accuracy"] > 0.8
    wanted = "(int8: fewer than 1,024 on no grid of 4 bits)"
    assert [note for note in found["notes"] if "192 numbers" in note and wanted in note]
    assert all("`" in note for note in found["notes"])
    written = file.read_bytes()
    assert export(folder, file, *data) == 1
    assert "There is a file" in capsys.readouterr().err
    assert file.read_bytes() == written


def test_the_model_is_never_written_over(folder, capsys):
    same = folder / "same.tflite"
    same.hardlink_to(folder / "m.keras")
    assert export(folder, same, "--overwrite") == 1
    assert "is the same file as" in capsys.readouterr().err


def test_what_needs_data_says_so_in_its_words(folder, capsys):
    file = folder / "none.tflite"
    assert export(folder, file, "--quantization", "int8") == 1
    assert "needs --data" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.skipif(not has_tflm(), reason="needs penjing[micro]")
def test_a_file_that_was_there_stays_where_packing_is_refused(folder, capsys):
    file = folder / "packed.tflite"
    file.write_bytes(b"mine")
    micro = ["--quantization", "int8", "--runtime", "micro", "--encoding", "packed"]
    micro += ["--data", folder / "x.npy", "--overwrite"]
    assert export(folder, file, *micro, "--max-arena", 1) == 1
    capsys.readouterr()
    assert file.read_bytes() == b"mine"
    before = sorted(path.name for path in folder.iterdir())
    assert "packed.tflite" in before and not any(n.startswith(".") for n in before)


def test_a_file_that_was_there_stays_where_warnings_are_errors(folder, tmp_path):
    file = tmp_path / "m.tflite"
    file.write_bytes(b"mine")
    model = keras.models.load_model(folder / "m.keras", compile=False)
    with pytest.raises(UserWarning, match="are equal"):
        export_litert(
            model, file, "int8", representative_data=np.ones((9, 16)), verify=False
        )
    assert file.read_bytes() == b"mine"
