"""The bundled data, the search for the full data, and what is refused."""

import dataclasses
import gzip
import hashlib
import importlib.resources
import struct
import tracemalloc
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penjing.data import datasets
from penjing.data.datasets import load_dataset, read_idx, stratified_split
from penjing.errors import DataError

pytestmark = pytest.mark.once

# Printed by benchmarks/bundle_fashion_mnist.py, from the official files.
BUNDLED_PIXELS = "04ee362f216e60f0f8dcd3e1353eb374a498528cfa549bd95214654bea2e0922"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx_bytes(array):
    header = struct.pack(">HBB", 0, 8, array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(path, array):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(idx_bytes(array))


@pytest.fixture
def small_world(monkeypatch, tmp_path):
    """Official files of 40 and 20 images, empty places, no network."""
    shapes = [(40, 28, 28), (40,), (20, 28, 28), (20,)]
    files = dict(zip(datasets._FULL_FILES, shapes, strict=True))
    monkeypatch.setattr(datasets, "_FULL_FILES", files)
    monkeypatch.setattr(datasets, "_DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    def no_network():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", no_network)
    return tmp_path


def official_arrays(first_pixel=0):
    random = np.random.default_rng(0)
    arrays = []
    for count in (40, 20):
        images = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        images[0, 0, 0] = first_pixel
        arrays += [images, np.arange(count, dtype=np.uint8) % 10]
    return arrays


def fill(folder, first_pixel=0):
    folder.mkdir(parents=True)
    for name, array in zip(
        datasets._FULL_FILES, official_arrays(first_pixel), strict=True
    ):
        write_idx(folder / name, array)
    return folder


class TestBundle:
    def test_it_is_balanced_and_scaled(self):
        data = load_dataset()
        assert data.name == "fashion-mnist-small"
        assert data.source == "bundled with penjing"
        assert data.num_classes == 10
        assert data.x_train.shape == (10_000, 28, 28)
        assert data.x_test.shape == (2_000, 28, 28)
        assert np.bincount(data.y_train).tolist() == [1_000] * 10
        assert np.bincount(data.y_test).tolist() == [200] * 10
        for images in (data.x_train, data.x_test):
            assert images.dtype == np.float32
            assert (images.min(), images.max()) == (0, 1)
        assert data.y_train.dtype == data.y_test.dtype == np.int32

    def test_its_pixels_are_those_drawn_from_the_official_files(self):
        data = load_dataset()
        total = hashlib.sha256()
        for array in (data.x_train * 255, data.y_train, data.x_test * 255, data.y_test):
            total.update(np.round(array).astype(np.uint8).tobytes())
        assert total.hexdigest() == BUNDLED_PIXELS

    def test_no_image_is_both_in_training_and_in_test(self):
        data = load_dataset()
        train = {image.tobytes() for image in data.x_train}
        assert not any(image.tobytes() in train for image in data.x_test)

    @pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs the official files")
    def test_every_image_is_in_the_official_split_with_its_label(self):
        small, full = load_dataset(), load_dataset("fashion-mnist")
        for part in ("train", "test"):
            official = {
                (image.tobytes(), int(label))
                for image, label in zip(
                    getattr(full, f"x_{part}"), getattr(full, f"y_{part}"), strict=True
                )
            }
            pairs = zip(
                getattr(small, f"x_{part}"), getattr(small, f"y_{part}"), strict=True
            )
            assert all(
                (image.tobytes(), int(label)) in official for image, label in pairs
            )

    def test_it_is_small_and_its_licence_lies_beside_it(self):
        folder = importlib.resources.files("penjing.data")
        assert len((folder / datasets.BUNDLE).read_bytes()) < 6_000_000
        notice = (folder / "LICENSE.fashion-mnist.txt").read_text("utf-8")
        assert "MIT License" in notice and "Zalando SE" in notice

    def test_a_damaged_bundle_says_install_again(self, monkeypatch, tmp_path):
        good = (
            importlib.resources.files("penjing.data") / datasets.BUNDLE
        ).read_bytes()
        monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
        for damaged in (b"", good[:-100], b"no xz at all"):
            (tmp_path / datasets.BUNDLE).write_bytes(damaged)
            with pytest.raises(DataError, match="bundled file .* corrupt .*from where"):
                load_dataset()
        (tmp_path / datasets.BUNDLE).unlink()
        with pytest.raises(DataError, match="bundled file .* missing"):
            load_dataset()

    def test_data_dir_has_no_use_with_it(self, tmp_path):
        with pytest.raises(DataError, match="no use with 'fashion-mnist-small'"):
            load_dataset(data_dir=tmp_path)


class TestSearch:
    def test_the_places_are_tried_in_order_and_named(self, small_world):
        own = fill(small_world / "own", first_pixel=255)
        cache = fill(small_world / "keras" / "datasets" / "fashion-mnist")
        debian = fill(small_world / "debian")
        data = load_dataset("fashion-mnist", own)
        assert data.source == f"data_dir: {own}"
        assert data.x_train[0, 0, 0] == 1
        assert load_dataset("fashion-mnist").source == f"Keras' cache: {cache}"
        (cache / "train-images-idx3-ubyte.gz").unlink()
        data = load_dataset("fashion-mnist")
        assert data.source == f"Debian's package: {debian}"
        np.testing.assert_array_equal(
            np.round(data.x_test * 255), official_arrays()[2].astype(np.float32)
        )
        np.testing.assert_array_equal(data.y_test, official_arrays()[3])

    def test_a_data_dir_without_the_files_is_reported_in_the_source(self, small_world):
        debian = fill(small_world / "debian")
        source = load_dataset("fashion-mnist", small_world / "nope").source
        assert source.startswith(f"Debian's package: {debian} (data_dir: ")
        assert "nope does not exist" in source

    def test_the_download_comes_last(self, small_world, monkeypatch):
        x_train, y_train, x_test, y_test = official_arrays()
        monkeypatch.setattr(
            keras.datasets.fashion_mnist,
            "load_data",
            lambda: ((x_train, y_train), (x_test, y_test)),
        )
        data = load_dataset("fashion-mnist")
        assert data.source == "downloaded by Keras"
        assert data.x_train.shape == (40, 28, 28)

    def test_a_download_of_the_wrong_size_is_refused(self, small_world, monkeypatch):
        x_train, y_train, x_test, y_test = official_arrays()
        monkeypatch.setattr(
            keras.datasets.fashion_mnist,
            "load_data",
            lambda: ((x_train[:5], y_train), (x_test, y_test)),
        )
        with pytest.raises(DataError, match=r"\(40, 28, 28\), got \(5, 28, 28\)"):
            load_dataset("fashion-mnist")

    def test_where_all_fail_one_error_lists_every_place(self, small_world):
        partial = small_world / "partial"
        fill(partial)
        (partial / "t10k-labels-idx1-ubyte.gz").unlink()
        with pytest.raises(DataError) as caught:
            load_dataset("fashion-mnist", partial)
        text = str(caught.value)
        assert f"data_dir: {partial} misses t10k-labels-idx1-ubyte.gz\n" in text
        assert f"Keras' cache: {small_world / 'keras'}" in text
        assert f"Debian's package: {small_world / 'debian'} does not exist" in text
        assert "download by Keras: URL fetch failure" in text
        assert "--data-dir" in text and "'fashion-mnist-small'" in text

    def test_a_corrupt_file_is_named_and_nothing_else_is_tried(self, small_world):
        folder = fill(small_world / "own")
        fill(small_world / "debian")
        file = folder / "train-images-idx3-ubyte.gz"
        file.write_bytes(file.read_bytes()[:-50])
        with pytest.raises(DataError, match=r"own.train-images.* Delete the file"):
            load_dataset("fashion-mnist", folder)

    def test_mnist_in_files_of_the_same_name_is_refused(self, small_world):
        folder = fill(small_world / "own")
        labels = official_arrays()[1]
        labels[0] = 1
        write_idx(folder / "train-labels-idx1-ubyte.gz", labels)
        with pytest.raises(DataError, match="not Fashion-MNIST.*MNIST has the same"):
            load_dataset("fashion-mnist", folder)

    def test_a_label_beyond_nine_is_refused(self, small_world):
        folder = fill(small_world / "own")
        write_idx(
            folder / "t10k-labels-idx1-ubyte.gz", np.arange(20, dtype=np.uint8) % 20
        )
        with pytest.raises(DataError, match="not 10 classes of equal size"):
            load_dataset("fashion-mnist", folder)

    def test_an_unknown_name_gets_the_nearest(self):
        with pytest.raises(
            DataError, match="'fashion-mnist-smal'. Did you mean 'fashi"
        ):
            load_dataset("fashion-mnist-smal")
        with pytest.raises(
            DataError, match="Allowed: 'fashion-mnist-small', 'fashion-"
        ):
            load_dataset("cifar10")


class TestIdx:
    GOOD = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)

    def test_a_good_file_is_read(self, tmp_path):
        write_idx(tmp_path / "a.gz", self.GOOD)
        np.testing.assert_array_equal(read_idx(tmp_path / "a.gz", (2, 3, 4)), self.GOOD)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda b: b[:10], r"header has 10 of 16 bytes"),
            (
                lambda b: b"\0\0\x09" + b[3:],
                r"magic number is 0x0903 instead of 0x0803",
            ),
            (lambda b: b[:4] + b"\xff" * 4 + b[8:], r"\(4294967295, 3, 4\) instead of"),
            (lambda b: b[:-1], r"ends after 23 of 24 values"),
            (lambda b: b + b"\0", r"goes on after the 24 values"),
        ],
    )
    def test_a_wrong_file_is_refused_with_the_reason(self, tmp_path, change, message):
        with gzip.open(tmp_path / "a.gz", "wb") as file:
            file.write(change(idx_bytes(self.GOOD)))
        with pytest.raises(DataError, match=message):
            read_idx(tmp_path / "a.gz", (2, 3, 4))

    @pytest.mark.parametrize("position", [0, 12, -6])
    def test_a_flipped_byte_is_found(self, tmp_path, position):
        write_idx(tmp_path / "a.gz", self.GOOD)
        data = bytearray((tmp_path / "a.gz").read_bytes())
        data[position] ^= 0xFF
        (tmp_path / "a.gz").write_bytes(data)
        with pytest.raises(DataError, match=r"a\.gz as gzipped IDX data"):
            read_idx(tmp_path / "a.gz", (2, 3, 4))

    def test_a_bomb_is_not_unpacked(self, tmp_path):
        with gzip.open(tmp_path / "a.gz", "wb") as file:
            file.write(idx_bytes(self.GOOD))
            for _ in range(64):
                file.write(bytes(2**20))
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match="goes on"):
                read_idx(tmp_path / "a.gz", (2, 3, 4))
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()


