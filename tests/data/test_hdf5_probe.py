"""A file in which the HDF5 library goes in circles is one error, and soon."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import keras
import pytest

import penjing
from penjing.data import hdf5_probe
from penjing.errors import FileFormatError
from penjing.models.model_files import load_keras_model

pytestmark = pytest.mark.once


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(hdf5_probe, "_SECONDS", 2)


def in_circles(path: Path) -> bytes:
    """A model's file whose heap of texts holds objects of no length."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.save(path)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 64 : heap + 4000] = bytes(4000 - 64)
    return bytes(content)


def test_a_heap_that_leads_in_circles_is_refused(tmp_path, quick):
    path = tmp_path / "model.h5"
    path.write_bytes(in_circles(path))
    for read in (load_keras_model, penjing.inspect_file):
        with pytest.raises(FileFormatError, match=r"model\.h5: the HDF5 lib.* 2 s[.]"):
            read(path)


def test_within_a_keras_file_too(tmp_path, quick):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    path = tmp_path / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = in_circles(tmp_path / "other.h5")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(FileFormatError, match=r"model\.keras: the HDF5 library"):
        load_keras_model(path)


def test_sound_files_pass(tmp_path, quick):
    path = tmp_path / "own.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("pieces", (100, 100), chunks=True, compression="gzip")
        file["circle/inner"] = file["/"]
        file["link"] = h5py.SoftLink("/nowhere")
        file["text"] = ["ab", "c"]
    hdf5_probe.check_comes_to_an_end(path, path)
    hdf5_probe.check_comes_to_an_end(path.read_bytes(), path)
