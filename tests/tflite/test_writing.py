"""Files hold each thing once, and are no longer than they need be."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.errors import FileFormatError
from penjing.tflite import writing
from penjing.tflite.records import Record, read_records
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once


def model_of(*tensors, **fields):
    return Record(
        "Model", subgraphs=[Record("SubGraph", tensors=list(tensors))], **fields
    )


def tensor(**fields):
    return Record("Tensor", shape=np.array([1, 2, 3, 4, 5], "<i4"), **fields)


def test_equal_tables_and_vectors_are_written_once():
    one, two = (len(write_records(model_of(*[tensor()] * n))) for n in (1, 2))
    assert two - one <= 8  # a place in the list, and padding
    other = len(write_records(model_of(tensor(), tensor(type=9))))
    assert other - two >= 8  # a table of its own, whose shape is the same
    apart = write_records(model_of(*[tensor()] * 2), share=False)
    assert len(apart) - two >= 24
    assert len(read_records(apart, "it")["subgraphs"][0]["tensors"]) == 2


def test_what_is_as_it_is_by_default_is_left_out_where_defaults_are_known():
    assert write_records(model_of(tensor(type=0, buffer=0))) == write_records(
        model_of(tensor())
    )
    options = [Record("AddOptions", pot_scale_int16=value) for value in (1, None)]
    written = [
        write_records(
            Record(
                "Model",
                subgraphs=[
                    Record(
                        "SubGraph",
                        operators=[Record("Operator", builtin_options=item)],
                    )
                ],
            )
        )
        for item in options
    ]
    read = [
        read_records(content, "it")["subgraphs"][0]["operators"][0]["builtin_options"]
        for content in written
    ]
    assert ["pot_scale_int16" in item for item in read] == [True, False]


@pytest.mark.parametrize("length", [1, 3, 4, 15, 16, 17])
def test_the_bytes_of_a_buffer_begin_at_a_multiple_of_16(length):
    data = np.arange(1, length + 1, dtype="u1")
    content = write_records(model_of(buffers=[Record("Buffer", data=data)]))
    assert content.index(data.tobytes()) % 16 == 0
    assert len(content) % 4 == 0 and content[4:8] == b"TFL3"


def test_a_file_that_would_be_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(writing, "MAX_FILE_BYTES", 20)
    with pytest.raises(FileFormatError, match="bytes; a .tflite file has at most 20"):
        write_records(model_of(tensor()))
