import keras
import numpy as np
import pytest

from penjing.export.litert import export_litert
from penjing.report.evidence.layer_evidence import channels_of, match_paths
from penjing.report.evidence.stored_weights import (
    StoredWeight,
    match_weights,
    shape_key,
    spread_of,
    times_of_tensors,
)
from penjing.report.evidence.weight_evidence import draw_mask, draw_weight
from penjing.tflite.loading import load_records

pytestmark = pytest.mark.once


def test_masks_show_what_is_left_and_large_ones_are_averaged():
    values = np.zeros((200, 3, 100))
    values[:100, :, 50:] = 1
    mask = draw_mask(values)
    assert (len(mask), len(mask[0])) == (64, 64)
    assert mask[0] == "0" * 32 + "9" * 32 and mask[-1] == "0" * 64


def test_few_values_can_be_seen_beside_many():
    values = np.zeros((640, 640))
    values[:10, :10] = 1
    values[630, 630] = 1
    assert draw_mask(values)[63][63] == "1" and draw_mask(values)[0][0] == "9"


def test_histograms_count_each_value_once_zeros_apart():
    before = np.linspace(-1, 1, 1001).reshape(7, 143)
    after = np.where(np.abs(before) > 0.5, np.sign(before), 0)
    picture = draw_weight("dense/kernel", before, after)
    assert sum(picture.before) + picture.zeros_before == before.size
    assert sum(picture.after) + picture.zeros_after == before.size
    assert picture.after[0] and picture.after[-1] and not any(picture.after[1:-1])
    alone = draw_weight("new/kernel", None, np.full((2, 2), 3.0))
    assert alone.before == () and sum(alone.after) == 4 and alone.low < 3 < alone.high


def test_values_that_are_no_numbers_are_not_drawn():
    picture = draw_weight("a/kernel", None, np.array([[np.nan, np.inf], [1.0, 2.0]]))
    assert sum(picture.after) == 2 and np.isfinite([picture.low, picture.high]).all()


def test_paths_are_matched_by_their_ends_where_these_are_single():
    before = ["net/a/kernel", "net/b/kernel", "net/c/a/kernel", "net/x/w"]
    assert match_paths(before, ["b/kernel", "a/kernel", "x/w"]) == {
        "b/kernel": "net/b/kernel",
        "x/w": "net/x/w",
    }
    assert match_paths(before, before) == dict(zip(before, before, strict=True))


def stored(values, name):
    return StoredWeight(
        key=shape_key(values.shape),
        spread=spread_of(values),
        zeros=float(np.mean(values == 0)),
        levels=name,
        bits=8,
        bytes=values.size,
    )


def test_weights_are_found_in_files_whatever_the_order_of_their_axes_and_channels():
    random = np.random.default_rng(0)
    shapes = [(3, 3, 8, 16), (3, 3, 16, 8), (40, 30), (5, 1)]
    values = {f"{n}": random.normal(size=shape) for n, shape in enumerate(shapes)}
    values["sparse"] = np.where(random.uniform(size=(3, 3, 8, 16)) < 0.1, 1.0, 0.0)
    values["wide"] = random.standard_t(2, size=(3, 3, 8, 16))
    kept = []
    for name, array in reversed(values.items()):
        if array.ndim == 4:
            array = array.transpose(3, 0, 1, 2)[random.permutation(array.shape[3])]
        kept.append(stored(np.round(7 * array, 1), name))
    found = match_weights({n: a for n, a in values.items() if n != "3"}, kept)
    # Of those that are alike in all that stays, either may be taken.
    same = {"0", "1"}
    for name, weight in found.items():
        assert weight.levels == name or {weight.levels, name} <= same
    assert set(found) == set(values) - {"3"}


@pytest.mark.parametrize(
    ("layer", "shape", "channels"),
    [
        (keras.layers.Conv2D(1, 3), (8, 8, 64), 1),
        (keras.layers.Conv2DTranspose(6, 3), (8, 8, 12), 6),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 5), 10),
        (keras.layers.DepthwiseConv1D(3), (8, 5), 5),
        (keras.layers.SeparableConv2D(7, 3), (8, 8, 5), 7),
        (keras.layers.LSTM(16), (4, 3), 16),
        (keras.layers.ConvLSTM2D(6, 3), (4, 5, 5, 2), 6),
        (keras.layers.Dense(9), (4,), 9),
        (keras.layers.BatchNormalization(), (4,), None),
    ],
)
def test_channels_are_those_that_a_layer_makes(layer, shape, channels):
    layer.build((None, *shape))
    weights = {w.path: np.asarray(keras.ops.convert_to_numpy(w)) for w in layer.weights}
    assert channels_of(weights, type(layer).__name__) == channels


def test_times_go_to_weights_that_are_unpacked_first(tmp_path):
    path = tmp_path / "half.tflite"
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(30)])
    export_litert(model, path, "float16")
    data = load_records(path.read_bytes(), str(path))
    seconds = times_of_tensors(data, path)
    sizes = [len(data["buffers"][number]["data"]) for number in seconds]
    assert 2 * 40 * 30 in sizes and all(value >= 0 for value in seconds.values())
