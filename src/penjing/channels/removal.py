"""A smaller model without some of its channels, or the same with them silenced."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from penjing.arguments import did_you_mean
from penjing.channels.groups import ChannelGroup
from penjing.channels.rules.trace import TracedAxis
from penjing.channels.tracing import ChannelGraph
from penjing.errors import UnsupportedModelError
from penjing.models.copying import (
    check_own_methods,
    clone_graph,
    copy_model,
    copy_values,
    name_weights,
    weight_paths,
)
from penjing.models.graph_flow import as_graph
from penjing.models.keras_private import all_layers, operation_behind
from penjing.models.layer_making import (
    build_as,
    config_of,
    layers_but_inputs,
    make_layer_again,
)

# Config keys of layers within layers, and the attributes that hold these.
_INNER = (
    ("layer", "layer"),
    ("layer", "forward_layer"),
    ("backward_layer", "backward_layer"),
    ("cell", "cell"),
)

# A layer, the name of an attribute, and the initializer that it held.
_Initializer: TypeAlias = tuple[keras.layers.Layer, str, keras.Initializer]


def remove_channels(
    model: keras.Model, graph: ChannelGraph, kept: Mapping[str, np.ndarray]
) -> keras.Model:
    """Make a smaller model of the channels that are kept, with their weights.

    Its outputs are those of `silence_channels`, but for rounding.

    Args:
        model: A built Sequential or Functional model. It is left alone.
        graph: What `trace_channels` found in it.
        kept: Group name -> `(size,)`, True where a unit stays. Groups that are not
            named stay whole.

    Returns:
        A new, plain, uncompiled model. Layers, weights and inputs keep their names,
        policies, regularizers and frozen flags.

    Raises:
        ValueError: If a name, a shape or a type is wrong, the graph is another
            model's, or a layer would be left without channels.
        UnsupportedModelError: If units of a group are removed that must stay, or a
            layer cannot be made again from its config.

    Example:
        >>> import keras, numpy as np
        >>> from penjing.channels.tracing import trace_channels
        >>> from penjing.channels.removal import remove_channels
        >>> model = keras.Sequential([keras.Input((8,)),
        ...     keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2)])
        >>> graph = trace_channels(model)
        >>> name = graph.groups[0].name
        >>> kept = {name: np.array([True, False, True, True])}
        >>> remove_channels(model, graph, kept).layers[0].units
        3
    """
    keeps = _kept_ids(model, graph, kept)
    initializers: list[_Initializer] = []
    pairs: list[tuple[Any, Any]] = []
    try:
        twin = _clone_smaller(model, graph, keeps, initializers, pairs)
        build_as(model, twin)
        pairs = _pairs_in_order(model, twin, pairs)
        for yours, mine in pairs:
            check_own_methods(yours, mine)
    except Exception as error:
        raise UnsupportedModelError(
            f"The model {model.name!r} cannot be made again with fewer channels: "
            f"{error}. Give the classes of its own layers a `get_config`, and a "
            "`call` that takes any number of channels."
        ) from error
    for layer, name, initializer in initializers:
        setattr(layer, name, initializer)
    for yours, mine in pairs:
        paths = weight_paths(yours)
        copy_values(yours, mine, _sliced(graph, keeps))
        name_weights(mine, paths)
    return twin


def _pairs_in_order(
    model: keras.Model, twin: keras.Model, pairs: list[tuple[Any, Any]]
) -> list[tuple[Any, Any]]:
    """What to copy from and to: the models, where their layers have one order.

    A Functional model of a class of its own has its layers in the order in which it
    was given them, its twin in that of the graph. Then it is layer by layer; those that
    hold others come first.
    """
    made = {id(yours): id(mine) for yours, mine in pairs}
    wanted = [made[id(x)] for x in layers_but_inputs(model) if id(x) in made]
    found = [id(x) for x in layers_but_inputs(twin) if id(x) in {*made.values()}]
    if wanted == found:
        return [(model, twin)]
    known = {id(v) for yours, _ in pairs for v in yours.variables}
    lost = [v.path for v in model.variables if id(v) not in known]
    if lost:
        raise ValueError(
            f"the weight {lost[0]!r} is in none of the layers of its graph"
        )
    return pairs[::-1]


def silence_channels(
    model: keras.Model, graph: ChannelGraph, kept: Mapping[str, np.ndarray]
) -> keras.Model:
    """Set the removed channels to zero wherever a kernel reads them.

    This shows what a removal costs before anything is cut.

    Args:
        model: A built Sequential or Functional model. It is left alone.
        graph: What `trace_channels` found in it.
        kept: As in `remove_channels`.

    Returns:
        A new, uncompiled model of the same architecture.

    Raises:
        ValueError: As in `remove_channels`.
        UnsupportedModelError: As in `remove_channels`.
    """
    keeps = _kept_ids(model, graph, kept)
    twin = copy_model(model)
    for mine, yours in zip(twin.variables, model.variables, strict=True):
        silent = [
            (traced.axis, keeps[traced.ids])
            for traced in _axes_of(graph, yours)
            if (traced.role == "input" or traced.also_read)
            and not keeps[traced.ids].all()
        ]
        if silent:
            value = np.array(ops.convert_to_numpy(mine.value))
            for axis, mask in silent:
                np.moveaxis(value, axis, 0)[~mask] = 0
            mine.assign(value)
    return twin


def _kept_ids(
    model: keras.Model, graph: ChannelGraph, kept: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Check what is kept; a boolean for each id of the trace."""
    if graph.model is not model:
        raise ValueError(
            f"`graph` is that of another model than {model.name!r}. Trace the one "
            "whose channels go: trace_channels(model)."
        )
    groups = {group.name: group for group in graph.groups}
    masks = {}
    for name, mask in kept.items():
        if name not in groups:
            raise ValueError(
                f"`kept` names the group {name!r}, which the model {model.name!r} "
                f"does not have.{did_you_mean(name, groups)}"
            )
        masks[name] = _check_mask(groups[name], mask)
    keeps = graph.kept_ids(masks)
    _check_nothing_emptied(graph, keeps)
    return keeps


