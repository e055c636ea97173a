"""Accuracy after cuts of single layers, resumed, in JSON, and as a budget."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array

import penjing
from penjing.errors import DataError, UnsupportedModelError
from penjing.layer_sensitivity import sensitivity as module
from penjing.measurement.sensitivity_table import SensitivityRow, SensitivityTable


def build():
    """`first` carries the answer in two units; `second` could be anything."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, name="first"),
            layers.Dense(8, name="second"),
            layers.Dense(2, name="head"),
        ],
        name="net",
    )
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape).astype("float32"))
    return model


def data():
    x = np.random.default_rng(1).normal(size=(60, 4)).astype("float32")
    return x, np.argmax(to_array(build()(x)), axis=-1)


def by_hand(model, ratio, x, y):
    """Accuracy with the weakest units of `second` silent in `head`."""
    first, second, head = model.layers
    norms = np.square(to_array(second.kernel)).sum(axis=0)
    norms = norms + np.square(to_array(head.kernel)).sum(axis=1)
    gone = np.argsort(norms)[: round(ratio * 8)]
    kernel = to_array(head.kernel).copy()
    kernel[gone] = 0
    hidden = x @ to_array(first.kernel) + to_array(first.bias)
    hidden = hidden @ to_array(second.kernel) + to_array(second.bias)
    return np.mean(np.argmax(hidden @ kernel + to_array(head.bias), axis=-1) == y)


def test_scores_are_those_of_the_model_with_silent_units():
    model, (x, y) = build(), data()
    before = [to_array(v) for v in model.variables]
    seen = []
    table = penjing.sensitivity(
        model,
        (x, y),
        ratios=(0.75, 0.25),
        progress=lambda event: seen.append((event.done, event.total)),
    )
    assert table.baseline == {"accuracy": 1.0}
    assert [(r.ratio, r.removed, r.size) for r in table.rows][:2] == [
        (0.25, 2, 8),
        (0.75, 6, 8),
    ]
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]
    for row in table.rows:
        if row.name.endswith("second"):
            expected = by_hand(model, row.ratio, x, y)
            assert row.scores["accuracy"] == pytest.approx(expected, abs=1e-6)
    assert any(row.scores["accuracy"] < 1 for row in table.rows)
    assert any("head" in path for path in table.skipped)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, to_array(variable))


@pytest.mark.once
def test_weights_of_one_layer_at_a_time():
    model, (x, y) = build(), data()
    table = penjing.sensitivity(
        model, (x, y), method="weights", ratios=(0.5,), include="second"
    )
    (row,) = table.rows
    assert (row.name, row.removed, row.size) == ("net/second/kernel", 32, 64)
    kernel = to_array(model.get_layer("second").kernel).copy()
    kernel[np.abs(kernel) < np.median(np.abs(kernel))] = 0
    model.get_layer("second").kernel.assign(kernel)
    expected = penjing.evaluate(model, x, y)
    assert row.scores["accuracy"] == pytest.approx(expected["accuracy"])


@pytest.mark.once
def test_a_killed_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    counted = []
    real = module.evaluate

    def evaluate(*args, **kwargs):
        counted.append(1)
        if len(counted) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "evaluate", evaluate)
    arguments = {"ratios": (0.25, 0.75), "path": path}
    with pytest.raises(KeyboardInterrupt):
        penjing.sensitivity(build(), data(), **arguments)
    assert len(SensitivityTable.from_json(path).rows) == 2
    table = penjing.sensitivity(build(), data(), **arguments)
    assert len(counted) == 4 + 2  # two rows and the baseline were there
    assert SensitivityTable.from_json(path) == table
    other = build()
    other.get_layer("head").bias.assign([5.0, 0.0])
    penjing.sensitivity(other, data(), **arguments)
    assert len(counted) == 4 + 2 + 5, "another model is measured anew"


class Loader(keras.utils.PyDataset):
    """Two batches of the data in one order or the other; `y` may be wrong."""

    def __init__(self, order=(0, 1), wrong=0):
        super().__init__()
        self.order, self.wrong = order, wrong

    def __len__(self):
        return 2

    def __getitem__(self, index):
        x, y = data()
        part = slice(self.order[index], None, 2)
        return x[part], (y[part] + self.wrong) % 2


