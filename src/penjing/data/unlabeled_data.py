"""Inputs without labels: what they are called, and how they are split into parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from penjing.data.data_checks import UNNAMED, check_lengths, to_array
from penjing.errors import DataError

# Of inputs that come in one piece: what is left is to learn from.
_TEST, _VALIDATION = 0.2, 0.2
_FEWEST = 10
_KEY = re.compile(r"x(?:_(train|validation|test))?(?:_(.+))?")


class UnlabeledDataError(DataError):
    """Says that data has no labels; `read` gives its inputs by their names."""

    def __init__(self, source: str, names: str, read: Callable[[], Any]) -> None:
        super().__init__(
            f"{source} has inputs without labels ({names}). Give y_train and y_test "
            "too. Without them `penjing compress` takes what the model itself gives: "
            "labels=False (--no-labels) to train by it, training=False "
            "(--no-training) to train nothing."
        )
        self.source, self.read = source, read


def refuse_unlabeled(raw: Mapping[str, Any], source: str) -> None:
    """Raise an `UnlabeledDataError` for arrays that are inputs alone."""
    names = [str(name) for name in raw if name != "class_names"]
    if names and all(_KEY.fullmatch(name) for name in names):
        raise UnlabeledDataError(source, ", ".join(names), lambda: raw)


def inputs_by_part(
    raw: Mapping[str, Any], seed: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Inputs of the training, validation and test part, and how they were split.

    Args:
        raw: `x`, or `x_train` and `x_test`, perhaps `x_validation`: arrays with the
            samples along the first axis; of several inputs `x_<name>` or
            `x_train_<name>`.
        seed: Chooses which inputs are in which part, where they come in one piece.

    Returns:
        Part -> an array, or a mapping from the name of an input to its array.

    Raises:
        DataError: If there are too few, or the arrays are of different lengths.

    Example:
        >>> parts, notes = inputs_by_part({"x": np.zeros((20, 3))}, seed=0)
        >>> {name: len(x) for name, x in parts.items()}
        {'test': 4, 'validation': 4, 'train': 12}
    """
    parts = _named_parts(raw)
    if parts.keys() >= {"train", "test"}:
        return parts, ()
    if len(parts) == 1:
        return _split(next(iter(parts.values())), seed)
    raise DataError(
        f"The inputs have the parts {', '.join(map(repr, parts))}. Give x_train and "
        "x_test, or all of them as x."
    )


def inputs_to_measure(raw: Mapping[str, Any]) -> Any:
    """Inputs of the part that measures: validation, test, or all there are.

    Args:
        raw: As for `inputs_by_part`.

    Returns:
        An array, or a mapping from the name of an input to its array.

    Raises:
        DataError: If the arrays are of different lengths.

    Example:
        >>> inputs_to_measure({"x_train": np.zeros((9, 3)), "x_test": [[1.0]]}).shape
        (1, 1)
    """
    parts = _named_parts(raw)
    return next(parts[p] for p in ("validation", "test", "", "train") if p in parts)


def _named_parts(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Part, an empty text for no part, -> an array or arrays by their inputs' names."""
    fields: dict[str, dict[str, Any]] = {}
    for key, value in raw.items():
        if (found := _KEY.fullmatch(str(key))) is not None:
            part = found[1] or ""
            fields.setdefault(part, {})[found[2] or UNNAMED] = to_array(value, str(key))
    for part, arrays in fields.items():
        start = f"x_{part}_" if part else "x_"
        check_lengths({f"{start}{name}": array for name, array in arrays.items()})
    return {part: arrays.get(UNNAMED, arrays) for part, arrays in fields.items()}


def _split(x: Any, seed: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    count = len(keras.tree.flatten(x)[0])
    if count < _FEWEST:
        raise DataError(
            f"There are {count} inputs. Give {_FEWEST} at least, and better some "
            "hundreds: a part of them is held out to measure by."
        )
    order = np.random.default_rng(seed).permutation(count)
    tests, decides = round(_TEST * count), round(_VALIDATION * count)
    cuts = np.split(order, [tests, tests + decides])
    parts = {
        part: keras.tree.map_structure(lambda array, rows=rows: array[rows], x)
        for part, rows in zip(("test", "validation", "train"), cuts, strict=True)
    }
    note = (
        f"of {count:,} inputs, chosen by the seed {seed}, {tests:,} are the test data "
        f"and {decides:,} are held out for validation"
    )
    return parts, (note,)
