import base64
import io

import numpy as np
import pytest
from PIL import Image

from penjing.report.evidence import sample_evidence
from penjing.report.evidence.sample_pictures import describe_input

pytestmark = pytest.mark.once


@pytest.fixture
def compared(monkeypatch):
    """Compare outputs that are given, as if two models had made them."""

    def compare(labels, before, after, x=None):
        x = np.zeros((len(labels), 3), "float32") if x is None else x
        outputs = {"baseline": before, "file": after}

        def opened(model, batch_size):
            rows = iter(np.array_split(outputs[model], -(-len(labels) // batch_size)))
            return None, lambda inputs: next(rows), None

        monkeypatch.setattr(sample_evidence, "open_model", opened)
        return sample_evidence.compare_samples("baseline", "file", (x, labels))

    return compare


def one_hot(classes, count=3):
    return np.eye(count, dtype="float32")[classes]


def test_classes_are_the_largest_outputs_whatever_the_labels_are(compared):
    labels, before, after = np.array([0, 1, 2, 0]), [0, 1, 0, 0], [0, 2, 2, 1]
    for given in (labels, labels[:, None], one_hot(labels)):
        found = compared(given, one_hot(before), one_hot(after))
        assert (found.turned_wrong, found.turned_right, found.samples) == (2, 1, 4)
        assert [(e.index, e.change) for e in found.examples] == [
            (1, "worse"),
            (3, "worse"),
            (2, "better"),
        ]
    rows = {(row.label, row.taken_for): row for row in found.confusion}
    assert (rows["0", "0"].before, rows["0", "0"].after) == (2, 1)
    assert rows["0", "1"].change == "worse" and rows["2", "2"].change == "better"


@pytest.mark.parametrize("threshold", [0.5, 0.0])
def test_one_output_is_a_class_by_a_threshold(compared, threshold):
    """Between 0 and 1 it is a probability, else a logit."""
    low, high = (0.2, 0.9) if threshold else (-3.0, 3.0)
    labels = np.array([1, 0, 1])
    before, after = np.array([[high], [low], [high]]), np.array([[low], [low], [high]])
    found = compared(labels, before, after)
    assert (found.turned_wrong, found.turned_right) == (1, 0)


def test_numbers_show_where_errors_grew_and_shrank_most(compared):
    labels = np.array([1.0, 2.0, 3.0])
    found = compared(
        labels, np.array([[1.0], [2.5], [3.0]]), labels[:, None] + [[0], [0], [2]]
    )
    assert [(e.index, e.change) for e in found.examples] == [
        (2, "worse"),
        (1, "better"),
    ]
    assert (found.examples[0].label, found.examples[0].after) == ("3", "5")
    assert found.turned_wrong is None and found.confusion == ()


def test_what_is_no_number_is_worse(compared):
    labels = np.array([0.1, 0.2])
    found = compared(labels, labels[:, None] + 0.5, np.array([[np.nan], [0.2]]))
    assert [(e.index, e.change) for e in found.examples] == [
        (0, "worse"),
        (1, "better"),
    ]


def test_whole_numbers_beside_one_output_may_be_ages(compared):
    labels = np.array([31, 4, 60])
    found = compared(labels, labels[:, None] + 0.5, labels[:, None] + [[0], [3], [0.5]])
    assert found.turned_wrong is None and found.confusion == ()
    assert [(e.index, e.change) for e in found.examples] == [
        (1, "worse"),
        (0, "better"),
    ]


def test_at_most_twelve_are_shown_and_two_thousand_looked_at(compared):
    labels = np.zeros(5000, int)
    found = compared(labels, one_hot(labels), one_hot(np.arange(5000) % 3))
    assert found.samples == 2000 and len(found.examples) == 12
    assert found.turned_wrong == 2000 - 667


def pixels(described):
    image = Image.open(io.BytesIO(base64.b64decode(described["picture"])))
    return np.asarray(image)


@pytest.mark.parametrize("maximum", [1.0, 255.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_pictures_with_their_own_values(maximum, channels):
    values = np.random.default_rng(0).integers(0, 256, (4, 9, 7, channels))
    values[0, 0, 0, 0] = 255
    x = (values / 255 * maximum).astype("float32")
    shown = pixels(describe_input(x, 2))
    np.testing.assert_array_equal(shown.reshape(9, 7, channels), values[2])


def test_channels_may_come_first_and_grey_images_have_none():
    values = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3)).astype("uint8")
    first = pixels(describe_input(values.transpose(0, 3, 1, 2), 1))
    np.testing.assert_array_equal(first, values[1])
    grey = pixels(describe_input(values[..., 0], 1))
    np.testing.assert_array_equal(grey, values[1, ..., 0])


def test_large_images_are_made_small():
    shown = pixels(describe_input(np.zeros((1, 500, 300, 3), "uint8"), 0))
    assert max(shown.shape) <= 48


def test_series_are_lines_and_others_are_numbers():
    wave = np.sin(np.arange(500, dtype="float32"))
    assert len(describe_input(wave[None], 0)["series"]) <= 120
    both = np.stack([wave, 0 * wave], -1)[None]
    assert describe_input(both, 0)["series"] == describe_input(wave[None], 0)["series"]
    assert describe_input(np.array([[3, 1, 4]]), 0) == {"text": "3 1 4"}
    text = describe_input(np.arange(100)[None], 0)["text"]
    assert text.endswith("23 ...") and text.startswith("0 1 2")
