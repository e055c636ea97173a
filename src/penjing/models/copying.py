"""A model's twin: the same architecture, names and weights, nothing shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from penjing.arguments import quoted
from penjing.errors import UnsupportedModelError
from penjing.files import temporary_folder
from penjing.models.keras_private import (
    copy_frozen,
    direct_layers,
    operation_behind,
    own_variables,
    set_path,
)
from penjing.models.layer_making import (
    build_as,
    defined_by_keras,
    layers_but_inputs,
    make_layer_again,
)
from penjing.models.stand_ins import stand_in

OWN_STEPS = ("train_step", "test_step", "predict_step")


def copy_model(model: keras.Model) -> keras.Model:
    """Copy a built Keras model, uncompiled: one of the same class, names and weights.

    A subclassed one needs a `get_config` where its constructor takes arguments, as
    Keras does not know them by itself; else it is refused as an UnsupportedModelError.
    """
    twin = make_again(model)
    copy_values(model, twin)
    name_weights(twin, weight_paths(model))
    return twin


def make_again(model: keras.Model) -> keras.Model:
    """The same architecture with weights of its own; refused as `copy_model` does."""
    try:
        return _make_again(model)
    except Exception as error:
        raise UnsupportedModelError(
            f"The model {model.name!r} of class {type(model).__name__} cannot be "
            f"copied: {error}. Give its class a `get_config` and a `from_config` that "
            "make it again. Where a function takes `copy=False`, that works on the "
            "model itself."
        ) from error


def weight_paths(layer: keras.layers.Layer) -> list[str]:
    """The Keras path of every weight of a layer or model, in its order."""
    return [variable.path for variable in layer.weights]


def name_weights(layer: keras.layers.Layer, paths: Sequence[str]) -> None:
    """Give the weights of a twin the paths that they have in the original.

    A layer that is made from its config is built at another place than the first time,
    and Keras then gives `dense/kernel` in place of `sequential/dense/kernel`. `paths`
    is what `weight_paths` gave for the original; it is ignored where the twin has
    another number of weights, as one that is not built yet.
    """
    weights = layer.weights
    if len(weights) == len(paths):
        for variable, path in zip(weights, paths, strict=True):
            set_path(variable, path)


def name_apart(layer: keras.layers.Layer) -> None:
    """Give weights that share a path the names of all layers that they are in.

    Keras names weights by the place where they were built. In blocks with equal inner
    names `block1/conv/kernel` and `block2/conv/kernel` are then both `conv/kernel`, at
    the latest where the model was saved and loaded.
    """
    counts = Counter(weight_paths(layer))
    shared = {id(v) for v in layer.weights if counts[v.path] > 1}
    if not shared:
        return
    for place, part in layers_by_place(layer):
        for variable in own_variables(part):
            if id(variable) in shared:
                shared.remove(id(variable))
                set_path(variable, f"{place}{variable.name}")


def layers_by_place(
    layer: keras.layers.Layer, place: str = ""
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Give a layer and all within it, each once for each place where it stands.

    A place is the names of the layers around it and its own, each with a "/" behind.
    """
    yield place, layer
    for part in direct_layers(layer):
        yield from layers_by_place(part, f"{place}{part.name}/")


def float_value(variable: Any) -> Any:
    """The value of a variable as a NumPy array of float32."""
    return ops.convert_to_numpy(ops.cast(variable.value, "float32"))


def _value_of(variable: Any) -> Any:
    return ops.copy(variable.value)


def _paired(
    source: keras.layers.Layer, target: keras.layers.Layer
) -> list[tuple[Any, Any]]:
    """The layers of a copy and their twins."""
    mine, yours = map(list, map(layers_but_inputs, (target, source)))
    if len(mine) != len(yours):
        left = [layer.name for layer in yours[len(mine) :]]
        raise UnsupportedModelError(
            f"{source.name!r} holds layers that its graph does not use, of which a "
            f"copy has none: {quoted(left) or 'fewer than the copy'}. Take them out of "
            "its attributes."
        )
    return list(zip(mine, yours, strict=True))


def copy_values(
    source: keras.layers.Layer,
    target: keras.layers.Layer,
    value_of: Callable[[Any], Any] = _value_of,
) -> None:
    """Copy weights, random states and frozen flags between two equal built layers.

    `value_of` says what of a variable is copied. Variables that differ in number or
    shape are an UnsupportedModelError.
    """
    theirs, ours = source.variables, target.variables
    if len(ours) != len(theirs):
        raise _other_variables(source, len(ours), len(theirs))
    pairs = _paired(source, target)
    for mine, yours in pairs:
        _copy_flags(yours, mine)
    for mine, yours in zip(ours, theirs, strict=True):
        value = value_of(yours)
        if tuple(value.shape) != tuple(mine.shape):
            raise _other_variables(source, len(ours), len(theirs))
        mine.assign(value)
    for mine, yours in pairs:
        _copy_state_beside_variables(mine, yours)


def copy_layer_values(
    source: keras.layers.Layer,
    target: keras.layers.Layer,
    values_of: Callable[[Any, Any], Any],
) -> None:
    """As `copy_values`, where some layers hold other variables than their twins.

    `values_of` gets a layer of the target's and its twin in the source, and gives the
    values of its own variables in their order.
    """
    pairs = _paired(source, target)
    for mine, yours in pairs:
        _copy_flags(yours, mine)
        values = list(values_of(mine, yours))
        ours = own_variables(mine)
        if [tuple(v.shape) for v in values] != [tuple(v.shape) for v in ours]:
            raise _other_variables(yours, len(ours), len(values))
        for variable, value in zip(ours, values, strict=True):
            variable.assign(value)
    for mine, yours in pairs:
        _copy_state_beside_variables(mine, yours)


