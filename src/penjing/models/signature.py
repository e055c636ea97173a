"""What goes into a Keras model: names, shapes, types and nesting of its inputs."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from penjing.errors import UnsupportedModelError

_AUTOMATIC_NAME = re.compile(r"(keras_tensor|input_layer)(_\d+)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelInput:
    """One input of a Keras model, by its name in the exported file.

    That is the user's, else `input_<position>`. The shape has the batch axis first;
    None where the size is free. Floats are always exported as float32.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSignature:
    """All inputs of a Keras model, flat, and how they nest.

    The structure is of nested lists and dicts with positions in `inputs` as leaves.
    """

    inputs: tuple[ModelInput, ...]
    structure: Any

    def pack(self, arrays: Sequence[Any]) -> Any:
        """Nest one value for each input as the model's call takes them."""
        return keras.tree.map_structure(lambda i: arrays[i], self.structure)

    def to_dict(self) -> dict[str, Any]:
        """Give a description that survives JSON; see `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> InputSignature:
        """Read what `to_dict` gave."""
        inputs = tuple(
            ModelInput(**{**item, "shape": tuple(item["shape"])})
            for item in description["inputs"]
        )
        return cls(inputs=inputs, structure=description["structure"])


def input_signature(model: keras.Model) -> InputSignature:
    """Find the inputs of a built model; the batch is free unless an `Input` fixes it.

    A model that is not built, or whose inputs cannot be told from its build shapes, is
    an UnsupportedModelError.
    """
    if not model.built:
        raise _unbuilt(model)
    try:
        nested = model.inputs[0] if _is_sequential(model) else model.input
    except (AttributeError, TypeError, ValueError):
        return _signature_of_subclassed(model)
    names = _names_by_position(nested)
    inputs = [
        _model_input(names[i], tuple(tensor.shape), tensor.dtype)
        for i, tensor in enumerate(keras.tree.flatten(nested))
    ]
    return InputSignature(
        inputs=tuple(_with_unique_names(inputs)), structure=_positions(nested)
    )


def output_names(outputs: Any) -> list[str]:
    """Name the flattened outputs: by key in a dict, else `output_<position>`."""
    return _unique(
        [
            "_".join(str(part) for part in path)
            if any(isinstance(part, str) for part in path)
            else f"output_{position}"
            for position, (path, _) in enumerate(keras.tree.flatten_with_path(outputs))
        ]
    )


def _is_sequential(model: keras.Model) -> bool:
    return isinstance(model, keras.Sequential)


def _signature_of_subclassed(model: keras.Model) -> InputSignature:
    config = model.get_build_config() or {}
    shapes = config.get("input_shape")
    needed = needed_arguments(model)
    if shapes is None or len(needed) > 1:
        why = (
            f"its `call` needs {', '.join(needed)}"
            if len(needed) > 1
            else "it was never called on data"
        )
        raise UnsupportedModelError(
            f"Cannot tell the inputs of the subclassed model `{model.name}`: {why}. "
            "Let its `call` take all inputs in one list or dict, and call it once on a "
            "batch."
        )
    nested = _map_shapes(shapes, lambda shape: _FlatShape((None, *shape[1:])))
    flat = keras.tree.flatten(nested)
    names = _names_by_position(nested)
    inputs = [
        _model_input(names[i], leaf.shape, "float32") for i, leaf in enumerate(flat)
    ]
    return InputSignature(
        inputs=tuple(_with_unique_names(inputs)), structure=_positions(nested)
    )


def signature_of_arguments(shapes: Mapping[str, Sequence[Any]]) -> InputSignature:
    """Inputs of a `call` that takes several arguments, of these shapes by name."""
    inputs = tuple(
        _model_input(name, (None, *shape), "float32") for name, shape in shapes.items()
    )
    return InputSignature(inputs=inputs, structure=list(range(len(inputs))))


def needed_arguments(model: keras.Model) -> list[str]:
    """Arguments of `call` without defaults, in their order.

    Keras keeps the shape of the first alone.
    """
    return [
        item.name
        for item in inspect.signature(model.call).parameters.values()
        if item.default is item.empty
        and item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)
    ]


@dataclasses.dataclass(frozen=True)
class _FlatShape:
    """A shape that tree functions take for a leaf."""

    shape: tuple[int | None, ...]
    name: str = "keras_tensor"


def _map_shapes(shapes: Any, make: Any) -> Any:
    if isinstance(shapes, Mapping):
        return {key: _map_shapes(value, make) for key, value in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return make(shapes)
    return [_map_shapes(value, make) for value in shapes]


def _positions(nested: Any) -> Any:
    counter = iter(range(len(keras.tree.flatten(nested))))
    return keras.tree.map_structure(
        lambda _: next(counter), keras.tree.lists_to_tuples(nested)
    )


def _names_by_position(nested: Any) -> list[str]:
    names = []
    for position, (path, leaf) in enumerate(keras.tree.flatten_with_path(nested)):
        keys = [part for part in path if isinstance(part, str)]
        if keys:
            names.append("_".join(keys))
        elif _AUTOMATIC_NAME.fullmatch(leaf.name):
            names.append(f"input_{position}")
        else:
            names.append(leaf.name)
    return names


def _model_input(name: str, shape: tuple[int | None, ...], dtype: str) -> ModelInput:
    if dtype == "string":
        raise UnsupportedModelError(
            f"Input `{name}` takes strings, which LiteRT models here cannot. Look the "
            "strings up before the model and export it from the integer ids on."
        )
    stored = "float32" if "float" in dtype else dtype
    return ModelInput(name=name, shape=shape, dtype=stored)


def _with_unique_names(inputs: list[ModelInput]) -> list[ModelInput]:
    names = _unique([item.name for item in inputs])
    return [
        dataclasses.replace(item, name=name)
        for item, name in zip(inputs, names, strict=True)
    ]


def _unique(names: list[str]) -> list[str]:
    """Make names that TensorFlow takes as arguments, no two alike."""
    result: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not plain[:1].isalpha():
            plain = f"tensor_{plain}"
        number, candidate = 1, plain
        while candidate in result:
            candidate = f"{plain}_{number}"
            number += 1
        result.append(candidate)
    return result


def _unbuilt(model: keras.Model) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"The model `{model.name}` is not built, so its input shapes are unknown. "
        "Call it on a batch of data, or give a Sequential model a keras.Input first."
    )