def with_activation(name):
    model = build()
    model.get_layer("first").activation = keras.activations.get(name)
    return model


def top(k):
    return {"metrics": keras.metrics.SparseTopKCategoricalAccuracy(k, name="top")}


def rising(group, weights):
    return np.arange(1.0, 1.0 + group.size)


def falling(group, weights):
    return rising(group, weights)[::-1]


def scaled(factor):
    def importance(group, weights):
        return factor * rising(group, weights)

    return importance


def by_default(group, weights, sign=1.0):
    return sign * rising(group, weights)


def by_other_default(sign):
    def importance(group, weights, *, sign=sign):
        return sign * rising(group, weights)

    return importance


def averaging(group, weights):
    return np.mean(np.stack([rising(group, weights)] * 2), axis=0)


def itself():
    def importance(group, weights):
        return rising(group, weights) if importance else None

    return importance


FUNCTIONS = [
    (scaled(1.0), scaled(-1.0)),
    (scaled(np.ones(3)), scaled(np.zeros(3))),
    (by_other_default(1.0), by_other_default(2.0)),
    (
        functools.partial(by_default, sign=1.0),
        functools.partial(by_default, sign=-1.0),
    ),
    (functools.partial(rising), functools.partial(falling)),
    (lambda a: np.mean(a), lambda a: np.sum(a)),
    (lambda a: [np.sin(x) for x in a], lambda a: [np.cos(x) for x in a]),
    (np.mean, np.sum),
]


@pytest.mark.parametrize("place", range(len(FUNCTIONS)))
def test_functions_are_told_apart_by_what_they_hold(place):
    from penjing.layer_sensitivity.measurement_digest import measurement_digest

    model, (x, y) = build(), data()
    one, two = FUNCTIONS[place]
    found = [measurement_digest(model, [f], x, y) for f in (one, one, two)]
    assert found[0] == found[1] != found[2]
    assert measurement_digest(model, [itself()], x, y) == measurement_digest(
        model, [itself()], x, y
    )


@pytest.mark.parametrize(
    ("of", "settings"),
    [
        ("int8", {"include": "first"}),
        ("int8", {"exclude": "first"}),
        ("int8", {"ratios": (0.5,)}),
        ("bits", {"method": "weights"}),
        ("bits", {"ratios": (0.5,)}),
        ("bits", {"metrics": ["accuracy"]}),
        ("sparsity", {"importance": "l1"}),
        ("sparsity", {"bits": (2, 4)}),
        (None, {"bits": (2, 4)}),
    ],
)
def test_arguments_that_count_for_nothing_are_refused(of, settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"`{name}` counts for nothing .* of={of!r}"):
        penjing.sensitivity(build(), data(), of=of, **settings)