def _check_mask(group: ChannelGroup, given: Any) -> np.ndarray:
    mask: np.ndarray = np.asarray(given)
    if mask.dtype != bool or mask.shape != (group.size,):
        raise ValueError(
            f"`kept` of the group {group.name!r} must be booleans of shape "
            f"({group.size},), got {mask.dtype} of shape {mask.shape}."
        )
    if group.reason is not None and not mask.all():
        raise UnsupportedModelError(
            f"Channels of {group.name!r} cannot be removed: {group.reason}."
        )
    if not mask.any():
        raise ValueError(
            f"`kept` would remove all {group.size} units of the group {group.name!r}. "
            "Keep at least one."
        )
    return mask


def _check_nothing_emptied(graph: ChannelGraph, keeps: np.ndarray) -> None:
    for path, ids in graph.trace.producers:
        if not keeps[ids].any():
            raise ValueError(
                f"`kept` would remove all {len(ids)} channels of the layer {path!r}. "
                "Keep at least one of them."
            )
    for traced in graph.trace.axes.values():
        if not keeps[traced.ids].any():
            raise ValueError(
                f"`kept` would remove all that {traced.variable.path!r} reads. Keep at "
                "least one channel of it."
            )


def _axes_of(graph: ChannelGraph, variable: Any) -> list[TracedAxis]:
    axes = graph.trace.axes
    keys = [(id(variable), axis) for axis in range(len(variable.shape))]
    return [axes[key] for key in keys if key in axes]


def _sliced(graph: ChannelGraph, keeps: np.ndarray) -> Any:
    def value_of(variable: Any) -> Any:
        parts = [
            (traced.axis, keeps[traced.ids]) for traced in _axes_of(graph, variable)
        ]
        if all(mask.all() for _, mask in parts):
            return ops.copy(variable.value)
        value = ops.convert_to_numpy(variable.value)
        for axis, mask in parts:
            value = np.compress(mask, value, axis=axis)
        return value

    return value_of


