"""Disturbed weights, random choices and the exactness check for channel removal."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from penjing.channels.removal import remove_channels, silence_channels
from penjing.channels.tracing import ChannelGraph, trace_channels


def disturb(model: keras.Model, seed: int = 0) -> None:
    """Give every weight values from which no shortcut gives the right outputs."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        value = ops.convert_to_numpy(variable.value)
        if "variance" in variable.path:
            value = generator.uniform(0.5, 1.5, value.shape)
        else:
            value = value + 0.2 * generator.normal(size=value.shape)
        variable.assign(value.astype("float32"))


def choose(graph: ChannelGraph, ratio: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Random units to keep, at least one of what each layer makes."""
    generator = np.random.default_rng(seed)
    kept = {}
    for group in graph.groups:
        if group.reason is not None:
            continue
        mask = generator.random(group.size) >= ratio
        for member in group.members:
            units = member.units[member.units >= 0]
            if not mask[units].any():
                mask[generator.choice(units)] = True
        kept[group.name] = mask
    return kept


def samples(model: keras.Model, seed: int = 0, size: int = 2) -> list[np.ndarray]:
    """Random inputs; unknown sizes become 5."""
    generator = np.random.default_rng(seed)
    found = []
    for tensor in model.inputs:
        shape = (size, *(length or 5 for length in tensor.shape[1:]))
        if "int" in tensor.dtype:
            found.append(generator.integers(0, 5, shape))
        else:
            found.append(generator.normal(size=shape).astype("float32"))
    return found


def start_with_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no first weights, which JAX compiles for every shape; `disturb` follows."""

    def zeros(self, shape, dtype=None):
        return np.zeros(shape, dtype or "float32")

    for name in ("VarianceScaling", "RandomUniform", "Orthogonal"):
        monkeypatch.setattr(getattr(keras.initializers, name), "__call__", zeros)


def outputs(model: keras.Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    given = keras.tree.pack_sequence_as(model.input, inputs)
    if keras.backend.backend() == "jax":  # compiled once, not for each operation
        values = model.predict_on_batch(given)
    else:
        values = model(given, training=False)
    return [ops.convert_to_numpy(value) for value in keras.tree.flatten(values)]


def cut(
    model: keras.Model,
    ratio: float = 0.5,
    seed: int = 0,
    tolerance: float = 1e-5,
    *,
    disturbed: bool = True,
) -> tuple[keras.Model, ChannelGraph]:
    """Remove random channels; check that outputs are those of the silenced model."""
    if disturbed:
        disturb(model, seed)
    graph = trace_channels(model)
    kept = choose(graph, ratio, seed)
    before = [ops.convert_to_numpy(value.value) for value in model.weights]
    small = remove_channels(model, graph, kept)
    silenced = silence_channels(model, graph, kept)
    inputs = samples(model, seed)
    for ours, theirs in zip(
        outputs(small, inputs), outputs(silenced, inputs), strict=True
    ):
        scale = max(float(np.abs(theirs).max()), 1e-3)
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=tolerance)
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), value)
    return small, graph