OTHERS = {
    "the order of a loader": (
        (build(), Loader(), {}),
        (build(), Loader((1, 0)), {}),
        0,
    ),
    "the labels of a loader": (
        (build(), Loader(), {}),
        (build(), Loader(wrong=1), {}),
        1,
    ),
    "an activation": (
        (build(), data(), {}),
        (with_activation("tanh"), data(), {}),
        1,
    ),
    "the settings of a metric": (
        (build(), data(), top(1)),
        (build(), data(), top(2)),
        1,
    ),
    "the importance": (
        (build(), data(), {"importance": rising}),
        (build(), data(), {"importance": falling}),
        1,
    ),
    "the layers": (
        (build(), data(), {"include": "first"}),
        (build(), data(), {"include": "second"}),
        1,
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("what", OTHERS)
def test_a_kept_table_is_used_where_nothing_else_was_asked(what, tmp_path, monkeypatch):
    *runs, is_other = OTHERS[what]
    counted = []
    real = module.evaluate
    monkeypatch.setattr(
        module, "evaluate", lambda *a, **k: counted.append(1) or real(*a, **k)
    )
    for model, given, options in runs:
        before = len(counted)
        arguments = {"ratios": (0.75,), "path": tmp_path / "table.json", **options}
        table = penjing.sensitivity(model, given, **arguments)
        assert SensitivityTable.from_json(tmp_path / "table.json") == table
    assert (len(counted) > before) == is_other


def own_error(labels, predictions):
    return keras.ops.mean(keras.ops.abs(labels - predictions), axis=-1)


@pytest.mark.once
def test_models_are_scored_by_what_they_were_compiled_with():
    x, _ = data()
    y = np.ones((60, 2), "float32")
    for compiled in ({"loss": "mse"}, {"metrics": [own_error], "loss": "mse"}):
        model = build()
        model.compile(**compiled)
        table = penjing.sensitivity(model, (x, y), ratios=(0.5,))
        expected = penjing.evaluate(model, x, y)
        assert table.baseline == pytest.approx(expected)
        assert set(expected) == ({"own_error"} if "metrics" in compiled else {"loss"})


@pytest.mark.once
def test_a_path_that_cannot_be_written_is_refused_before_layers_are_cut(tmp_path):
    seen = []
    with pytest.raises(penjing.CompressionError, match="does not exist"):
        penjing.sensitivity(
            build(),
            data(),
            path=tmp_path / "none" / "table.json",
            progress=seen.append,
        )
    assert not seen


def row(name, ratio, accuracy):
    scores = {"loss": 9.0, "accuracy": accuracy}
    return SensitivityRow(name=name, ratio=ratio, removed=1, size=8, scores=scores)


@pytest.mark.once
def test_a_cut_keeps_to_what_was_measured():
    model = build()
    first, second = (g.name for g in penjing.trace_channels(model).groups[:2])
    rows = [row(first, 0.25, 0.9), row(first, 0.5, 0.2)]
    rows += [row(second, 0.25, 0.9), row(second, 0.5, 0.9), row(second, 0.75, 0.9)]
    table = SensitivityTable(
        model="net", method="channels", baseline={"accuracy": 0.9}, rows=tuple(rows)
    )
    arguments = {"round_to": 1, "sensitivity": table, "tolerance": 0.01}
    smaller = penjing.prune_channels(model, ratio=0.5, **arguments)
    assert (smaller.layers[0].units, smaller.layers[1].units) == (6, 2)
    with pytest.raises(penjing.CompressionError, match="at most 0.5 of the channels"):
        penjing.prune_channels(model, ratio=0.7, **arguments)


@pytest.mark.once
def test_the_class_of_a_metric_says_what_is_worse(tmp_path):
    x, y = data()
    y = np.eye(2, dtype="float32")[y]
    metric = keras.metrics.MeanSquaredError(name="power")
    settings = {"metrics": [metric], "include": "second"}
    table = penjing.sensitivity(build(), (x, y), ratios=(0.5, 0.9), **settings)
    rises = [row.scores["power"] - table.baseline["power"] for row in table.rows]
    assert [table.loss_of(row) for row in table.rows] == pytest.approx(rises)
    again = SensitivityTable.from_json(table.to_json(tmp_path / "t.json"))
    assert again.directions == {"power": "lower"}
    named = keras.metrics.MeanMetricWrapper(keras.losses.mean_squared_error, "duck")
    with pytest.raises(DataError, match="metric 'duck' is better"):
        penjing.sensitivity(build(), (x, y), metrics=[named], include="second")


@pytest.mark.once
def test_bad_input_is_refused():
    model, arrays = build(), data()
    with pytest.raises(ValueError, match="`ratios` must be a list of fractions"):
        penjing.sensitivity(model, arrays, ratios=(1.0,))
    for wrong in (0.5, "0.5", (), (None,)):
        with pytest.raises(ValueError, match="`ratios` must be a list of fractions"):
            penjing.sensitivity(model, arrays, ratios=wrong)
    for method in ("channels", "weights"):
        with pytest.raises(UnsupportedModelError, match=r"keras\.Model, got str"):
            penjing.sensitivity("model.keras", arrays, method=method)
    with pytest.raises(DataError, match="gives its batches only once"):
        penjing.sensitivity(model, iter([arrays]))
    with pytest.raises(ValueError, match="`method` .* 'weights'"):
        penjing.sensitivity(model, arrays, method="weight")
    with pytest.raises(DataError, match="got 3 parts"):
        penjing.sensitivity(model, (*arrays, None))
    with pytest.raises(UnsupportedModelError, match="'head', whose channels"):
        penjing.sensitivity(model, arrays, include="head")
    with pytest.raises(ValueError, match="`sensitivity` must be .* method='weights'"):
        table = penjing.sensitivity(model, arrays, method="weights", ratios=(0.5,))
        penjing.prune_channels(model, ratio=0.1, sensitivity=table)
