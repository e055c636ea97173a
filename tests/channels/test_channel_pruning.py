"""Channels cut by every importance and target, and what the cut model is."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array

import penjing
from penjing.channels.cut_costs import CutCosts
from penjing.channels.removal import remove_channels
from penjing.channels.scores import IMPORTANCES, score_channels
from penjing.channels.tracing import trace_channels
from penjing.errors import CompressionError

ROWS = 24


def block(x, filters, name):
    x = layers.Conv2D(filters, 3, padding="same", name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def build():
    """A stem, a residual block, a depthwise convolution, a dense head."""
    inputs = keras.Input((8, 8, 2), name="image")
    stem = block(inputs, 16, "stem")
    inner = block(stem, 24, "inner")
    back = layers.Conv2D(16, 1, name="back")(inner)
    back = layers.BatchNormalization(name="back_norm")(back)
    x = layers.add([stem, back], name="sum")
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(20, activation="relu", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(3, name="head")(x), name="net")
    rng = np.random.default_rng(0)
    for variable in model.weights:
        low = 0.2 if "variance" in variable.path else -1.0
        variable.assign(rng.uniform(low, 1.0, variable.shape).astype("float32"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    return model


@pytest.fixture(scope="module")
def net():
    return build()


def data(count=ROWS):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, 8, 8, 2)).astype("float32")
    return x, rng.integers(0, 3, count)


def values(model):
    return [to_array(variable) for variable in model.variables]


def widths(model):
    names = ("stem", "inner", "back", "hidden")
    found = {n: model.get_layer(n) for n in names}
    return {n: getattr(x, "filters", getattr(x, "units", 0)) for n, x in found.items()}


# On JAX each smaller model costs seconds of compiling.
ON_ALL = ("taylor",)


@pytest.mark.parametrize(
    "importance",
    [
        pytest.param(n, marks=() if n in ON_ALL else pytest.mark.once)
        for n in IMPORTANCES
    ],
)
def test_every_importance_cuts_and_leaves_the_model_alone(net, importance):
    before = values(net)
    cut = "inner" if importance == "batch_norm" else None
    smaller = penjing.prune_channels(
        net, ratio=0.5, importance=importance, include=cut, data=data(), round_to=1
    )
    for old, new in zip(before, values(net), strict=True):
        np.testing.assert_array_equal(old, new)
    assert widths(smaller)["stem"] == widths(smaller)["back"]
    if cut:
        assert widths(smaller) == {"stem": 16, "inner": 12, "back": 16, "hidden": 20}
    else:
        assert sum(widths(smaller).values()) < 76
    assert not smaller.compiled


def unit_norms(model, group):
    """Norms of the units of `inner`, straight from its layers."""
    inner, norm = model.get_layer("inner"), model.get_layer("inner_norm")
    kernel, reader = to_array(inner.kernel), to_array(model.get_layer("back").kernel)
    squares = (
        np.square(kernel).sum(axis=(0, 1, 2))
        + np.square(reader).sum(axis=(0, 1, 3))
        + np.square(to_array(norm.gamma))
    )
    return np.sqrt(squares)


def inner_group(model):
    return next(g for g in trace_channels(model).groups if "inner" in g.name)


@pytest.mark.once
def test_the_norm_is_that_of_all_that_falls_with_a_unit(net):
    group = inner_group(net)
    expected = unit_norms(net, group)
    found = score_channels(net, [group])[group.name]
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-5)


@pytest.mark.once
def test_taylor_scores_are_what_the_loss_changes_by_without_a_unit(net):
    """To first order: weights that read the unit, scaled down a little."""
    group = inner_group(net)
    x, y = data()
    found = score_channels(net, [group], "taylor", (x, y))[group.name]
    twin = keras.models.clone_model(net)
    twin.set_weights(net.get_weights())
    reader = twin.get_layer("back").kernel
    kernel = to_array(reader)

    def loss():
        return float(to_array(net.loss(y, twin(x, training=False))))

    for unit in (0, 7):
        sides = []
        for step in (-1e-2, 1e-2):
            shrunk = kernel.copy()
            shrunk[:, :, unit] *= 1 - step
            reader.assign(shrunk)
            sides.append(loss())
        reader.assign(kernel)
        change = (sides[1] - sides[0]) / 2e-2
        # One batch of 24; float32 losses differ by their last digits.
        assert found[unit] == pytest.approx(change**2, rel=0.05, abs=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="compiles each operation by itself"
)
def test_variances_are_those_of_what_the_reader_gets(net):
    group = inner_group(net)
    x, _ = data()
    found = score_channels(net, [group], "activation_variance", x)[group.name]
    tap = keras.Model(net.input, net.get_layer("inner_relu").output)
    spread = to_array(tap(x, training=False)).std(axis=(0, 1, 2))
    np.testing.assert_allclose(found, spread / spread.mean(), rtol=1e-3)


@pytest.mark.once
def test_a_function_and_a_mapping_choose_the_units(net):
    group = inner_group(net)

    def first_half(group, weights):
        assert set(weights) == {member.path for member in group.members}
        return np.arange(group.size)[::-1]

    kwargs = {"ratio": 0.5, "include": "inner", "round_to": 1}
    kernel = to_array(net.get_layer("inner").kernel)
    for importance in (first_half, {group.name: np.arange(24)[::-1]}):
        cut = penjing.prune_channels(net, importance=importance, **kwargs)
        found = to_array(cut.get_layer("inner").kernel)
        np.testing.assert_array_equal(found, kernel[..., :12])


@pytest.mark.once
@pytest.mark.parametrize("kind", ["macs", "parameters"])
@pytest.mark.parametrize("part", [0.5, 0.15])
@pytest.mark.parametrize("importance", ["l2", "lamp"])
def test_budgets_are_met_and_costs_known_before_building(net, kind, part, importance):
    def cost(model):
        return getattr(penjing.count_macs(model), kind)

    smaller = penjing.prune_channels(
        net, **{kind: part}, importance=importance, round_to=4
    )
    assert 0.5 * part < cost(smaller) / cost(net) <= part
    absolute = penjing.prune_channels(
        net, **{kind: int(part * cost(net))}, importance=importance, round_to=4
    )
    assert widths(absolute) == widths(smaller)


@pytest.mark.once
def test_costs_without_building_are_those_of_the_built_model(net):
    graph = trace_channels(net)
    rng = np.random.default_rng(3)
    free = [group for group in graph.groups if group.reason is None]
    kept = {group.name: rng.random(group.size) < 0.6 for group in free}
    smaller = remove_channels(net, graph, kept)
    costs = CutCosts(net, graph)
    assert costs.parameters(kept) == pytest.approx(smaller.count_params())
    macs = costs.weighted(penjing.count_macs(net).kernels, kept)
    assert macs == pytest.approx(penjing.count_macs(smaller).macs)
    for path, (inputs, outputs) in costs.input_and_output(kept).items():
        old = next(v for v in net.weights if v.path == path)
        new = next(v for v in smaller.weights if v.path == path)
        if path.endswith(("inner/kernel", "back/kernel", "hidden/kernel")):
            assert inputs == pytest.approx(new.shape[-2] / old.shape[-2])
            assert outputs == pytest.approx(new.shape[-1] / old.shape[-1])


@pytest.mark.once
def test_channels_stay_in_multiples(net):
    smaller = penjing.prune_channels(net, ratio=0.4, importance="lamp")
    assert all(n % 8 == 0 or n == 20 for n in widths(smaller).values())


@pytest.mark.once
@pytest.mark.parametrize(
    ("layer", "exclude", "left"),
    [
        (layers.LSTM(32, name="cut"), None, {"units": 24}),
        (
            layers.MultiHeadAttention(8, 4, name="cut"),
            "attention_output",
            {"num_heads": 6},
        ),
    ],
)
def test_channels_are_counted_not_places_in_gates_nor_heads(layer, exclude, left):
    inputs = keras.Input((5, 8))
    x = layer(inputs, inputs) if "num_heads" in left else layer(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    smaller = penjing.prune_channels(model, ratio=0.3, exclude=exclude, min_channels=13)
    config = smaller.get_layer("cut").get_config()
    assert {key: config[key] for key in left} == left


@pytest.mark.once
def test_biases_of_heads_are_no_part_of_their_norm():
    inputs = keras.Input((5, 8))
    heads = layers.MultiHeadAttention(4, 2, name="heads")
    model = keras.Model(inputs, heads(inputs, inputs))
    group = trace_channels(model).groups[0]
    before = score_channels(model, [group])[group.name]
    for variable in heads.weights:
        if variable.path.endswith("bias"):
            variable.assign(np.arange(np.prod(variable.shape)).reshape(variable.shape))
    np.testing.assert_array_equal(score_channels(model, [group])[group.name], before)


@pytest.mark.once
@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.ones((4, 5, 8, 2), "float32"), "'net' cannot run on `data`: .* shape"),
        (np.full((4, 8, 8, 2), np.nan, "float32"), "'stem' are NaN or infinite"),
    ],
)
def test_data_whose_variances_are_unknown_is_refused(net, x, says):
    with pytest.raises(penjing.DataError, match=says):
        penjing.prune_channels(
            net, ratio=0.5, importance="activation_variance", data=(x, np.zeros(4))
        )


@pytest.mark.once
def test_scores_that_are_no_numbers_are_refused(net):
    scores = {group.name: ["high"] for group in trace_channels(net).groups}
    with pytest.raises(ValueError, match=r"must give numbers for 'stem', got \['high'"):
        penjing.prune_channels(net, ratio=0.5, importance=scores)


@pytest.mark.once
def test_layers_can_be_left_whole_and_named(net):
    whole = widths(net)
    cut = penjing.prune_channels(net, ratio=0.5, exclude=net.get_layer("stem"))
    assert {n for n, v in widths(cut).items() if v != whole[n]} == {"inner", "hidden"}
    cut = penjing.prune_channels(net, ratio=0.5, include=["hid*"])
    assert {n for n, v in widths(cut).items() if v != whole[n]} == {"hidden"}


@pytest.mark.once
def test_the_best_that_can_be_reached_is_said_and_can_be(net):
    with pytest.raises(CompressionError, match="best that can be reached") as caught:
        penjing.prune_channels(net, macs=0.001)
    best = str(caught.value).split("reached is ")[1].split(" mult")[0]
    smaller = penjing.prune_channels(net, macs=int(best.replace(",", "")))
    assert penjing.count_macs(smaller).macs == int(best.replace(",", ""))
