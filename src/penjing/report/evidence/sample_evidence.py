"""Test samples on which baseline and result differ, and the confusion that changed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.data.batches import leaves, to_batches
from penjing.errors import DataError
from penjing.measurement.accuracy import open_model
from penjing.report.evidence.sample_pictures import describe_input
from penjing.report.evidence.stored_weights import Array
from penjing.report.evidence_rows import ConfusionRow, ExampleRow

MAX_SAMPLES = 2000
MAX_EXAMPLES = 12
_MAX_CONFUSIONS = 16
_BATCH = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleEvidence:
    """What samples show; nothing where they could not be compared."""

    examples: tuple[ExampleRow, ...] = ()
    confusion: tuple[ConfusionRow, ...] = ()
    samples: int = 0
    turned_wrong: int | None = None
    turned_right: int | None = None

    def rows(self) -> dict[str, Any]:
        """The fields of an `Evidence` that are known here."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


def compare_samples(
    baseline: keras.Model,
    file: Path,
    test: Any,
    class_names: Sequence[str] | None = None,
) -> SampleEvidence:
    """Run both on the first test samples, and show where they differ.

    Raises:
        DataError: If outputs or labels are of a form that cannot be shown, as several
            outputs.
    """
    x, labels, before, after = _run(baseline, file, test)
    if _are_classes(labels, before) or _is_one_hot(labels):
        return _of_classes(x, labels, before, after, class_names)
    if before.shape != after.shape or labels.size != before.size:
        raise DataError("labels and outputs are neither classes nor single numbers")
    return _of_numbers(x, *(a.reshape(len(a), -1) for a in (labels, before, after)))


def _run(
    baseline: keras.Model, file: Path, test: Any
) -> tuple[Array, Array, Array, Array]:
    """The first inputs, labels, and outputs of both."""
    x, y = test if isinstance(test, tuple) else (test, None)
    if isinstance(test, tuple):
        x, y = keras.tree.map_structure(lambda array: array[:MAX_SAMPLES], (x, y))
    predictors = [open_model(model, _BATCH)[1] for model in (baseline, file)]
    found: list[list[Array]] = [[], [], [], []]
    for inputs, batch_labels, _ in to_batches(x, y, _BATCH).stream:
        parts = [batch_labels, *(predict(inputs) for predict in predictors)]
        for place, part in enumerate([[leaves(inputs)[0]], *map(leaves, parts)]):
            if len(part) != 1:
                raise DataError("the model has several outputs")
            found[place].append(np.asarray(keras.ops.convert_to_numpy(part[0])))
        if sum(map(len, found[1])) >= MAX_SAMPLES:
            break
    whole = [np.concatenate(parts)[:MAX_SAMPLES] for parts in found]
    return whole[0], whole[1], whole[2], whole[3]


def _are_classes(labels: Array, outputs: Array) -> bool:
    """Whether labels are class numbers; beside one output they are 0 and 1 then."""
    if labels.shape[1:] not in ((), (1,)) or labels.dtype.kind not in "biu":
        return False
    single = math.prod(outputs.shape[1:]) == 1
    return not single or bool(np.isin(labels, (0, 1)).all())


def _is_one_hot(labels: Array) -> bool:
    return (
        labels.ndim == 2
        and labels.shape[1] > 1
        and bool(np.all((labels == 0) | (labels == 1)))
        and bool(np.all(labels.sum(axis=1) == 1))
    )


def _classes(outputs: Array, count: int) -> Array:
    """The class that outputs stand for: the largest, or one of two by a threshold."""
    outputs = outputs.reshape(count, -1) if outputs.ndim < 3 else outputs
    if outputs.ndim != 2:
        raise DataError(f"outputs of shape {outputs.shape[1:]} are no classes")
    if outputs.shape[1] > 1:
        return np.asarray(np.argmax(outputs, axis=1))
    is_share = outputs.min() >= 0 and outputs.max() <= 1
    return (outputs[:, 0] > (0.5 if is_share else 0.0)).astype(int)


def _of_classes(
    x: Array,
    labels: Array,
    before: Array,
    after: Array,
    class_names: Sequence[str] | None,
) -> SampleEvidence:
    count = len(labels)
    one_hot = labels.ndim == 2 and labels.shape[1] > 1
    true = np.argmax(labels, 1) if one_hot else labels.reshape(count).astype(int)
    first, last = _classes(before, count), _classes(after, count)

    def named(label: Any) -> str:
        known = class_names is not None and 0 <= int(label) < len(class_names)
        return class_names[int(label)] if known and class_names else str(int(label))

    wrong = np.flatnonzero((first == true) & (last != true))
    right = np.flatnonzero((first != true) & (last == true))
    worse, better = _shares(wrong, right)
    shown = (("worse", wrong[:worse]), ("better", right[:better]))
    examples = tuple(
        ExampleRow(
            index=int(place),
            label=named(true[place]),
            before=named(first[place]),
            after=named(last[place]),
            change=change,
            **describe_input(x, int(place)),
        )
        for change, places in shown
        for place in places
    )
    return SampleEvidence(
        examples=examples,
        confusion=_confusion(true, first, last, named),
        samples=count,
        turned_wrong=len(wrong),
        turned_right=len(right),
    )


def _shares(wrong: Array, right: Array) -> tuple[int, int]:
    """How many of both are shown: of those that became wrong two thirds, or fewer."""
    most = MAX_EXAMPLES * 2 // 3
    better = min(len(right), MAX_EXAMPLES - min(len(wrong), most))
    return min(len(wrong), MAX_EXAMPLES - better), better


def _confusion(true: Array, first: Array, last: Array, named: Any) -> tuple[Any, ...]:
    """Pairs of classes whose counts changed most."""
    size = int(max(true.max(), first.max(), last.max())) + 1
    counts = [
        np.unique(true * size + guess, return_counts=True) for guess in (first, last)
    ]
    before, after = (dict(zip(*map(np.ndarray.tolist, c), strict=True)) for c in counts)
    pairs = {
        pair: after.get(pair, 0) - before.get(pair, 0) for pair in {*before, *after}
    }
    changed = [pair for pair, change in pairs.items() if change]
    changed.sort(key=lambda pair: (-abs(pairs[pair]), pair))
    return tuple(
        ConfusionRow(
            label=named(pair // size),
            taken_for=named(pair % size),
            before=before.get(pair, 0),
            after=after.get(pair, 0),
        )
        for pair in changed[:_MAX_CONFUSIONS]
    )


def _of_numbers(x: Array, labels: Array, before: Array, after: Array) -> SampleEvidence:
    """Samples whose errors grew most, and shrank most."""
    errors = [np.abs(part - labels).mean(axis=1) for part in (before, after)]
    growth = np.where(np.isfinite(errors[1]), errors[1] - errors[0], np.inf)
    order = np.argsort(-growth, kind="stable")
    places = [*order[: MAX_EXAMPLES * 2 // 3], *order[::-1][: MAX_EXAMPLES // 3]]
    examples = tuple(
        ExampleRow(
            index=int(place),
            label=_number(labels[place]),
            before=_number(before[place]),
            after=_number(after[place]),
            change="worse" if growth[place] > 0 else "better",
            **describe_input(x, int(place)),
        )
        for place in dict.fromkeys(places)
        if growth[place]
    )
    return SampleEvidence(examples=examples, samples=len(labels))


def _number(values: Array) -> str:
    shown = ", ".join(f"{float(value):.4g}" for value in values[:4])
    return shown + (", ..." if len(values) > 4 else "")
