"""Ranges of int8 activations by other observers than the converter's."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.engine.calibration import OBSERVERS, sampled
from penjing.export.litert import export_litert
from penjing.export.observed_ranges import observe_ranges
from penjing.export.verification import output_error
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.records import Record, read_records
from penjing.tflite.stored_tensors import read_tflite
from penjing.tflite.writing import write_records

once = pytest.mark.once


class Batches(keras.utils.PyDataset):
    """Inputs and labels in batches of 16."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return len(self.x) // 16

    def __getitem__(self, index):
        x = self.x[16 * index : 16 * index + 16]
        return x, np.zeros(len(x))


def small_model():
    return keras.Sequential(
        [keras.Input((24,)), layers.Dense(48, "relu"), layers.Dense(8)]
    )


def with_outlier(count=400, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 24)).astype("float32")
    spoiled = x.copy()
    spoiled[5, 3] = 80
    return x, spoiled


def ranges_of_twin(x):
    """What each observer should find for the inputs, written from its description."""
    batches = [x[start : start + 20] for start in range(0, len(x), 20)]
    average = None
    for batch in batches:
        ends = np.array([batch.min(), batch.max()], "float64")
        average = ends if average is None else 0.9 * average + 0.1 * ends
    shares = np.linspace(0.2, 1, 81)

    def error(share):
        low, high = x.min() * share, x.max() * share
        step = (high - low) / 255
        rounded = np.round(np.clip(x, low, high) / step) * step
        return np.mean((rounded - x) ** 2)

    best = shares[np.argmin([error(share) for share in shares])]
    return {
        "min_max": (x.min(), x.max()),
        "moving_average": average,
        "percentile": np.quantile(x, [0.0001, 0.9999]),
        "mse": (x.min() * best, x.max() * best),
    }


@once
@pytest.mark.parametrize("observer", sorted(OBSERVERS))
def test_the_file_has_the_range_that_the_observer_finds(observer, tmp_path):
    model = small_model()
    _, spoiled = with_outlier()
    path = export_litert(
        model,
        tmp_path / "m.tflite",
        "int8",
        representative_data=spoiled,
        input_type="int8",
        observer=observer,
        verify=False,
    )
    file = penjing.LiteRTModel(path)
    low, high = ranges_of_twin(spoiled)[observer]
    spec = file.inputs[0]
    assert spec.scale == pytest.approx((high - low) / 255, rel=1e-4)
    assert abs(spec.zero_point - (-128 - low / spec.scale)) < 1


@once
def test_one_outlier_costs_less_than_with_the_extremes(tmp_path):
    model = small_model()
    x, spoiled = with_outlier()
    expected = keras.ops.convert_to_numpy(model(x, training=False))
    errors = {}
    for observer in ("min_max", "percentile", "moving_average"):
        path = export_litert(
            model,
            tmp_path / "m.tflite",
            "int8",
            representative_data=spoiled,
            observer=observer,
            verify=False,
        )
        found = penjing.LiteRTModel(path).predict(x)
        errors[observer] = output_error(found, expected)
    assert errors["percentile"] < 0.8 * errors["min_max"]
    assert errors["moving_average"] < 0.5 * errors["min_max"]


@pytest.mark.costly_on_jax
def test_observers_work_on_every_backend_and_with_int4_weights(tmp_path):
    model = small_model()
    x, spoiled = with_outlier()
    path = export_litert(
        model,
        tmp_path / "m.tflite",
        "int8x4",
        representative_data=Batches(spoiled),
        observer="moving_average",
    )
    assert "int4" in {tensor.dtype for tensor in read_tflite(path)}
    expected = keras.ops.convert_to_numpy(model(x, training=False))
    assert output_error(penjing.LiteRTModel(path).predict(x), expected) < 0.3


