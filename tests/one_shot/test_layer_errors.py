"""Errors of layers alone, at several levels, and bits within bytes."""

from __future__ import annotations

import gzip

import keras
import numpy as np
import pytest
from keras import layers
from tests.one_shot.test_one_shot_pruning import images, network

import penjing
from penjing.errors import CompressionError, DataError, FileFormatError
from penjing.one_shot.layer_errors import measure_layer_errors

once = pytest.mark.once


def token_model():
    return keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(90, 6, name="words"),
            layers.Flatten(),
            layers.Dense(2, name="head"),
        ]
    )


def tokens(count=40):
    return np.random.default_rng(0).integers(0, 90, (count, 4)).astype("int32")


def test_fewer_bits_and_more_zeros_cost_more():
    model, x = network(), images(128)
    before = [np.array(v) for v in model.get_weights()]
    report = penjing.sensitivity(model, x, of="bits", progress=False)
    assert report.levels == (2, 3, 4, 8) and report.samples == 128
    names = [row.path.split("/")[-2] for row in report.rows]
    assert names == ["first", "hidden", "head"]
    sparse = penjing.sensitivity(
        model, x, of="sparsity", ratios=(0.9, 0.5), progress=False
    )
    assert sparse.levels == (0.5, 0.9)
    for row in report.rows:
        assert list(row.changes) == sorted(row.changes, reverse=True)
        assert row.changes[-1] > 0 and not row.reason
    for row in sparse.rows:
        assert 0 < row.changes[0] < row.changes[1] and row.bytes == ()
    first = report.rows[0]
    assert first.bytes[1:] == (72 + 32, 72 + 32, 144 + 32)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@once
def test_a_change_is_that_of_the_outputs_with_one_weight_rounded():
    model, x = network(), images(128)
    (row,) = penjing.sensitivity(
        model, x, of="bits", bits=(3,), include="hidden", progress=False
    ).rows
    rounded = penjing.quantize_weights(
        model, x, weights=penjing.Grid(bits=3), include="hidden", progress=False
    )
    wanted, found = (m.predict(x, verbose=0) for m in (model, rounded))
    divergence = np.mean(np.sum(wanted * np.log(wanted / found), axis=-1))
    # Biases and scales are fitted there, and all samples measured.
    assert 0.3 * row.changes[0] < divergence < 2 * row.changes[0]


@once
def test_embeddings_say_why_nothing_is_made_up_for_and_have_bits_of_their_own():
    report = measure_layer_errors(token_model(), tokens(), levels=(3, 8))
    embedding, dense = report.rows
    assert "looks" in embedding.reason and embedding.is_embedding
    assert not dense.reason and not dense.is_embedding
    assert embedding.changes[0] > embedding.changes[1] > 0
    everything = sum(row.bytes[-1] for row in report.rows)
    found = report.bits_by_layer(everything, embeddings=3)
    assert list(found.values()) == [3, 8]
    with pytest.raises(ValueError, match="measured, 3, 8; got 4"):
        report.bits_by_layer(everything, embeddings=4)


@once
def test_bytes_are_those_of_the_file(tmp_path):
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(64), layers.Dense(32, use_bias=False)]
    )
    x = np.random.default_rng(0).normal(size=(99, 64)).astype("float32")
    report = penjing.sensitivity(model, x, of="bits", progress=False)
    for limit, wanted in ((4000, {4}), (5600, {4, 8}), (6600, {8})):
        bits = report.bits_by_layer(limit)
        assert set(bits.values()) == wanted
        rounded = penjing.quantize_weights(model, x, bits_by_layer=bits, progress=False)
        path = tmp_path / f"{limit}.tflite"
        few = min(bits.values()) <= 4
        penjing.export_litert(rounded, path, "int4" if few else "dynamic")
        stored = sum(
            tensor.bytes
            for tensor in penjing.inspect_file(path).tensors
            if tensor.dtype in ("int4", "int8")
        )
        assert limit - 2100 < stored + 4 * 96 <= limit
    few = report.bits_by_layer(3500, compressed=True)
    rounded = penjing.quantize_weights(model, x, bits_by_layer=few, progress=False)
    penjing.export_litert(rounded, path, "int4")
    everything_else = 1500
    assert len(gzip.compress(path.read_bytes())) < 3500 + everything_else