class TestValidation:
    def test_it_moves_the_same_part_of_each_class(self):
        data = load_dataset()
        split = data.with_validation(0.2, seed=7)
        assert np.bincount(split.y_train).tolist() == [800] * 10
        assert np.bincount(split.y_validation).tolist() == [200] * 10
        assert data.x_validation is None and len(data.y_train) == 10_000
        moved = {image.tobytes() for image in split.x_validation}
        kept = {image.tobytes() for image in split.x_train}
        assert moved | kept == {image.tobytes() for image in data.x_train}
        assert split.x_test is data.x_test

    def test_the_seed_decides(self):
        data = load_dataset()
        first = data.with_validation(0.1, seed=1)
        again = data.with_validation(0.1, seed=1)
        other = data.with_validation(0.1, seed=2)
        np.testing.assert_array_equal(first.x_validation, again.x_validation)
        assert not np.array_equal(first.x_validation, other.x_validation)

    def test_a_second_split_is_refused(self):
        split = load_dataset().with_validation()
        with pytest.raises(ValueError, match="already has a validation split of 1000"):
            split.with_validation()

    def test_it_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            load_dataset().name = "other"

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
    def test_an_impossible_fraction_is_refused(self, fraction):
        with pytest.raises(ValueError, match="`fraction` must be between 0 and 1"):
            load_dataset().with_validation(fraction)

    def test_a_split_that_leaves_nothing_is_refused(self):
        with pytest.raises(ValueError, match="3 examples .* leaves one part empty"):
            stratified_split(np.array([0, 1, 2]), 0.1, seed=0)

    @given(
        hnp.arrays(np.int32, st.integers(4, 60), elements=st.integers(0, 3)),
        st.floats(0.2, 0.8),
        st.integers(0, 2**31),
    )
    def test_every_position_is_in_one_part_and_classes_keep_their_share(
        self, labels, fraction, seed
    ):
        expected = [
            round(fraction * n) for n in np.unique(labels, return_counts=True)[1]
        ]
        if sum(expected) in (0, len(labels)):
            with pytest.raises(ValueError, match="empty"):
                stratified_split(labels, fraction, seed)
            return
        kept, moved = stratified_split(labels, fraction, seed)
        assert sorted([*kept, *moved]) == list(range(len(labels)))
        counts = [int(np.sum(labels[moved] == label)) for label in np.unique(labels)]
        assert counts == expected
