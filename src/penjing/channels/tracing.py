"""Which channels of a model fall together, and which must stay."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from penjing.channels.groups import describe_groups, divide_channels
from penjing.channels.rules.rule_table import find_channel_rule
from penjing.channels.rules.trace import ChannelStep, ChannelTrace
from penjing.channels.rules.units import Channels, Layout, Whole
from penjing.engine.stripping import is_compressed
from penjing.errors import UnsupportedModelError
from penjing.models.copying import name_apart, weight_paths
from penjing.models.graph_flow import as_graph, follow_graph
from penjing.models.keras_private import all_layers, operation_behind


class ChannelGraph:
    """What `trace_channels` found.

    Attributes:
        model: The model that was traced.
        groups: The groups of channels, in the order of the model.
        skipped: Path of each layer that is left whole, or in part, and the reason.
    """

    def __init__(self, model: keras.Model, trace: ChannelTrace) -> None:
        self.model = model
        self.trace = trace
        labels = trace.units.labels()
        why, reasons = trace.units.reasons(labels)
        self._group_of, self._unit_of = divide_channels(trace, labels, why)
        self.groups = describe_groups(
            trace, self._group_of, self._unit_of, why, reasons
        )
        self.skipped = _find_skipped(trace, why, reasons)

    def kept_ids(self, kept: dict[str, np.ndarray]) -> np.ndarray:
        """Whether each id of the trace stays.

        Args:
            kept: Group name -> `(size,)`, True where a unit stays.
        """
        found = np.ones(self.trace.units.count, dtype=bool)
        for number, group in enumerate(self.groups):
            if group.name in kept:
                places = self._group_of == number
                found[places] = kept[group.name][self._unit_of[places]]
        return found


def trace_channels(model: keras.Model) -> ChannelGraph:
    """Find the groups of channels that fall together.

    Args:
        model: A built Sequential or Functional model, nested ones opened up.

    Returns:
        Its groups, and the layers that are left whole with the reasons.

    Raises:
        UnsupportedModelError: If the model is subclassed, not built or compressed, or
            two of its weights share a path.

    Example:
        >>> import keras, penjing
        >>> from penjing.channels.tracing import trace_channels
        >>> model = keras.Sequential([keras.Input((8,)),
        ...     keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2)])
        >>> [group.size for group in trace_channels(model).groups if not group.reason]
        [4]
    """
    graph = _check_model(model)
    trace = ChannelTrace()
    inputs: list[Layout] = [Whole("it is an input of the model")] * len(graph.inputs)
    for layout in _follow_graph(trace, graph, inputs, ""):
        if not isinstance(layout, Whole):
            trace.units.pin(layout.ids, "it is an output of the model")
    trace.keep_uneven()
    return ChannelGraph(model, trace)


def _check_model(model: keras.Model) -> Any:
    if is_compressed(model):
        raise UnsupportedModelError(
            f"The model {model.name!r} is being compressed. Take its transforms off "
            "first: penjing.strip(model)."
        )
    if not isinstance(model, keras.Model) or not model.built:
        raise UnsupportedModelError(
            "Channels can be followed in a built Keras model, got "
            f"{getattr(model, 'name', model)!r}, which is not one yet. Call it on data "
            "or give it an Input first."
        )
    graph = as_graph(model)
    if graph is None:
        raise UnsupportedModelError(
            f"The model {model.name!r} of class {type(model).__name__} runs code of "
            "its own, in which channels cannot be followed. Make it a Functional "
            "model: keras.Model(inputs, outputs). Where a Functional or Sequential "
            "model is part of it, remove the channels of that part."
        )
    name_apart(model)
    twice = [path for path, count in Counter(weight_paths(model)).items() if count > 1]
    if twice:
        raise UnsupportedModelError(
            f"Two weights of the model {model.name!r} share the path {twice[0]!r}, so "
            "neither can be named. Give their layers different names."
        )
    return graph


def _follow_graph(
    trace: ChannelTrace, graph: Any, layouts: Sequence[Layout], prefix: str
) -> list[Layout]:
    def enter(graph: Any, layouts: Sequence[Layout]) -> None:
        """The inputs of a nested graph have the shapes of what it is called on."""
        for tensor, layout in zip(graph.inputs, layouts, strict=True):
            operation = operation_behind(tensor)
            if isinstance(layout, Channels):
                shape = list(tensor.shape)
                shape[layout.axis] = layout.ids
                trace.edit(operation, "batch_shape", tuple(shape))
            trace.end_call(operation)

    if prefix:
        enter(graph, layouts)

    def visit(node: Any, layouts: list[Layout], prefix: str) -> Sequence[Layout]:
        found = _follow(trace, node, layouts, prefix)
        trace.layouts.update(zip(map(id, node.outputs), found, strict=True))
        return found

    return follow_graph(graph, layouts, visit, enter, prefix)


def _follow(
    trace: ChannelTrace, node: Any, layouts: list[Layout], prefix: str
) -> Sequence[Layout]:
    operation = node.operation
    step = ChannelStep(
        operation=operation,
        path=_path_of(operation, prefix),
        tensors=node.input_tensors,
        layouts=layouts,
        outputs=node.outputs,
        arguments=(node.arguments.args, node.arguments.kwargs),
        trace=trace,
    )
    _keep_masks(step)
    if type(operation) is keras.layers.TimeDistributed:
        return _follow_in_time(step)
    return _run_rule(step)


def _keep_masks(step: ChannelStep) -> None:
    """Let channels stay that a call takes for a mask: none of its rules cuts one."""
    named = step.named_arguments.items()
    values = keras.tree.flatten([value for name, value in named if "mask" in name])
    masks = set(map(id, values))
    for tensor, layout in zip(step.tensors, step.layouts, strict=True):
        if id(tensor) in masks:
            step.pin(layout, f"{step.describe()} takes it for a mask")


def _run_rule(step: ChannelStep) -> Sequence[Layout]:
    operation, trace = step.operation, step.trace
    rule, reason = find_channel_rule(operation), _obstacle(step)
    if rule is None or reason is not None:
        for variable in getattr(operation, "variables", ()):
            trace.keep_axes(variable, str(reason))
            if len(variable.shape) > 1:  # it may make channels
                step.stay(str(reason))
        return step.leave(str(reason))
    found = rule(step)
    trace.end_call(operation)
    return found if isinstance(found, list) else [found]


def _follow_in_time(step: ChannelStep) -> Sequence[Layout]:
    """`TimeDistributed`: its layer or model sees tensors without the axis of time."""
    layer, layout = step.operation.layer, step.layout
    if not isinstance(layout, Whole) and layout.axis == 1:
        return step.leave(f"{step.describe()} runs over its channels")
    graph = as_graph(layer)
    if graph is not None:
        layouts = [_moved(layout, -1)]
        found: Sequence[Layout] = _follow_graph(
            step.trace, graph, layouts, f"{step.path}/"
        )
    else:
        inner = dataclasses.replace(
            step,
            operation=layer,
            tensors=[_without_time(tensor) for tensor in step.tensors[:1]],
            layouts=[_moved(layout, -1)],
            outputs=[_without_time(tensor) for tensor in step.outputs],
        )
        found = _run_rule(inner)
    return [_moved(part, 1) for part in found]


def _without_time(tensor: Any) -> Any:
    shape = (tensor.shape[0], *tensor.shape[2:])
    return keras.KerasTensor(shape, dtype=tensor.dtype)


def _moved(layout: Layout, by: int) -> Layout:
    if isinstance(layout, Whole):
        return layout
    return Channels(layout.axis + by, layout.ids)


def _path_of(operation: Any, prefix: str) -> str:
    """The Keras path of a layer, read off its weights where it has some."""
    for variable in getattr(operation, "weights", ()):
        parts = variable.path.split("/")
        if operation.name in parts[:-1]:
            return "/".join(parts[: parts.index(operation.name) + 1])
    return f"{prefix}{operation.name}"


def _obstacle(step: ChannelStep) -> str | None:
    operation = step.operation
    if isinstance(operation, keras.layers.Layer):
        for part in all_layers(operation):
            if getattr(part, "quantization_mode", None) is not None:
                return f"{step.describe()} is quantized"
            if getattr(part, "lora_enabled", False):
                return f"{step.describe()} has LoRA weights"
    if find_channel_rule(operation) is not None:
        return None
    if isinstance(operation, keras.layers.Lambda):
        return (
            f"{step.describe()} hides what it does with channels; write it with "
            "keras.ops in the graph, or as a layer with a channel rule"
        )
    if isinstance(operation, keras.Model):
        return f"{step.describe()} runs code of its own"
    if isinstance(operation, keras.layers.Layer):
        return (
            f"{step.describe()} is not in the table of channel rules; "
            "penjing.register_channel_rule adds it"
        )
    return f"{step.describe()} cannot be followed"


def _find_skipped(
    trace: ChannelTrace, why: np.ndarray, reasons: list[str]
) -> tuple[tuple[str, str], ...]:
    skipped: dict[str, str] = {}
    for path, ids in trace.producers:
        stays = why[ids] >= 0
        if stays.any():
            reason = reasons[why[ids][stays][0]]
            part = "" if stays.all() else f"{stays.sum()} of {len(ids)} channels: "
            skipped.setdefault(path, part + reason)
    for path, reason in trace.skipped.items():
        skipped.setdefault(path, reason)
    return tuple(skipped.items())