@once
def test_bits_go_where_they_buy_most_as_every_choice_shows():
    model, x = network(), images(64)
    report = penjing.sensitivity(model, x, of="bits", progress=False)
    rows = report.rows
    least = [row.bytes[0] for row in rows]
    for limit in range(sum(least), sum(row.bytes[-1] for row in rows), 97):
        choices = np.stack(np.meshgrid(*[range(4)] * 3), -1).reshape(-1, 3)
        fits = [
            sum(row.changes[i] for row, i in zip(rows, choice, strict=True))
            for choice in choices
            if sum(r.bytes[i] for r, i in zip(rows, choice, strict=True)) <= limit
        ]
        found = report.bits_by_layer(limit)
        cost = sum(row.changes[report.levels.index(found[row.path])] for row in rows)
        assert cost == pytest.approx(min(fits))
    with pytest.raises(CompressionError, match=f"they take {sum(least):,}"):
        report.bits_by_layer(sum(least) - 1)


@once
def test_reports_survive_json_and_are_shown(tmp_path):
    path = tmp_path / "bits.json"
    report = penjing.sensitivity(
        token_model(), tokens(), of="bits", bits=[8, 2], path=path, progress=False
    )
    assert penjing.LayerErrorReport.from_json(path) == report
    assert report.to_dict()["schema"] == "penjing.layer_errors/1"
    lines = str(report).splitlines()
    assert "2 bits" in lines[1] and lines[2].endswith("embedding")
    html = report._repr_html_()
    assert html.count("<tr>") == 3 and "words/embeddings" in html
    written = path.read_text()
    path.write_text(written.replace('"levels": [', '"levels": [1,'))
    with pytest.raises(FileFormatError, match="has 2 of 3 levels"):
        penjing.LayerErrorReport.from_json(path)
    path.write_text(written.replace('"bytes": [', '"bytes": [1,'))
    with pytest.raises(FileFormatError, match="has 3 of 2 levels"):
        penjing.LayerErrorReport.from_json(path)


@once
def test_what_cannot_be_measured_is_refused():
    model, x = network(), images(8)
    for settings, text in (
        ({"of": "channel"}, "must be one of .int8., .bits."),
        ({"of": "bits", "bits": (1, 4)}, "bits from 2 to 8"),
        ({"of": "bits", "bits": (2.5,)}, "`bits` must be a list"),
        ({"of": "sparsity", "ratios": (0.5, 1)}, "`ratios` must be a list"),
        ({"of": "sparsity", "ratios": ()}, "fractions between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=text):
            penjing.sensitivity(model, x, **settings)
    with pytest.raises(DataError, match="missing"):
        penjing.sensitivity(model, None, of="bits")
    report = penjing.sensitivity(model, x, of="sparsity", ratios=(0.5,))
    with pytest.raises(ValueError, match="This report is of sparsity"):
        report.bits_by_layer(100)
    report = penjing.sensitivity(model, x, of="bits", bits=(4,))
    with pytest.raises(ValueError, match="`max_bytes` must be an integer"):
        report.bits_by_layer("8MB")


def test_more_bits_cost_less_where_one_input_and_one_weight_stand_out():
    """As the second half of a feed-forward layer of a transformer has them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 1500)).astype("float32")
    x[:, 700] *= 30
    x += 2.0  # the bias makes up for the mean
    model = keras.Sequential([keras.Input((1500,)), keras.layers.Dense(4)])
    kernel = 0.02 * rng.normal(size=(1500, 4)).astype("float32")
    kernel[700] = 0.5
    model.set_weights([kernel, np.zeros(4, "float32")])
    report = penjing.sensitivity(model, x, of="bits", progress=False)
    (row,) = report.rows
    two, three, four, eight = row.changes
    assert two > three > four > 20 * eight
    assert eight < 1e-3
