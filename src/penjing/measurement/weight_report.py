"""Zeros and distinct values of every weight of a model, compressed or plain."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.engine.engine import TransformEngine
from penjing.errors import UnsupportedModelError
from penjing.json_values import JsonValue
from penjing.models.keras_private import all_layers
from penjing.models.selection import select_weights
from penjing.text_table import text_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightRow(JsonValue):
    """What became of one weight.

    Args:
        path: Keras path of the weight.
        shape: Its shape.
        zeros: How many of its values are zero in the model that `strip` gives.
        distinct: How many distinct values it has there, zero among them; None where an
            old report does not say it.
        status: `"compressed"`, `"compressible"` (in a plain model) or `"skipped"`.
        reason: Why it was skipped, else empty.
        methods: What is done to it, such as `("pruned", "clustered")`.
    """

    json_properties = ("size", "sparsity")

    path: str
    shape: tuple[int, ...]
    zeros: int
    distinct: int | None = None
    status: str
    reason: str = ""
    methods: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros, 0 to 1."""
        return self.zeros / self.size if self.size else 0.0


def total_sparsity(rows: Iterable[WeightRow]) -> float:
    """Fraction of zeros over all weights that were not skipped."""
    taken = [row for row in rows if row.status != "skipped"]
    size = sum(row.size for row in taken)
    return sum(row.zeros for row in taken) / size if size else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparsityReport(JsonValue):
    """Zeros and distinct values of every weight of a model; printed, it is a table.

    Args:
        rows: One for each weight, in the model's order.
    """

    json_properties = ("sparsity",)

    rows: tuple[WeightRow, ...]

    @property
    def sparsity(self) -> float:
        """Fraction of zeros over all weights that were not skipped."""
        return total_sparsity(self.rows)

    def __str__(self) -> str:
        """A table with one line for each weight."""
        head = ("weight", "shape", "zeros", "sparsity", "distinct", "status")
        table = text_table(
            [head, *map(_cells, self.rows)], "<6", "<18", ">10", ">8", ">10", "<"
        )
        return f"{table}\nsparsity of what is not skipped: {self.sparsity:.2%}"


def _cells(row: WeightRow) -> tuple[str, ...]:
    status = filter(None, (row.status, ", ".join(row.methods), row.reason))
    distinct = "" if row.distinct is None else f"{row.distinct:,}"
    numbers = (f"{row.zeros:,}", f"{row.sparsity:.2%}", distinct)
    return row.path, str(row.shape), *numbers, ": ".join(status)


def sparsity_report(model: keras.Model) -> SparsityReport:
    """Count zeros and distinct values of every weight; say why one was skipped.

    Args:
        model: A built model: compressed, stripped or never compressed.

    Returns:
        One row for each weight; in a compressed model the values counted are those
        of the model that `strip` would give.

    Raises:
        ValueError: If `model` is not a built Keras model or layer.
    """
    if not isinstance(model, keras.layers.Layer) or not model.built:
        raise ValueError(
            "`model` must be a built Keras model, got "
            f"{getattr(model, 'name', model)!r}. Call it on a batch first."
        )
    engines = [e for e in all_layers(model) if isinstance(e, TransformEngine)]
    values: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for engine in engines:
        if engine.built:
            values |= engine.transformed_values()
            skipped |= engine.skipped_weights()
    if not isinstance(model, TransformEngine) and not values:
        return _plain_report(model)
    inner = model._inner() if isinstance(model, TransformEngine) else model
    transforms = [transform for engine in engines for transform in engine.transforms]
    state = [v for transform in transforms for v in transform.weights]
    added = {id(v) for v in (*state, *(engine.step for engine in engines))}
    rows = []
    for variable in inner.weights:
        if id(variable) not in added:
            path = variable.path
            methods = [t.display_name for t in transforms if path in t.weights_by_path]
            reason = "" if path in values else skipped.get(path, "not compressed")
            status = "compressed" if path in values else "skipped"
            value = values.get(path, variable.value)
            rows.append(_row(path, value, status, reason, tuple(methods)))
    return SparsityReport(rows=tuple(rows))


def _plain_report(model: keras.layers.Layer) -> SparsityReport:
    try:
        selection = select_weights(model)
        chosen = {weight.path for weight in selection.chosen}
        reasons = selection.skipped
    except UnsupportedModelError:
        chosen, reasons = set(), {}
    rows = []
    for variable in model.weights:
        status = "compressible" if variable.path in chosen else "skipped"
        reason = reasons.get(variable.path, "") if status == "skipped" else ""
        rows.append(_row(variable.path, variable.value, status, reason))
    return SparsityReport(rows=tuple(rows))


def _row(
    path: str, value: Any, status: str, reason: str, methods: tuple[str, ...] = ()
) -> WeightRow:
    array = ops.convert_to_numpy(ops.cast(value, "float32"))
    return WeightRow(
        path=path,
        shape=tuple(array.shape),
        zeros=int(array.size - np.count_nonzero(array)),
        distinct=int(np.unique(array).size),
        status=status,
        reason=reason,
        methods=methods,
    )
