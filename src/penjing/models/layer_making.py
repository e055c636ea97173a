"""Layers made again from their configs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import keras

from penjing.models.keras_private import all_layers, lambda_output_shape

_BY_KERAS = {"name", "trainable", "dtype"}  # what Keras puts in the config of layers


def make_layer_again(layer: Any, /, **changes: Any) -> Any:
    """A new, mostly unbuilt layer, operation or subclassed model of the same config.

    `changes` are entries of the config with other values. One whose config does not say
    how it was made is refused as a ValueError.
    """
    if isinstance(layer, keras.Model):
        _check_config(layer)
    if type(layer) is keras.layers.Lambda:
        # Its config is code, which Keras does not run. Here it is the user's own.
        return keras.layers.Lambda(
            layer.function,
            output_shape=lambda_output_shape(layer),
            mask=layer.mask,
            arguments=layer.arguments,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
    config, functions = _config(layer, changes)
    refused = _refused_by_constructor(layer)
    kept = {key: value for key, value in config.items() if key not in refused}
    with keras.saving.custom_object_scope(functions):
        twin = _with_all_arguments(layer, kept)
    if not refused:
        return twin
    twin.name = layer.name
    _check_types(layer, twin)
    return twin


def _from_config(layer: Any, config: dict[str, Any]) -> Any:
    """A twin by a config; also where it says more than the constructor takes.

    Some classes put what they computed into it: that must come out the same again.
    """
    try:
        return type(layer).from_config(dict(config))
    except Exception:
        named = inspect.signature(type(layer).__init__).parameters
        kept = {k: v for k, v in config.items() if k in {*named, *_BY_KERAS}}
        if kept.keys() == config.keys():
            raise
        twin = type(layer).from_config(kept)
        if twin.get_config() != config:
            raise
        return twin


def _with_all_arguments(layer: Any, config: dict[str, Any]) -> Any:
    """A twin by a config; also where that leaves out what the constructor was given.

    What is left out is read off the layer, where it holds it by the same name.
    """
    left_out = _left_out(layer, config)
    if not left_out:
        return _from_config(layer, config)
    try:
        twin = _from_config(layer, config)
        differing = _differing(twin, left_out)
    except TypeError:  # there is no default for it
        differing = left_out
    if not differing:
        return twin
    twin = _from_config(layer, {**config, **differing})
    differing = _differing(twin, left_out)
    if differing:
        name, value = next(iter(differing.items()))
        raise ValueError(
            f"the config of {layer.name!r} of class {type(layer).__name__} does not "
            f"say `{name}`, which is {value!r} in it and {getattr(twin, name)!r} in "
            "one made of it"
        )
    return twin


def _left_out(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a layer's constructor that its own `get_config` does not give."""
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, keras.Model):
        return {}
    if defined_by_keras(type(layer).get_config):
        return {}
    missing = _arguments(layer).keys() - config.keys()
    found = {name: getattr(layer, name) for name in missing if hasattr(layer, name)}
    return {name: value for name, value in found.items() if _is_plain(value)}


def _differing(twin: Any, values: dict[str, Any]) -> dict[str, Any]:
    unknown = object()
    return {
        name: value
        for name, value in values.items()
        if getattr(twin, name, unknown) != value
    }


def _arguments(layer: Any) -> dict[str, inspect.Parameter]:
    """What the constructor of a layer takes by name, but what all layers take."""
    parameters = inspect.signature(type(layer).__init__).parameters
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter
        for name, parameter in list(parameters.items())[1:]
        if parameter.kind in by_name and name not in _BY_KERAS
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def config_of(layer: Any) -> dict[str, Any]:
    """The config of a layer or operation.

    Where its `get_config` asks for an attribute that the layer does not have, it is
    made of the attributes that have the names of the constructor's arguments.
    """
    try:
        config: dict[str, Any] = layer.get_config()
    except AttributeError:
        wanted = _arguments(layer)
        if not isinstance(layer, keras.layers.Layer) or isinstance(layer, keras.Model):
            raise
        if not all(hasattr(layer, name) for name in wanted):
            raise
        base = keras.layers.Layer.get_config(layer)
        config = {**base, **{name: getattr(layer, name) for name in wanted}}
    return config


def _refused_by_constructor(layer: Any) -> set[str]:
    """What Keras puts in a config that a class of `__init__(self)` does not take."""
    own = type(layer)
    if not isinstance(layer, keras.layers.Layer):
        return set()
    if not (defined_by_keras(own.get_config) and defined_by_keras(own.from_config)):
        return set()
    parameters = inspect.signature(own.__init__).parameters
    if any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
        return set()
    return _BY_KERAS - set(parameters)


