"""Files that are edited in hand, and written when their bytes are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from penjing.errors import FileFormatError
from penjing.tflite import edited_file
from penjing.tflite.cleaning import drop_names
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.loading import load_records
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once
DATA = Path(__file__).parents[1] / "data/mlperf_tiny/keyword_spotting.tflite"


@pytest.fixture(scope="module")
def content():
    return DATA.read_bytes()


def test_bytes_stay_the_same_objects_until_something_changes(content):
    file = EditedFile(content, "it")
    assert file.edit(lambda model: False) is False
    assert file.content is content
    assert file.edit(lambda model: drop_names(model) or 7) == 7
    assert len(file.content) < len(content)
    assert b"conv2d" in content and b"conv2d" not in file.content


def test_edits_follow_each_other_and_are_written_once(content, monkeypatch):
    written = []

    def write(model):
        written.append(model)
        return write_records(model)

    monkeypatch.setattr(edited_file, "write_records", write)
    file = EditedFile(content, "it")
    file.edit(drop_names)
    file.edit(lambda model: model.drop("description"))
    assert not written
    assert file.content is file.content
    assert written == [file.model]
    assert load_records(file.content, "it")["description"] == b""


def test_another_file_takes_its_place(content):
    other = load_records(content, "it")
    drop_names(other)
    file = EditedFile(content, "it")
    file.replace(other, b"its bytes")
    assert file.content == b"its bytes"
    file.edit(lambda model: None)
    assert file.content == write_records(other)


def test_corrupt_files_are_refused_by_name_when_they_are_read():
    file = EditedFile(b"nothing of the sort", "the file")
    with pytest.raises(FileFormatError, match="the file is not a .tflite file"):
        file.edit(drop_names)
