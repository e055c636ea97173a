"""Sizes after gzip of parts: each once, and in all as those of whole files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from penjing.shrinking import gzip_sizes
from penjing.shrinking.gzip_sizes import GzipSizes, split_file
from penjing.tflite.records import Record
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(gzip_sizes, "SPLIT_BYTES", 50_000)
    monkeypatch.setattr(gzip_sizes, "_LARGE_CONSTANT", 20_000)


def model_of(*sizes, seed=0):
    generator = np.random.default_rng(seed)
    contents = [(generator.normal(size=n) * 9).astype("i1").view("u1") for n in sizes]
    buffers = [Record("Buffer"), *(Record("Buffer", data=c) for c in contents)]
    return Record("Model", description=b"of a test", buffers=buffers)


def zipped(content):
    return len(gzip.compress(content, 9, mtime=0))


def test_large_constants_are_parts_and_nothing_is_lost():
    model = model_of(30_000, 500, 25_000, 19_999)
    content = write_records(model)
    parts = split_file(content, model)
    assert sorted(map(len, parts))[1:] == [25_000, 30_000]
    assert sum(map(len, parts)) == len(content)
    whole = sorted(content)
    assert sorted(b"".join(parts)) == whole


def test_the_sum_is_that_of_the_whole_file_but_for_headers():
    model = model_of(30_000, 25_000)
    content = write_records(model)
    parts = split_file(content, model)
    assert GzipSizes(9).of(parts) == pytest.approx(
        zipped(content), rel=5e-3
    )  # tables of their own


def test_small_files_are_compressed_as_a_whole():
    model = model_of(30_000)
    content = write_records(model)
    assert split_file(content, model) == [content]
    assert GzipSizes(9).of([content]) == zipped(content)
    quick = len(gzip.compress(content, 1, mtime=0))
    assert GzipSizes(1).of([content]) == quick > zipped(content)


def test_a_constant_stored_twice_and_one_that_is_not_there():
    model = model_of(30_000, 25_000)
    twice = [*model["buffers"], model["buffers"][1]]
    content = write_records(Record("Model", buffers=twice), share=False)
    model["buffers"] = [*twice, *model_of(40_000, seed=1)["buffers"]]
    parts = split_file(content, model)
    assert sum(map(len, parts)) == len(content) > 85_000


def test_parts_that_are_known_are_not_compressed_again(monkeypatch):
    asked = []
    gzip_bytes = gzip_sizes.gzip_bytes
    monkeypatch.setattr(
        gzip_sizes,
        "gzip_bytes",
        lambda part, level: asked.append(part) or gzip_bytes(part, level),
    )
    sizes, model = GzipSizes(9), model_of(30_000, 25_000)
    sizes.of(split_file(write_records(model), model))
    assert len(asked) == 3
    model["description"] = b"another text"
    assert sizes.of(split_file(write_records(model), model))
    assert len(asked) == 4 and len(asked[3]) < 1000
