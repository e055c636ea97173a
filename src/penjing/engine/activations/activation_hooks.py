"""A forward pass in which tensors between the operations are rounded.

The model itself stays as it is: for the time of one pass, each operation that the plan
names runs through a function that rounds what goes in and comes out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import keras
from keras import ops

from penjing.engine.activations.activation_plan import ActivationPlan, Site
from penjing.models.graph_flow import as_graph
from penjing.models.keras_private import inputs_through
from penjing.models.lending import all_lent, lent
from penjing.numerics import Tensor


class Rounding(Protocol):
    """What rounds a tensor to the grid of its group."""

    def __call__(
        self,
        values: Tensor,
        group: str,
        *,
        halves_away: bool = False,
        again: bool = False,
    ) -> Tensor:
        """Give the rounded tensor of floats; `group` names its group.

        `halves_away`: halves between two integers go away from zero, not to the even
        one. `again`: they were rounded to another grid before.
        """


@contextlib.contextmanager
def rounded_operations(
    model: keras.Model, plan: ActivationPlan, rounding: Rounding
) -> Iterator[None]:
    """Let a graph round by its plan in the block, in which one forward pass may run."""
    sites: dict[int, list[Site]] = {}
    for site in plan.sites:
        sites.setdefault(id(site.operation), []).append(site)
    hooked = [own for own in sites.values() if any(site.rounds for site in own)]
    replaced = [(own[0].operation, "call", _hook(own, rounding)) for own in hooked]
    graph = as_graph(model)
    if any(plan.inputs):
        replaced.append(inputs_through(graph, _round_inputs(plan, rounding)))
    with all_lent(replaced):
        yield


def _round_inputs(
    plan: ActivationPlan, rounding: Rounding
) -> Callable[[list[Any]], list[Any]]:
    def rounded(inputs: list[Any]) -> list[Any]:
        return [
            value if group is None else rounding(value, group)
            for value, group in zip(inputs, plan.inputs, strict=True)
        ]

    return rounded


def _hook(sites: list[Site], rounding: Rounding) -> Callable[..., Any]:
    """What stands for `call`; the calls of a shared layer come in their order."""
    operation = sites[0].operation
    original = operation.call
    remaining = iter(sites)

    def call(*args: Any, **kwargs: Any) -> Any:
        site = next(remaining)
        if site.inputs:
            args, kwargs = _rounded_arguments(site, args, kwargs, rounding)
        function = original
        if site.between is not None:
            function = _separable(site, rounding)
        with _rounded_activation(site, rounding):
            outputs = function(*args, **kwargs)
        group = site.output
        if group is None:
            return outputs
        return keras.tree.map_structure(
            lambda x: rounding(x, group, halves_away=site.halves_away), outputs
        )

    return call


def _rounded_arguments(
    site: Site, args: Any, kwargs: Any, rounding: Rounding
) -> tuple[Any, Any]:
    flat = keras.tree.flatten((args, kwargs))
    tensors = [i for i, value in enumerate(flat) if ops.is_tensor(value)]
    for position, group in site.inputs.items():
        place = tensors[position]
        flat[place] = rounding(flat[place], group, again=True)
    args, kwargs = keras.tree.pack_sequence_as((args, kwargs), flat)
    return args, kwargs


def _rounded_activation(
    site: Site, rounding: Rounding
) -> contextlib.AbstractContextManager[None]:
    """Round what the activation of a layer takes, and what is inside it."""
    before, gate, layer = site.before_activation, site.gate, site.operation
    if before is None and gate is None:
        return contextlib.nullcontext()
    activation = layer.activation

    def rounded(x: Tensor) -> Tensor:
        if before is not None:
            x = rounding(x, before)
        if gate is not None:
            return x * rounding(ops.sigmoid(x), gate)
        return activation(x)

    return lent(layer, "activation", rounded)


def _separable(site: Site, rounding: Rounding) -> Callable[..., Any]:
    """`call` of a separable convolution, with what its halves hand over rounded."""
    layer, group = site.operation, str(site.between)

    def call(inputs: Tensor) -> Tensor:
        middle = ops.depthwise_conv(
            inputs,
            layer.depthwise_kernel,
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
        outputs = ops.conv(
            rounding(middle, group),
            layer.pointwise_kernel,
            strides=1,
            padding="valid",
            data_format=layer.data_format,
        )
        if layer.use_bias:
            outputs = outputs + layer.bias
        return outputs if layer.activation is None else layer.activation(outputs)

    return call
