"""Layers whose code runs at other times than the forward pass that calls it.

A `tf.function` runs its Python code once and keeps the tensors that it found there.
What is rematerialized runs once more in the backward pass, on TensorFlow without a
gradient for tensors that are neither its arguments nor variables. Both go wrong for
weights that pass through transforms on their way into the layer.
"""

from __future__ import annotations

import dis
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any

import keras

from penjing.models.keras_private import all_layers, is_rematerialized

FUNCTION = "tf.function"
REMAT = "rematerialization"
# What `fit`, `evaluate` and `predict` give a model.
_STEPS = ("train_function", "test_function", "predict_function")
_CODE = (types.FunctionType, types.MethodType, property, staticmethod, classmethod)
_LIBRARIES = ("keras", "tensorflow", "torch", "jax", "numpy", "penjing", "builtins")


def find_kept_calls(layer: keras.layers.Layer) -> Iterator[tuple[Any, str, str]]:
    """Each layer within whose code is kept or run again, how, and where in it.

    How is `FUNCTION` or `REMAT`. Code is read, not run: that of classes that are not
    Keras' own, and for `REMAT` of functions that it calls by name.
    """
    for part in all_layers(layer):
        if is_rematerialized(part):
            yield part, REMAT, "keras.RematScope"
        for name, value in _own_values(part):
            if _is_tf_function(value):
                if _sees_layer(value.python_function):
                    yield part, FUNCTION, name
            else:
                for where in _remats(value, name, set()):
                    yield part, REMAT, where


def _own_values(layer: Any) -> Iterator[tuple[str, Any]]:
    """Names and values in which the user's code may be: of classes and of objects."""
    for cls in type(layer).__mro__:
        if cls.__module__.partition(".")[0] not in _LIBRARIES:
            yield from vars(cls).items()
    for name, value in vars(layer).items():
        is_code = isinstance(value, types.FunctionType | types.MethodType)
        if name not in _STEPS and (is_code or _is_tf_function(value)):
            yield name, value


def _sees_layer(function: Any) -> bool:
    """Whether a function could read the weights of the layer that it belongs to."""
    code = getattr(function, "__code__", None)
    if code is None or function.__closure__ or hasattr(function, "__self__"):
        return True
    first = code.co_varnames[: min(code.co_argcount, 1)]
    loaded = {step.argval for step in dis.get_instructions(code)}
    return bool(loaded & {*first, *code.co_cellvars})


def _remats(value: Any, name: str, seen: set[int]) -> Iterator[str]:
    """Where what a value runs is rematerialized."""
    if any(value is known for known in _remat_functions()):
        yield name
    elif isinstance(value, _CODE):
        given: Any = getattr(value, "fget", None) or value
        function = inspect.unwrap(given)
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is None or id(code) in seen or _is_of_library(function):
            return
        seen.add(id(code))
        for inner, found in _named_values(function, code):
            yield from _remats(found, inner, seen)


def _is_of_library(function: Any) -> bool:
    return (function.__module__ or "").partition(".")[0] in _LIBRARIES


def _named_values(function: Any, code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """What code names of globals, attributes of modules, and what it closes over."""
    for cell in function.__closure__ or ():
        try:
            yield "a function that it closes over", cell.cell_contents
        except ValueError:  # not bound yet
            continue
    missing = object()
    value, name = missing, ""
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            value, name = function.__globals__.get(step.argval, missing), step.argval
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and value is not missing:
            # Modules alone: attributes of other things may run code.
            is_module = isinstance(value, types.ModuleType)
            value = getattr(value, step.argval, missing) if is_module else missing
            name = f"{name}.{step.argval}"
        else:
            value = missing
        if value is not missing:
            yield name, value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named_values(function, constant)


def _is_tf_function(value: Any) -> bool:
    return all(
        hasattr(type(value), name) for name in ("get_concrete_function", "__call__")
    ) and hasattr(value, "python_function")


def _remat_functions() -> list[Any]:
    """What rematerializes, of Keras and of the backend that runs."""
    places = (
        ("keras", "remat"),
        ("tensorflow", "recompute_grad"),
        ("torch.utils.checkpoint", "checkpoint"),
    )
    found = (getattr(sys.modules.get(place), name, None) for place, name in places)
    return [function for function in found if function is not None]
