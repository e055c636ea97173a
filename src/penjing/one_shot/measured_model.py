"""A copy of a model, with what flows into its layers and what errors there cost."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.models.selection import SelectedWeight
from penjing.one_shot.input_moments import (
    InputMoments,
    bytes_of,
    collect_moments,
    count_lookups,
    in_order_of_calls,
    in_turns,
)
from penjing.one_shot.layer_compression import (
    CompressedMatrix,
    Factors,
    LayerInputs,
    factors_of,
)
from penjing.one_shot.layer_rows import LayerRows, find_rows
from penjing.one_shot.output_change import output_change, outputs_of
from penjing.one_shot.weight_matrix import Array, read_matrix, write_matrix
from penjing.progress import Listener, Progress

_FEWEST_SAMPLES = 2  # by which a layer's effect at the outputs is measured
_MOST_SAMPLES = 128
_FACTORS_SHARE = 3  # of the memory for sums, one part for factors of them

Turn = tuple[Sequence[SelectedWeight], Callable[[str], LayerInputs | None]]


class MeasuredModel:
    """A model that may be changed, and batches of inputs to look at it with.

    Attributes:
        model: The model; its layers are watched while it runs on the batches.
        weights: Those that are compressed.
        views: By path, how the input of a weight's layer becomes rows.
        reasons: By path, why nothing is known of a weight's inputs.
        lookups: By path, how often the batches look up each row of an embedding.
    """

    def __init__(
        self,
        model: keras.Model,
        weights: Sequence[SelectedWeight],
        batches: Sequence[Any],
        *,
        damping: float,
        max_memory: int,
        listen: Listener,
    ) -> None:
        self.model, self.weights, self.batches = model, tuple(weights), batches
        self.views: dict[str, LayerRows] = {}
        self.reasons: dict[str, str] = {}
        self.lookups = count_lookups(model, self.weights, batches)
        self._damping, self._max_memory, self._listen = damping, max_memory, listen
        self._kept: dict[str, InputMoments] | None = None
        self._factors: dict[str, Factors] = {}  # of what is kept
        for weight in self.weights if batches else ():
            found = find_rows(weight)
            if isinstance(found, str):
                self.reasons[weight.path] = found
            else:
                self.views[weight.path] = found

    def turns(self) -> Iterator[Turn]:
        """Weights, some at a time, with what is known of their inputs.

        Those of which nothing is known come first. What all inputs say is kept where
        the memory allows it.
        """
        unseen = [w for w in self.weights if w.path not in self.views]
        if unseen:
            yield unseen, _unknown
        views = list(self.views.values())
        turns = list(in_turns(views, self._max_memory))
        for turn in turns:
            moments = self._kept or self._collected(turn)
            if len(turns) == 1:
                self._kept = moments
            yield self._turn(turn, moments)

    def turns_in_sequence(self) -> Iterator[Turn]:
        """As `turns`, each collected when all before it were compressed.

        Layers that read the same come together.
        """
        seen: list[tuple[LayerRows, InputMoments]] = []
        views = list(self.views.values())
        if sum(map(bytes_of, views)) > self._max_memory:
            views = in_order_of_calls(self.model, views, self.batches[0])
        for turn in in_turns(views, self._max_memory):
            moments = self._collected(turn)
            known = [(view, moments.get(view.weight.path)) for view in turn]
            # The sums of rows tell inputs apart; the products would take the memory.
            order = len(seen)  # each collection counts calls from 0
            seen += [
                (
                    view,
                    dataclasses.replace(found, products=0.0, order=order + found.order),
                )
                for view, found in known
                if found is not None
            ]
        called = {view.weight.path for view, _ in seen}
        unseen = [w for w in self.weights if w.path not in called]
        if unseen:
            yield unseen, _unknown
        for group in _by_inputs(seen):
            yield self._turn(group, self._collected(group))

    def _turn(
        self, views: Sequence[LayerRows], moments: Mapping[str, InputMoments]
    ) -> Turn:
        def inputs_of(path: str) -> LayerInputs | None:
            known = moments.get(path)
            if known is None or not known.count:
                return None
            centred = self.views[path].bias is not None
            found = LayerInputs.from_moments(known, self._damping, centred=centred)
            if moments is not self._kept:
                return found
            factored = functools.partial(self._factored, path)
            return dataclasses.replace(found, factored=factored)

        return [view.weight for view in views], inputs_of

    def _factored(self, path: str, products: Array, damping: float) -> Factors:
        """Factors, which are remembered as far as there is room beside the sums."""
        if path in self._factors:
            return self._factors[path]
        found = factors_of(products, damping)
        known = [*self._factors.values(), found]
        taken = sum(factor.upper.nbytes for factors in known for factor in factors)
        if _FACTORS_SHARE * taken <= self._max_memory:
            self._factors[path] = found
        return found

    def _collected(self, views: Sequence[LayerRows]) -> dict[str, InputMoments]:
        def told(done: int) -> None:
            total = len(self.batches)
            self._listen(Progress(stage="Collecting inputs", done=done, total=total))

        found, reasons = collect_moments(self.model, views, self.batches, told)
        self.reasons.update(reasons)
        for path in (view.weight.path for view in views):
            if path not in found:
                self.reasons.setdefault(path, "its layer was never called")
            elif not found[path].count:
                self.reasons.setdefault(path, "nothing flows into it, or padding alone")
        return found

    def write(self, weight: SelectedWeight, result: CompressedMatrix) -> None:
        """Give a weight its new values, and the layer's bias what it gains by them."""
        write_matrix(weight, result.values)
        bias = self._bias_of(weight)
        if bias is not None and result.shift is not None:
            values = ops.convert_to_numpy(ops.cast(bias.value, "float32"))
            shift = result.shift.reshape(values.shape).astype("float32")
            bias.assign(values + shift)

    def _bias_of(self, weight: SelectedWeight) -> Any:
        view = self.views.get(weight.path)
        return None if view is None else view.bias

    def effects_at_outputs(self) -> Callable[[SelectedWeight, CompressedMatrix], float]:
        """What measures the change of the outputs where one weight alone is changed.

        Few samples do: so many that all layers together cost about as much as the
        collection of their inputs.
        """
        samples = sum(len(keras.tree.flatten(batch)[0]) for batch in self.batches)
        count = -(-samples // max(len(self.weights), 1))
        count = min(max(count, _FEWEST_SAMPLES), _MOST_SAMPLES)
        batches = _first_samples(self.batches, count)
        before = outputs_of(self.model, batches)

        def effect(weight: SelectedWeight, result: CompressedMatrix) -> float:
            own, bias = read_matrix(weight), self._bias_of(weight)
            added = None if bias is None else np.array(ops.convert_to_numpy(bias.value))
            self.write(weight, result)
            try:
                return output_change(before, outputs_of(self.model, batches))
            finally:
                write_matrix(weight, own)
                if bias is not None:
                    bias.assign(added)

        return effect


def _unknown(path: str) -> None:
    """Nothing is known of any weight's inputs."""


def _by_inputs(
    seen: Sequence[tuple[LayerRows, InputMoments]],
) -> Iterator[list[LayerRows]]:
    """Layers in the order of their calls; those that read the same come together."""
    group: list[LayerRows] = []
    last: InputMoments | None = None
    for view, moments in sorted(seen, key=lambda item: item[1].order):
        if last is not None and not np.array_equal(moments.totals, last.totals):
            yield group
            group = []
        group.append(view)
        last = moments
    if group:
        yield group


def _first_samples(batches: Sequence[Any], count: int) -> list[Any]:
    """Some samples of each batch, `count` in all or a few more, in batches as large.

    Batches whose samples have other shapes stay apart.
    """
    share = -(-count // len(batches))
    first = [
        keras.tree.map_structure(lambda a: a[:share], batch)
        for batch in batches[: -(-count // share)]
    ]
    together = max(len(keras.tree.flatten(batches[0])[0]) // share, 1)
    alike: dict[Any, list[Any]] = {}
    for part in first:
        shapes = tuple(array.shape[1:] for array in keras.tree.flatten(part))
        alike.setdefault(shapes, []).append(part)
    return [
        keras.tree.map_structure(lambda *a: np.concatenate(a), *parts[i : i + together])
        for parts in alike.values()
        for i in range(0, len(parts), together)
    ]