def _copy_flags(yours: Any, mine: Any) -> None:
    """Freeze a layer as its twin is, and single variables that are frozen alone."""
    copy_frozen(yours, mine)
    ours, theirs = own_variables(mine), own_variables(yours)
    if len(ours) == len(theirs):
        for variable, other in zip(ours, theirs, strict=True):
            variable.trainable = other.trainable


def _copy_state_beside_variables(mine: Any, yours: Any) -> None:
    """Vocabularies, and the constants that a Normalization makes of its variables."""
    if isinstance(mine, keras.layers.Normalization):
        mine.finalize_state()
    if hasattr(type(yours), "save_assets"):
        with temporary_folder("penjing-assets") as folder:
            yours.save_assets(str(folder))
            mine.load_assets(str(folder))


def _other_variables(
    source: keras.layers.Layer, ours: int, theirs: int
) -> UnsupportedModelError:
    twice = (
        "A layer that stands within another one, as in TimeDistributed, and is called "
        "elsewhere too is made twice: give each its own. "
    )
    return UnsupportedModelError(
        f"The copy of {source.name!r} has {ours} variables where the original has "
        f"{theirs}, or other shapes. {twice if ours > theirs else ''}"
        "Build the model in its constructor or `build`. "
        "Where a function takes `copy=False`, that works on the model itself."
    )


def is_functional(model: keras.layers.Layer) -> bool:
    """Whether a model was made from symbolic inputs and outputs."""
    return any(base.__name__ == "Functional" for base in type(model).__mro__)


def clone_graph(
    model: keras.Model,
    clone_layer: Callable[[keras.layers.Layer], keras.layers.Layer],
    dropped: Collection[int] = (),
    call: Callable[..., Any] | None = None,
    shape_of: Callable[[Any], Any] | None = None,
) -> keras.Model:
    """Clone a Sequential or Functional model, uncompiled, nested models too.

    The clone's inputs keep their names, which Keras' own cloning loses. A layer that is
    dropped, by its `id`, has one input, which takes the place of its output. `call`
    calls a cloned layer of a Functional graph, in place of calling it: takes the layer
    and its arguments, gives its outputs. `shape_of` gives the shape of a symbolic input
    in the clone, where it is not the same.
    """
    clones: dict[int, keras.layers.Layer] = {}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if id(layer) not in clones:
            clones[id(layer)] = (
                _clone_one_graph(layer, clone, dropped, call, shape_of)
                if _is_graph(layer)
                else clone_layer(layer)
            )
        return clones[id(layer)]

    return _clone_one_graph(model, clone, dropped, call, shape_of)


def _same_input(tensor: Any, shape_of: Callable[[Any], Any] | None) -> Any:
    layer = operation_behind(tensor)
    return keras.Input(
        batch_shape=tensor.shape if shape_of is None else shape_of(tensor),
        dtype=tensor.dtype,
        name=layer.name,
        optional=getattr(layer, "optional", False),
    )


def _is_graph(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.Sequential) or is_functional(layer)


def _clone_one_graph(
    model: keras.Model,
    clone_layer: Callable[[keras.layers.Layer], keras.layers.Layer],
    dropped: Collection[int],
    call: Callable[..., Any] | None,
    shape_of: Callable[[Any], Any] | None,
) -> keras.Model:
    """Clone a graph; Keras 3.12's `recursive` stops at the second nested one."""
    # Keras would compile the clone of a compiled one, and need its loss.
    model = stand_in(model, compiled=False)

    def same_input(tensor: Any) -> Any:
        return _same_input(tensor, shape_of)

    if is_functional(model):
        return keras.models.clone_model(
            model,
            input_tensors=keras.tree.map_structure(same_input, model.input),
            clone_function=clone_layer,
            call_function=_calls_without(model, dropped) if dropped else call,
        )
    whole = not any(id(layer) in dropped for layer in model.layers)
    if whole and (shape_of is None or not model.built):
        return keras.models.clone_model(model, clone_function=clone_layer)
    kept = [clone_layer(part) for part in model.layers if id(part) not in dropped]
    first = [same_input(tensor) for tensor in model.inputs]
    return keras.Sequential([*first, *kept], name=model.name, trainable=model.trainable)


def _calls_without(model: keras.Model, dropped: Collection[int]) -> Callable[..., Any]:
    names = {layer.name for layer in model.layers if id(layer) in dropped}

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in names else layer(*args, **kwargs)

    return call


def _make_again(model: keras.Model) -> keras.Model:
    if not _is_graph(model) or not defined_by_keras(type(model).get_config):
        twin = make_layer_again(model)
    else:
        twin = clone_graph(model, make_layer_again)
    build_as(model, twin)
    check_own_methods(model, twin)
    return twin


def check_own_methods(model: keras.Model, twin: keras.Model) -> None:
    """Refuse, as a ValueError, a twin that lost methods which a user wrote.

    That is one in which Keras, given the config or graph, made a layer another class.
    """
    for old, new in zip(
        layers_but_inputs(model), layers_but_inputs(twin), strict=False
    ):
        if type(new) is not type(old) and _has_own_behaviour(old):
            raise ValueError(
                f"Keras makes a {type(new).__name__} of the "
                f"{type(old).__name__} {old.name!r}, without its own methods"
            )


def _has_own_behaviour(layer: keras.layers.Layer) -> bool:
    methods = ("call", "compute_loss", *OWN_STEPS)
    return any(
        not defined_by_keras(getattr(type(layer), name))
        for name in methods
        if hasattr(type(layer), name)
    )