def _check_types(layer: Any, twin: Any) -> None:
    """Refuse a twin that was made under another global dtype policy."""
    for old, new in zip(
        layers_but_inputs(layer), layers_but_inputs(twin), strict=False
    ):
        if old.dtype_policy.name != new.dtype_policy.name:
            raise ValueError(
                f"{old.name!r} was made with dtype policy {old.dtype_policy.name!r}, "
                f"the copy with {new.dtype_policy.name!r}, for the constructor of "
                f"{type(layer).__name__!r} takes no `dtype`"
            )


def _config(
    layer: Any, changes: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A layer's config, changed, and by name the functions that the user gave it.

    A config holds the code of a lambda and the name of a function, of which Keras makes
    the function again only where it is registered. In this one they are names that the
    second value knows, in layers within the layer too.
    """
    with warnings.catch_warnings():
        # Keras warns of files that hold a lambda, but none is written.
        warnings.filterwarnings("ignore", "The object being serialized includes a `la")
        config: dict[str, Any] = {**config_of(layer), **changes}
        written = _written_functions(layer)
    functions: dict[str, Any] = {}

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            found = written.get(_name_in(value) or "", ())
            if len(found) != 1:
                return {key: named(item) for key, item in value.items()}
            name = f"penjing_function_{len(functions)}"
            functions[name] = found[0]
            return {"module": "builtins", "class_name": "function", "config": name}
        if isinstance(value, list | tuple):
            return type(value)(map(named, value))
        return value

    config = named(config) if written else config
    if not defined_by_keras(type(layer).from_config):
        return config, functions
    given = {key: getattr(layer, key, None) for key in config.keys() - changes.keys()}
    whole = {key: value for key, value in given.items() if _is_own_function(value)}
    return config | whole, functions


def _written_functions(layer: Any) -> dict[str, list[Any]]:
    """What Keras writes of the functions in a layer and all within it -> which it is.

    Where they are several, such as lambdas of one line, nothing tells them apart.
    """
    parts = all_layers(layer) if isinstance(layer, keras.layers.Layer) else [layer]
    held = [value for part in parts for value in vars(part).values()]
    distinct = {id(value): value for value in held if _is_own_function(value)}
    found: dict[str, list[Any]] = {}
    for function in distinct.values():
        name = _name_in(keras.saving.serialize_keras_object(function))
        found.setdefault(name or "", []).append(function)
    return found


def _name_in(written: dict[str, Any]) -> str | None:
    """The name of a function or the code of a lambda in what Keras wrote of it."""
    kind, config = written.get("class_name"), written.get("config")
    if kind == "function":
        return str(config)
    code = config if kind == "__lambda__" else written  # activations are bare
    if isinstance(code, dict) and set(code) == {"value"}:
        value = code["value"]
        if isinstance(value, list | tuple) and len(value) == 3:
            return str(value[0])
    return None


def _is_own_function(value: Any) -> bool:
    return inspect.isfunction(value) and not defined_by_keras(value)


def _check_config(model: keras.Model) -> None:
    """Refuse a config that Keras fills with defaults in place of what was passed."""
    if not defined_by_keras(type(model).get_config):
        return
    parameters = inspect.signature(type(model).__init__).parameters.values()
    unknown = [
        parameter.name
        for parameter in list(parameters)[1:]
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and parameter.name not in _BY_KERAS
    ]
    if unknown:
        raise ValueError(
            f"its class has no `get_config`, and Keras does not know which "
            f"{', '.join(f'`{name}`' for name in unknown)} it was made with"
        )


def build_as(layer: keras.layers.Layer, twin: keras.layers.Layer) -> None:
    """Build `twin`, unless it is built, for the input shapes of `layer`."""
    build_config = layer.get_build_config()
    if layer.built and not twin.built and build_config is not None:
        twin.build_from_config(build_config)
        twin.built = True  # Keras leaves that to its loader.


def defined_by_keras(defined: Callable[..., Any]) -> bool:
    """Whether a class or method is Keras' own, not that of a user's subclass."""
    return defined.__module__.partition(".")[0] == "keras"


def layers_but_inputs(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all within it, but inputs: two graphs may share one, no twins do."""
    parts = all_layers(layer)
    return [part for part in parts if not isinstance(part, keras.layers.InputLayer)]