def _clone_smaller(
    model: keras.Model,
    graph: ChannelGraph,
    keeps: np.ndarray,
    initializers: list[_Initializer],
    pairs: list[tuple[Any, Any]],
) -> keras.Model:
    """Clone with fewer channels; `initializers` takes those to set back when built.

    `pairs` takes each layer with its twin.
    """
    arguments = graph.trace.argument_edits
    calls: dict[int, tuple[Any, dict[int, Any]]] = {}

    def clone(layer: Any) -> Any:
        twin = _smaller_layer(layer, graph, keeps, clone_smaller)
        initializers.extend(_start_with_zeros(twin))
        if isinstance(twin, keras.layers.Layer):
            pairs.append((layer, twin))
        if id(layer) in arguments:
            calls[id(twin)] = twin, arguments[id(layer)]
        return twin

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        _, edits = calls.get(id(layer), (layer, {}))
        changed = [
            _counted(edits[place], keeps) if place in edits else argument
            for place, argument in enumerate(args)
        ]
        return layer(*changed, **kwargs)

    def shape_of(tensor: Any) -> Any:
        edits = graph.trace.config_edits.get(id(operation_behind(tensor)), {})
        return _counted(edits.get("batch_shape", tensor.shape), keeps)

    def clone_smaller(part: keras.Model) -> keras.Model:
        return clone_graph(part, clone, call=call, shape_of=shape_of)

    return clone_smaller(model)


def _start_with_zeros(layer: Any) -> Iterator[_Initializer]:
    """Draw no weights that are written over: JAX compiles a draw for every shape."""
    if not isinstance(layer, keras.layers.Layer):
        return
    for part in all_layers(layer):
        for name, value in list(vars(part).items()):
            if isinstance(value, keras.initializers.Initializer):
                setattr(part, name, keras.initializers.Zeros())
                yield part, name, value


def _smaller_layer(
    layer: Any,
    graph: ChannelGraph,
    keeps: np.ndarray,
    clone_smaller: Callable[[keras.Model], keras.Model],
) -> Any:
    if type(layer) is keras.layers.TimeDistributed and as_graph(layer.layer):
        inner = clone_smaller(layer.layer)
        return keras.layers.TimeDistributed(**{**layer.get_config(), "layer": inner})
    config = _changed_config(layer, graph, keeps)
    return make_layer_again(layer, **(config or {}))


def _changed_config(
    layer: Any, graph: ChannelGraph, keeps: np.ndarray
) -> dict[str, Any] | None:
    """The config of the smaller layer; `None` where nothing changes."""
    changes = {
        key: _counted(value, keeps)
        for key, value in graph.trace.config_edits.get(id(layer), {}).items()
        if _loses_channels(value, keeps)
    }
    inner: list[tuple[str, Any]] = [
        (key, getattr(layer, name))
        for key, name in _INNER
        if isinstance(getattr(layer, name, None), keras.layers.Layer)
    ]
    sliced = any(
        not keeps[traced.ids].all()
        for variable in getattr(layer, "weights", ())
        for traced in _axes_of(graph, variable)
    )
    if not changes and not inner and not sliced:
        return None
    config = {**config_of(layer), **changes}
    for key in config if sliced else ():
        if key.endswith("initializer") and _has_fixed_shape(config[key]):
            config[key] = "zeros"  # the weights are written in afterwards
    for key, part in inner:
        if key in config:
            found = _changed_config(part, graph, keeps) or config_of(part)
            # Its build config would build it for the channels that it had.
            config[key] = {**config[key], "config": found, "build_config": None}
    return config


def _has_fixed_shape(initializer: Any) -> bool:
    """Whether the config of an initializer holds an array."""
    if not isinstance(initializer, dict) or initializer["class_name"] != "Constant":
        return False
    return not isinstance(initializer["config"]["value"], numbers.Number)


def _loses_channels(value: Any, keeps: np.ndarray) -> bool:
    if isinstance(value, tuple):
        return any(_loses_channels(entry, keeps) for entry in value)
    return isinstance(value, np.ndarray) and not keeps[value].all()


def _counted(value: Any, keeps: np.ndarray) -> Any:
    """Put the number of kept ids in the place of each array of ids."""
    if isinstance(value, np.ndarray):
        return int(keeps[value].sum())
    if isinstance(value, tuple):
        return tuple(_counted(entry, keeps) for entry in value)
    if isinstance(value, slice):
        start, stop = _counted(value.start, keeps), _counted(value.stop, keeps)
        return slice(start, stop, value.step)
    return value
