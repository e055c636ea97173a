"""Sizes are those of real files."""

import copy
import dataclasses
import gzip
import lzma
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.errors import FileFormatError
from penjing.measurement import size as size_module
from penjing.measurement.size import Size, format_bytes, lower_levels, measure_size

pytestmark = pytest.mark.once


@pytest.fixture
def model_file(tmp_path):
    weights = np.random.default_rng(0).normal(size=5000).astype("float32")
    weights[np.arange(5000) % 5 > 0] = 0
    path = tmp_path / "my.model.tflite"
    path.write_bytes(weights.tobytes())
    return path


def test_zip_is_that_of_a_real_archive(model_file, tmp_path):
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(
        archive, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=6
    ) as file:
        file.write(model_file, arcname=model_file.name)
    assert measure_size(model_file).zip == archive.stat().st_size


def test_each_size_is_that_of_its_own_tool_and_can_be_unpacked(model_file):
    import brotli
    import zstandard

    data = model_file.read_bytes()
    size = measure_size(model_file)
    assert size.raw == len(data) == 20_000
    assert size.gzip == len(gzip.compress(data, 9)), "the date has a fixed length"
    packed = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    assert size.xz == len(packed)
    packed = zstandard.ZstdCompressor(level=19).compress(data)
    assert (size.zstd, zstandard.decompress(packed)) == (len(packed), data)
    packed = brotli.compress(data, quality=11)
    assert (size.brotli, brotli.decompress(packed)) == (len(packed), data)
    assert max(size.zip, size.gzip, size.zstd, size.brotli, size.xz) < 0.4 * size.raw


def test_a_size_is_measured_when_it_is_asked_for(model_file, monkeypatch):
    asked = []
    compressed = size_module._compressed
    monkeypatch.setattr(
        size_module,
        "_compressed",
        lambda name, *content: asked.append(name) or compressed(name, *content),
    )
    size = measure_size(model_file)
    expected = len(gzip.compress(model_file.read_bytes(), 9))
    model_file.write_bytes(b"another content")
    assert size.raw == 20_000 and not asked
    assert size.gzip == size.gzip == expected and asked == ["gzip"]
    with pytest.raises(AttributeError, match="'Size' object has no attribute 'lzma'"):
        size.lzma  # noqa: B018
    twin = copy.deepcopy(size)
    assert twin == size and hash(twin) == hash(size)
    assert sorted(asked) == ["brotli", "gzip", "xz", "zip", "zstd"]
    assert Size(**twin.to_dict()) == pickle.loads(pickle.dumps(size)) == size
    assert set(vars(size)) == {"raw", *asked}, "the bytes are held no longer"
    assert repr(size).startswith("Size(raw=20000, zip=")


def test_large_files_get_lower_levels_and_say_so(monkeypatch):
    data = bytes(np.random.default_rng(0).integers(0, 9, 60_000, "u1"))
    best = measure_size(data)
    assert best.levels == {
        "zip": "6",
        "gzip": "9",
        "zstd": "19",
        "brotli": "11",
        "xz": "9e",
    }
    assert lower_levels(best) == {} and "level" not in str(best)
    levels = {
        name: tuple((least // 2**12, level) for least, level in steps)
        for name, steps in size_module._LEVELS.items()
    }
    monkeypatch.setattr(size_module, "_LEVELS", levels)
    size = measure_size(data)
    lower = {"gzip": "6", "zstd": "12", "brotli": "9", "xz": "3"}
    assert lower_levels(size) == lower
    assert size.to_dict()["levels"] == {"zip": "6", **lower}
    assert Size.from_dict(size.to_dict()) == size
    assert f"brotli {format_bytes(size.brotli)} (level 9)" in str(size)
    import brotli

    assert size.brotli == len(brotli.compress(data, quality=9))
    assert size.xz == len(lzma.compress(data, preset=3))
    assert size.gzip == len(gzip.compress(data, 6))


def test_bytes_and_files_agree_but_for_the_name(model_file):
    of_file, of_bytes = measure_size(model_file), measure_size(model_file.read_bytes())
    longer = 2 * (len(model_file.name) - len("data"))
    assert dataclasses.replace(of_file, zip=of_file.zip - longer) == of_bytes
    assert measure_size(str(model_file)) == of_file


def test_the_same_bytes_give_the_same_sizes_at_any_time(model_file):
    before = measure_size(model_file)
    os.utime(model_file, (10**9, 10**9))
    assert measure_size(model_file) == before


def test_a_name_need_not_be_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"m\xff.tflite")
    path.write_bytes(b"12345678")
    assert measure_size(path).zip > 8


@given(st.binary(min_size=1, max_size=300))
def test_no_archive_is_much_larger_than_its_content(data):
    size = measure_size(data)
    assert size.raw == len(data)
    assert size.zip <= len(data) + 200


def test_it_prints_and_becomes_json():
    size = Size(raw=20_410, zip=900, gzip=1000, zstd=999_499, brotli=999_500, xz=10**9)
    assert str(size) == (
        "raw 20.4 kB, zip 900 B, gzip 1.00 kB, zstd 999 kB, brotli 1.00 MB, xz 1.00 GB"
    )
    assert size.to_dict() == {
        "raw": 20_410,
        "zip": 900,
        "gzip": 1000,
        "zstd": 999_499,
        "brotli": 999_500,
        "xz": 10**9,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        size.raw = 1


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (5 * 10**12, "5000 GB"),
    ],
)
def test_bytes_have_three_digits(count, text):
    assert format_bytes(count) == text


def test_refusals(tmp_path, monkeypatch):
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"12345")
    monkeypatch.setattr(size_module, "MAX_FILE_BYTES", 4)
    for source, message in [
        (tmp_path / "none", "There is no file .*none. Check the path"),
        (tmp_path, "is a folder. Give the path of a file"),
        (tmp_path / "empty", "empty is empty"),
        (tmp_path / "large", "large has 5 bytes, more than the 4 that are allowed"),
        (b"", "no bytes to measure"),
        (b"12345", "Got 5 bytes, more than the 4 allowed"),
    ]:
        with pytest.raises(FileFormatError, match=message):
            measure_size(source)
