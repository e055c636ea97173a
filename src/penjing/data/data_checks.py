"""Checks of a user's arrays: on their own, and against the model that gets them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from penjing.arguments import quoted
from penjing.data.batches import (
    check_batch,
    check_trainable,
    loader_batches,
    loader_length,
    without_uint64,
)
from penjing.errors import DataError

Arrays = Mapping[str, npt.NDArray[Any]]
# What a single unnamed input or output is called inside these mappings.
UNNAMED = ""


def as_named(value: Any) -> dict[str, Any]:
    """Give a mapping as it is, and a single array under the name `UNNAMED`."""
    return dict(value) if isinstance(value, Mapping) else {UNNAMED: value}


def to_array(value: Any, where: str) -> npt.NDArray[Any]:
    """Turn an array, a list or a tensor of any backend into a usable array.

    That is one of numbers or booleans, all finite, with at least one example along the
    first axis. `where` is what messages call it, for instance `"x_train"`.

    Example:
        >>> to_array([[1.0], [2.0]], "x_train").shape
        (2, 1)
    """
    try:
        tensor = keras.ops.is_tensor(value)
        array = keras.ops.convert_to_numpy(value) if tensor else np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"`{where}` cannot be made an array ({error}). Give numbers of one shape "
            "for all examples."
        ) from error
    if array.dtype.kind not in "biuf" and str(array.dtype) != "bfloat16":
        raise DataError(
            f"`{where}` must hold numbers, got dtype {array.dtype}. Allowed: bool, "
            f"integers, floats. Encode texts and objects as numbers first."
        )
    if array.ndim == 0 or len(array) == 0:
        raise DataError(
            f"`{where}` must have at least one example along its first axis, got "
            f"shape {array.shape}."
        )
    _refuse_non_finite(array, where)
    return without_uint64(array, where)


def check_lengths(parts: Arrays) -> None:
    """Refuse arrays, by their names in messages, of different numbers of examples."""
    if len({len(array) for array in parts.values()}) > 1:
        sizes = ", ".join(f"{name} has {len(array)}" for name, array in parts.items())
        raise DataError(
            f"The arrays of one part must have as many examples each, but {sizes}. "
            "Give every example its label."
        )


def check_inputs(model: keras.Model, x: Any, where: str) -> None:
    """Refuse inputs whose names, shapes or types are not those that a model takes.

    `x` is one array, or a mapping from input name to array; `where` is the part's name
    in messages, such as `"train"`. A subclassed model, whose inputs are not known,
    takes all.
    """
    if not getattr(model, "inputs", None):
        return
    specs = _input_specs(model)
    given = as_named(x)
    _check_names(given, specs, f"x of {where}", "input", f"x_{where}")
    for name, array in given.items():
        spec = specs[name] if name else next(iter(specs.values()))
        label = f"x of {where}" + (f" ({name})" if name else "")
        _check_input(array, tuple(spec.shape), str(spec.dtype), label)


def check_labels(model: keras.Model, x: Any, y: Any, where: str) -> None:
    """Refuse labels that do not fit what a model gives.

    They are one array, or a mapping from output name to array; `where` is the part's
    name in messages. An output of shape `(batch, ..., classes)` takes whole numbers
    below `classes`, one for each position, or an array of its own shape. Where
    `classes` is 1, any number is right. A subclassed model, whose outputs are not known
    in advance, is run on the first two examples of `x`, which `check_inputs` let pass.
    """
    if getattr(model, "inputs", None):
        specs = _output_specs(model)
    else:
        specs = _named_specs(_run(model, x, where))
    given = as_named(y)
    _check_names(given, specs, f"y of {where}", "output", f"y_{where}")
    for name, labels in given.items():
        spec = specs[name] if name else next(iter(specs.values()))
        label = f"y of {where}" + (f" ({name})" if name else "")
        _check_label(labels, tuple(spec.shape), label)


def check_class_count(
    names: Sequence[str] | None,
    outputs: Iterable[Sequence[int | None]],
    source: str,
    *,
    are_folders: bool,
) -> None:
    """Refuse as many classes as no model of these outputs has: labels are shifted then.

    `names` are those of the classes in the order of their labels, `outputs` the shapes
    of what the model gives. Only one output of shape `(batch, n)`, `n` above 1, tells.
    Labels that were not numbered by the order of folders may leave outputs out.
    """
    shapes = [tuple(shape) for shape in outputs]
    if names is None or len(shapes) != 1 or len(shapes[0]) != 2:
        return
    count = shapes[0][1]
    if count is None or count < 2:
        return
    if count < len(names) or (are_folders and count > len(names)):
        raise DataError(
            f"The data ({source}) has {len(names)} classes ({quoted(names, limit=5)}), "
            f"the model {count} outputs. Labels are numbered in the order of the "
            "classes, so that one that is missing shifts the others. Of a folder of "
            "images each class needs its folder, with an image in it; beside `train` "
            "with all classes `test` may lack some."
        )


def output_shapes(model: keras.Model) -> list[tuple[int | None, ...]]:
    """Shapes of what a model gives; none where they are not known in advance."""
    return [tuple(tensor.shape) for tensor in getattr(model, "outputs", None) or []]


def first_batch(model: keras.Model, loader: Any, name: str) -> tuple[Any, Any]:
    """Give the first `(x, y)` of a loader, each an array or a mapping by name.

    The model names the inputs and outputs that come as a list; `name` is what messages
    call the loader, for instance `"train"`.
    """
    loader_length(loader)
    try:
        batch = next(loader_batches(loader, name))
    except (StopIteration, IndexError) as error:
        raise DataError(f"The loader of {name!r} gives no batch.") from error
    check_batch(batch, f"The loader of {name!r}")
    known = bool(getattr(model, "inputs", None))
    x_names = list(_input_specs(model)) if known else None
    y_names = list(_output_specs(model)) if known else None
    return (
        _named_batch(batch[0], x_names, f"x_{name}"),
        _named_batch(batch[1], y_names, f"y_{name}"),
    )


def check_training_loader(loader: Any, name: str) -> None:
    """Refuse a loader that Keras cannot train on, by itself or by what it gives."""
    loader_length(loader)
    check_trainable(loader, f"The loader of {name!r}")
    for batch in itertools.islice(loader_batches(loader, name), 1):
        for tensor in keras.tree.flatten(batch):
            if "uint64" in str(getattr(tensor, "dtype", "")):
                raise DataError(
                    f"The loader of {name!r} gives uint64, which no backend computes "
                    "with. Cast it to int64 in the loader."
                )


def _named_batch(value: Any, names: list[str] | None, where: str) -> Any:
    if isinstance(value, (tuple, list)) and names and len(value) == len(names):
        value = dict(zip(names, value, strict=True)) if len(names) > 1 else value[0]
    if isinstance(value, Mapping):
        return {name: to_array(array, where) for name, array in value.items()}
    return to_array(value, where)


def _run(model: keras.Model, x: Any, where: str) -> Any:
    named = {name: array[:2] for name, array in as_named(x).items()}
    try:
        return model(named.get(UNNAMED, named), training=False)
    except Exception as error:
        raise DataError(
            f"The model {model.name!r} fails on x of {where}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _refuse_non_finite(array: npt.NDArray[Any], where: str) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array)
    count = int(np.count_nonzero(bad))
    if count:
        first = tuple(map(int, np.unravel_index(bad.argmax(), bad.shape)))
        raise DataError(
            f"`{where}` has {count} values that are NaN or infinite, the first at "
            f"{first}. Remove those examples or fill in numbers."
        )


def _input_specs(model: keras.Model) -> dict[str, Any]:
    # A Sequential model has an `input` only after it was called on one.
    is_sequential = isinstance(model, keras.Sequential)
    return _named_specs(model.inputs if is_sequential else model.input)


def _output_specs(model: keras.Model) -> dict[str, Any]:
    if isinstance(model, keras.Sequential):
        return _named_specs(model.outputs)
    return _named_specs(model.output, model.output_names)


def _named_specs(structure: Any, names: list[str] | None = None) -> dict[str, Any]:
    """Name the tensors of a model's input or output, in the model's order."""
    if isinstance(structure, Mapping):
        return dict(structure)
    tensors = structure if isinstance(structure, (list, tuple)) else [structure]
    own = [str(getattr(t, "name", None) or n) for n, t in enumerate(tensors)]
    return dict(zip(names or own, tensors, strict=True))


def _check_names(
    given: Mapping[str, Any],
    specs: Mapping[str, Any],
    where: str,
    kind: str,
    key: str,
) -> None:
    if UNNAMED in given and len(specs) == 1:
        return
    names = quoted(specs)
    if UNNAMED in given:
        raise DataError(
            f"{where} is one array, but the model has {len(specs)} {kind}s: {names}. "
            f"Give one array for each, named {key}_<{kind} name>."
        )
    if len(specs) == 1:
        raise DataError(
            f"{where} is named {quoted(given)}, but the model has a single {kind}. "
            f"Give it as {key}."
        )
    if set(given) != set(specs):
        raise DataError(
            f"{where} does not match the model's {kind}s: got {quoted(given)}, "
            f"expected {names}. Name the arrays {key}_<{kind} name>."
        )


def _check_input(
    array: npt.NDArray[Any], spec: tuple[int | None, ...], dtype: str, where: str
) -> None:
    expected = spec[1:]
    if not fits(array.shape[1:], expected):
        axis = (
            " Add the last axis with x[..., None]." if _lacks_axis(array, spec) else ""
        )
        raise DataError(
            f"{where} has examples of shape {array.shape[1:]}, but the model takes "
            f"{expected}.{axis or ' Reshape the data or choose the right model.'}"
        )
    integer = dtype.startswith(("int", "uint"))
    if integer and array.dtype.kind == "f" and not np.array_equal(array, array.round()):
        raise DataError(
            f"{where} is {array.dtype} with fractions, but the model takes {dtype}. "
            "Give whole numbers."
        )


def _lacks_axis(array: npt.NDArray[Any], spec: tuple[int | None, ...]) -> bool:
    return spec[-1] == 1 and fits(array.shape[1:], spec[1:-1])


def _check_label(
    labels: npt.NDArray[Any], output: tuple[int | None, ...], where: str
) -> None:
    shape, expected = labels.shape[1:], output[1:]
    if fits(shape, expected) or (expected[-1:] == (1,) and fits(shape, expected[:-1])):
        return
    classes = expected[-1] if expected else None
    sparse = bool(expected) and (
        fits(shape, expected[:-1]) or fits(shape, (*expected[:-1], 1))
    )
    if not sparse:
        raise DataError(
            f"{where} has labels of shape {shape}, but the model's output is "
            f"{expected}. Allowed: whole-number labels of shape {expected[:-1]}, or "
            f"values of shape {expected}."
        )
    if labels.dtype.kind == "f" and not np.array_equal(labels, labels.round()):
        raise DataError(
            f"{where} has labels with fractions, but the model's output of "
            f"{expected} takes whole numbers from 0 to {(classes or 0) - 1}."
        )
    low, high = labels.min(), labels.max()
    if low < 0 or (classes is not None and high >= classes):
        top = f"to {classes - 1}" if classes is not None else "up"
        raise DataError(
            f"{where} has labels from {low} to {high}, but the model's output of "
            f"{expected} allows 0 {top}. Number the classes from 0, or give the model "
            "as many outputs as there are classes."
        )


def fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether a shape is the expected one, where None stands for any size."""
    return len(shape) == len(expected) and all(
        size is None or size == given
        for given, size in zip(shape, expected, strict=True)
    )