@once
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed batch", "loop"])
def test_several_inputs_loops_and_fixed_batches_are_observed(fixed, tmp_path):
    def shape(*sizes):
        return {"batch_shape": (4, *sizes)} if fixed else {"shape": sizes}

    left, right = keras.Input(**shape(6, 5)), keras.Input(**shape(3))
    x = layers.Flatten()(left) if fixed else layers.LSTM(4)(left)
    x = layers.Concatenate()([x, layers.Dense(4)(right)])
    model = keras.Model([right, left], layers.Dense(2)(x))
    rng = np.random.default_rng(0)
    data = [
        rng.normal(size=(18, 3)).astype("float32"),
        rng.normal(size=(18, 6, 5)).astype("float32"),
    ]
    path = export_litert(
        model,
        tmp_path / "m.tflite",
        "int8",
        representative_data=data,
        observer="mse",
    )
    found = penjing.LiteRTModel(path).predict([a[:4] for a in data])
    expected = keras.ops.convert_to_numpy(model([a[:4] for a in data], training=False))
    assert output_error(found, expected) < 0.3


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observer": "histogram"}, "Unknown `observer` 'histogram'. Allowed: 'mov"),
        ({"quantization": "int16x8", "observer": "mse"}, "only the ranges of int8"),
        ({"quantization": None, "observer": "mse"}, "does not go with quantization=No"),
    ],
)
def test_observers_that_have_nothing_to_observe_are_refused(
    arguments, message, tmp_path
):
    arguments = {"quantization": "int8", **arguments}
    with pytest.raises(ValueError, match=message):
        export_litert(small_model(), tmp_path / "m.tflite", **arguments)


@once
def test_trained_ranges_are_not_observed_again(tmp_path):
    x, _ = with_outlier()
    model = penjing.quantize_aware(
        small_model(), activations="int8", calibration_data=x
    )
    with pytest.raises(ValueError, match="were trained, so observer='mse'"):
        export_litert(model, tmp_path / "m.tflite", "int8", observer="mse")


@once
def test_ranges_stay_where_a_run_leaves_other_values(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.log(inputs) * 2)
    path = export_litert(model, tmp_path / "m.tflite", verify=False)
    content = with_ranges(path.read_bytes())
    for sample, highest in ((0.5, 0.5), (0.0, 1.0), (7.0, 1.0)):
        samples = [np.full((4, 3), sample, "float32")]
        file = EditedFile(content, "a file")
        observe_ranges(file, samples, "min_max")
        graph = read_records(file.content, "a file")["subgraphs"][0]
        ranges = [
            (float(t["quantization"]["min"][0]), float(t["quantization"]["max"][0]))
            for t in graph["tensors"]
        ]
        inside = sample in (0.0, 0.5)
        number = int(graph["inputs"][0])
        assert ranges[number] == (0, highest if inside else 1)
        assert ranges[int(graph["outputs"][0])] == (0, 1)  # below it, or infinite


def with_ranges(content):
    model = read_records(content, "a file")
    ends = {"min": np.float32([0]), "max": np.float32([1])}
    for tensor in model["subgraphs"][0]["tensors"]:
        tensor["quantization"] = Record("QuantizationParameters", **ends)
    return write_records(model)


def test_samples_keep_the_ends():
    values = np.arange(1000.0)
    assert sampled(values, 2000) is values
    assert sampled(values, 3).tolist() == [0, 499, 999, 0, 999]


@pytest.mark.parametrize("way", ["file", "model"])
def test_the_ends_of_large_batches_are_no_percentiles(way, tmp_path):
    """One value in 20,000 is an outlier; the percentile is one in 10,000."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20_000)).astype("float32")
    x[np.arange(400), rng.integers(0, 20_000, 400)] = 60
    inputs = keras.Input((20_000,))
    pooled = layers.GlobalAveragePooling1D()(layers.Reshape((20, 1000))(inputs))
    model = keras.Model(inputs, layers.Dense(2)(pooled))
    if way == "model":
        given = {"calibration_data": x, "observer": "percentile"}
        trained = penjing.quantize_aware(model, activations="int8", **given)
        scale = max(scale for scale, _ in trained.activations.grids().values())
    else:
        path = tmp_path / "m.tflite"
        given = {"representative_data": x, "observer": "percentile"}
        export_litert(model, path, "int8", verify=False, input_type="int8", **given)
        scale = penjing.LiteRTModel(path).inputs[0].scale
    assert scale * 255 < 10
