"""Inputs without labels: from where they come, and into which parts they go."""

import numpy as np
import pytest

from penjing.data.data_sources import load_data
from penjing.data.unlabeled_data import UnlabeledDataError, inputs_by_part
from penjing.errors import DataError

pytestmark = pytest.mark.once

X = np.arange(40.0).reshape(20, 2)


def test_one_piece_is_split_and_nothing_is_in_two_parts():
    parts, notes = inputs_by_part({"x": X}, seed=3)
    again, _ = inputs_by_part({"x": X}, seed=3)
    other, _ = inputs_by_part({"x_train": X}, seed=4)
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes == {"train": 12, "validation": 4, "test": 4}
    rows = np.concatenate(list(parts.values()))
    assert sorted(rows[:, 0]) == sorted(X[:, 0])
    assert all((parts[name] == again[name]).all() for name in parts)
    assert (parts["test"] != other["test"]).any()
    assert notes == (
        "of 20 inputs, chosen by the seed 3, 4 are the test data and 4 are held out "
        "for validation",
    )


def test_parts_and_several_inputs_keep_their_names():
    raw = {"x_train_a": X, "x_train_b": X[:, :1], "x_test_a": X, "x_test_b": X}
    parts, notes = inputs_by_part(raw, seed=0)
    assert {name: sorted(part) for name, part in parts.items()} == {
        "train": ["a", "b"],
        "test": ["a", "b"],
    }
    assert notes == ()
    parts, _ = inputs_by_part({"x_left": X, "x_right": -X}, seed=0)
    assert (parts["test"]["left"] == -parts["test"]["right"]).all()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"x": X[:9]}, "There are 9 inputs. Give 10"),
        ({"x_a": X, "x_b": X[:5]}, "x_a has 20, x_b has 5"),
        ({"x_train": X, "x_validation": X}, "parts 'train', 'validation'. Give x_tr"),
        ({"x": np.full((20, 2), np.nan)}, "40 values that are NaN"),
    ],
)
def test_what_is_no_set_of_inputs_is_refused(raw, said):
    with pytest.raises(DataError, match=said):
        inputs_by_part(raw, seed=0)


def test_data_without_labels_says_how_to_go_on(tmp_path):
    np.savez(tmp_path / "inputs.npz", x=X)
    for data in (tmp_path / "inputs.npz", {"x_train": X, "x_test": X}):
        with pytest.raises(UnlabeledDataError, match=r"\(--no-labels\)") as raised:
            load_data(data)
        assert all((array == X).all() for array in raised.value.read().values())
    with pytest.raises(DataError, match="lacks y_test"):
        load_data({"x_train": X, "y_train": X, "x_test": X})


def test_images_in_no_folders_of_classes_are_inputs(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for place in ("train", "test"):
        (tmp_path / "parts" / place).mkdir(parents=True)
    flat = tmp_path / "flat"
    flat.mkdir()
    for n in range(3):
        picture = image.new("RGB", (4, 4), (n, n, n))
        picture.save(flat / f"{n}.png")
        picture.save(tmp_path / "parts" / ("train" if n else "test") / f"{n}.png")
    for folder, counts in (("flat", {"x": 3}), ("parts", {"x_train": 2, "x_test": 1})):
        with pytest.raises(UnlabeledDataError, match="folders of classes") as raised:
            load_data(tmp_path / folder, image_size=(4, 4, 3), pixel_maximum=1.0)
        found = raised.value.read()
        assert {name: len(array) for name, array in found.items()} == counts
    assert found["x_train"].max() == pytest.approx(2 / 255)
