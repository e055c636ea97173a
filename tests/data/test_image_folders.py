"""Folders of images: layouts, sizes, channels, and what is refused."""

import sys
import zlib

import numpy as np
import pytest

from penjing.data import image_folders
from penjing.data.image_folders import read_image_folder
from penjing.errors import CompressionWarning, DataError, MissingDependencyError

image_module = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.once


def write_image(path, colour=(255, 0, 0), size=(6, 4)):
    """Write an image of one colour, `size` being (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image_module.new("RGB", size, colour).save(path)


def fill(folder, count=5, classes=("cat", "dog"), colours=((255, 0, 0), (0, 0, 255))):
    for name, colour in zip(classes, colours, strict=True):
        for number in range(count):
            write_image(folder / name / f"{number}.png", colour)
    return folder


def test_train_and_test_folders_are_read_in_the_order_of_class_names(tmp_path):
    fill(tmp_path / "train", count=3)
    fill(tmp_path / "test", count=2)
    parts, names = read_image_folder(tmp_path, (4, 6, 3))
    assert names == ("cat", "dog")
    assert set(parts) == {"train", "test"}
    x, y = parts["train"]
    assert x.dtype == np.float32 and y.dtype == np.int32
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(x[0], np.broadcast_to([255, 0, 0], (4, 6, 3)))
    np.testing.assert_array_equal(x[5], np.broadcast_to([0, 0, 255], (4, 6, 3)))
    assert parts["test"][0].shape == (4, 4, 6, 3)


def test_a_validation_folder_is_read_too(tmp_path):
    for part in ("train", "validation", "test"):
        fill(tmp_path / part, count=2)
    parts, _ = read_image_folder(tmp_path, (4, 6))
    assert len(parts["validation"][1]) == 4


def test_class_folders_are_split_80_20_of_each_class_by_seed(tmp_path):
    fill(tmp_path, count=10)
    for number in range(10):  # make images of a class differ
        write_image(tmp_path / "cat" / f"{number}.png", (number, 0, 0))
    parts, _ = read_image_folder(tmp_path, (4, 6, 3), seed=1)
    assert np.bincount(parts["train"][1]).tolist() == [8, 8]
    assert np.bincount(parts["test"][1]).tolist() == [2, 2]
    again, _ = read_image_folder(tmp_path, (4, 6, 3), seed=1)
    np.testing.assert_array_equal(again["test"][0], parts["test"][0])
    other, _ = read_image_folder(tmp_path, (4, 6, 3), seed=2)
    assert not np.array_equal(other["test"][0], parts["test"][0])


@pytest.mark.parametrize("size", [(4, 6), (4, 6, 1)])
def test_grey_follows_from_the_shape(tmp_path, size):
    parts, _ = read_image_folder(fill(tmp_path), size)
    x, y = parts["train"]
    assert x.shape[1:] == size
    # Pillow's grey is the Rec. 601 luma: 0.299 red + 0.587 green + 0.114 blue.
    np.testing.assert_allclose(x[y == 0], 0.299 * 255, atol=1)
    np.testing.assert_allclose(x[y == 1], 0.114 * 255, atol=1)


def test_images_are_resized_and_scaled(tmp_path):
    parts, _ = read_image_folder(fill(tmp_path), (3, 2, 3), pixel_maximum=1.0)
    x, y = parts["train"]
    assert x.shape[1:] == (3, 2, 3)
    np.testing.assert_allclose(x[y == 0][..., 0], 1, rtol=1e-6)


def test_files_that_are_not_images_are_passed_over_with_a_warning(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("hello")
    (tmp_path / "cat" / ".hidden").write_text("hello")
    (tmp_path / ".git").mkdir()
    with pytest.warns(
        CompressionWarning, match=r"1 files in .*cat.*instance notes\.txt"
    ):
        _, names = read_image_folder(tmp_path, (4, 6))
    assert names == ("cat", "dog")


@pytest.mark.parametrize(
    "size", [None, (28,), (28, 28, 2), (28, 28, 1, 1), (0, 28), (None, None, 3)]
)
def test_an_impossible_size_is_refused(tmp_path, size):
    with pytest.raises(DataError, match=r"need `image_size` \(height, width\)"):
        read_image_folder(fill(tmp_path), size)


@pytest.mark.parametrize("parts", [("Train", "Test"), ("TRAINING", "valid")])
def test_parts_of_other_names_are_not_taken_for_classes(tmp_path, parts):
    for part in parts:
        fill(tmp_path / part)
    with pytest.raises(DataError, match=f"{min(parts)}, .* Rename them to train, test"):
        read_image_folder(tmp_path, (4, 6))


def test_a_missing_part_is_refused(tmp_path):
    fill(tmp_path / "train")
    with pytest.raises(DataError, match="has train but no folder 'test'"):
        read_image_folder(tmp_path, (4, 6))


def test_a_class_that_training_lacks_is_refused(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("cat", "fox"))
    with pytest.raises(DataError, match="has the class 'fox', which .* lacks"):
        read_image_folder(tmp_path, (4, 6))


def test_a_test_folder_need_not_have_every_class(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("dog",), colours=((0, 0, 0),))
    parts, _ = read_image_folder(tmp_path, (4, 6))
    assert set(parts["test"][1]) == {1}


def test_empty_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="has no class folders. Expected"):
        read_image_folder(tmp_path, (4, 6))
    (fill(tmp_path) / "empty").mkdir()
    with pytest.raises(DataError, match="class folder .*empty has no images"):
        read_image_folder(tmp_path, (4, 6))


def test_too_few_images_to_split_are_refused(tmp_path):
    with pytest.raises(DataError, match="too few images to split 80/20"):
        read_image_folder(fill(tmp_path, count=1), (4, 6))


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"0" * 9]
)
def test_a_corrupt_image_is_named(tmp_path, content):
    fill(tmp_path)
    (tmp_path / "dog" / "3.png").write_bytes(content)
    with pytest.raises(DataError, match=r"Cannot read the image .*dog.3\.png"):
        read_image_folder(tmp_path, (4, 6))


def test_a_truncated_image_is_named(tmp_path):
    fill(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    path = tmp_path / "dog" / "3.png"
    image_module.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"Cannot read the image .*dog.3\.png"):
        read_image_folder(tmp_path, (4, 6))


def test_an_image_of_gigantic_size_is_not_unpacked(tmp_path):
    def chunk(kind, data):
        length, check = len(data), zlib.crc32(kind + data)
        return length.to_bytes(4, "big") + kind + data + check.to_bytes(4, "big")

    side = (12_000).to_bytes(4, "big")
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side + side + b"\x08\0\0\0\0")
    fill(tmp_path)
    (tmp_path / "cat" / "0.png").write_bytes(bomb + chunk(b"IDAT", b""))
    with pytest.raises(DataError, match="Cannot read the image .* exceeds limit"):
        read_image_folder(tmp_path, (4, 6))


def test_more_images_than_memory_are_refused_before_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folders, "_MAX_BYTES", 4 * 4 * 6 * 9)
    monkeypatch.setattr(image_folders, "read_image", lambda *_: pytest.fail("read"))
    with pytest.raises(DataError, match="10 images, .*do not fit .* a loader"):
        read_image_folder(fill(tmp_path), (4, 6))


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingDependencyError, match=r"penjing\[images\]"):
        read_image_folder(fill_without_pillow(tmp_path), (4, 6))


def fill_without_pillow(folder):
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        (folder / name / "0.png").write_bytes(b"")
    return folder
