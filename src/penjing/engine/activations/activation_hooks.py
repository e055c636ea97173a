"""A forward pass in which tensors between the operations are rounded.

The model itself stays as it is, also while the pass runs, as other threads may run it
too: stand-ins of the model and of the operations that the plan names run in its place.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import keras
from keras import ops

from penjing.engine.activations.activation_plan import ActivationPlan, Site
from penjing.models.graph_flow import as_graph
from penjing.models.keras_private import running_otherwise
from penjing.models.lending import method_of
from penjing.models.stand_ins import stand_in
from penjing.numerics import Tensor

Around: TypeAlias = Callable[[Any, Callable[..., Any]], Callable[..., Any]]


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


def rounded_model(
    model: keras.Model,
    plan: ActivationPlan,
    rounding: Rounding,
    around: Around | None = None,
) -> keras.Model:
    """What runs as a graph and rounds by its plan, for one forward pass.

    `around` takes an operation and its call, already rounded, and gives what is called.
    """
    sites: dict[int, list[Site]] = {}
    for site in plan.sites:
        sites.setdefault(id(site.operation), []).append(site)
    replaced: dict[int, Any] = {}
    for own in sites.values():
        operation = own[0].operation
        call = original = method_of(operation, "call")
        if any(site.rounds for site in own):
            call = _hook(own, rounding)
        if around is not None:
            call = around(operation, call)
        if call is not original:
            replaced[id(operation)] = stand_in(operation, call=call)

    replace = functools.partial(_replacement, replaced)
    inputs = _round_inputs(plan, rounding) if any(plan.inputs) else None
    return running_otherwise(model, replace, inputs)


def _replacement(replaced: dict[int, Any], operation: Any) -> Any:
    """What runs in place of an operation.

    No closure: one that names itself would hold what a pass has seen until Python looks
    for cycles.
    """
    if id(operation) not in replaced:
        replace = functools.partial(_replacement, replaced)
        nested = as_graph(operation) is not None
        replaced[id(operation)] = (
            running_otherwise(operation, replace) if nested else operation
        )
    return replaced[id(operation)]


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
    remaining = iter(sites)

    def call(*args: Any, **kwargs: Any) -> Any:
        site = next(remaining)
        if site.inputs:
            args, kwargs = _rounded_arguments(site, args, kwargs, rounding)
        layer = _with_rounded_activation(site, rounding)
        function = method_of(layer, "call")
        if site.between is not None:
            function = _separable(layer, site.between, rounding)
        outputs = function(*args, **kwargs)
        group = site.output
        if group is None:
            return outputs
        return _mapped(
            lambda x: rounding(x, group, halves_away=site.halves_away), outputs
        )

    return call


def _mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """`keras.tree.map_structure`, which on PyTorch costs memory within a forward pass.

    PyTorch's own leaves cycles behind that hold the tensors, with all that they were
    computed from, until Python looks for such.
    """
    kind = type(structure)
    if kind in (list, tuple):
        return kind(_mapped(function, value) for value in structure)
    if kind is dict:  # its order is that of the keys, as Keras has it
        return {key: _mapped(function, structure[key]) for key in sorted(structure)}
    if isinstance(structure, list | tuple | dict):
        return keras.tree.map_structure(function, structure)
    return function(structure)


def _rounded_arguments(
    site: Site, args: Any, kwargs: Any, rounding: Rounding
) -> tuple[Any, Any]:
    position = itertools.count()

    def rounded(value: Any) -> Any:
        group = site.inputs.get(next(position)) if ops.is_tensor(value) else None
        return value if group is None else rounding(value, group, again=True)

    return _mapped(rounded, args), _mapped(rounded, kwargs)


def _with_rounded_activation(site: Site, rounding: Rounding) -> Any:
    """The layer with what its activation takes, and what is inside it, rounded."""
    before, gate, layer = site.before_activation, site.gate, site.operation
    if before is None and gate is None:
        return layer
    activation = layer.activation

    def rounded(x: Tensor) -> Tensor:
        if before is not None:
            x = rounding(x, before)
        if gate is not None:
            return x * rounding(ops.sigmoid(x), gate)
        return activation(x)

    return stand_in(layer, activation=rounded)


def _separable(layer: Any, group: str, rounding: Rounding) -> Callable[..., Any]:
    """`call` of a separable convolution, with what its halves hand over rounded."""

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
