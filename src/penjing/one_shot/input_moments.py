"""Products of what flows into layers, summed up while the model runs."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.engine.batch_statistics import run_on_data
from penjing.errors import DataError
from penjing.models.keras_private import all_layers, call_signature
from penjing.models.lending import watched_calls
from penjing.models.selection import SelectedWeight
from penjing.numerics import Tensor
from penjing.one_shot.layer_rows import LayerRows

_ROWS_OF_INPUT = 16  # so many rows for each input tell enough
_FEWEST_ROWS = 8192
_SPARE = 2  # times as many are worth drawing from
_MASKING = (keras.layers.Embedding, keras.layers.Masking)  # they make masks
INSIDE = "its inputs are known inside a compiled loop alone"


@dataclasses.dataclass(kw_only=True, eq=False)
class InputMoments:
    """Sums over the rows that one weight is multiplied by.

    Attributes:
        products: `x^T x` for each group, `(groups, inputs, inputs)` in float32.
        totals: The sum of the rows, `(groups, inputs)` in float64.
        count: How many rows there were.
        order: The weight was the so-manyth to be seen.
    """

    products: Any = 0.0
    totals: Any = 0.0
    count: int = 0
    order: int = 0


def bytes_of(rows: LayerRows) -> int:
    """What the moments of a weight take."""
    return 4 * rows.groups * rows.inputs**2


def in_turns(
    views: Sequence[LayerRows], max_memory: int
) -> Iterator[Sequence[LayerRows]]:
    """Weights in the order given, as many at a time as the memory allows."""
    turn: list[LayerRows] = []
    for view in views:
        if turn and sum(map(bytes_of, [*turn, view])) > max_memory:
            yield turn
            turn = []
        turn.append(view)
    if turn:
        yield turn


def collect_moments(
    model: keras.Model,
    views: Iterable[LayerRows],
    batches: Sequence[Any],
    told: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, InputMoments], dict[str, str]]:
    """Run a model on batches of inputs; by path the moments, or why there are none.

    The model should be a copy of the user's: its layers are watched. Rows of padding do
    not count where the model gives masks. Of convolutions on many places some are
    drawn, the same every time. `told` hears how many batches are done. Inputs that are
    not finite are a DataError.
    """
    watch = _Watch(views, len(batches))
    masking = [layer for layer in all_layers(model) if isinstance(layer, _MASKING)]
    with watched_calls([*watch.layers(), *masking], watch.told):
        for number, batch in enumerate(batches):
            told(number)
            watch.note_padding(batch)
            try:
                run_on_data(model, batch, "calibration_data")
            except DataError:
                if watch.failure is not None:  # the data is not to blame
                    raise watch.failure from None
                raise
            watch.forget()
    for path, moments in watch.found.items():
        if not np.isfinite(moments.totals).all():
            raise DataError(
                f"What flows into {path!r} is NaN or infinite on `calibration_data`. "
                "Check the data and the weights of the model."
            )
    return watch.found, watch.reasons


def count_lookups(
    model: keras.Model, weights: Iterable[SelectedWeight], batches: Sequence[Any]
) -> dict[str, np.ndarray[Any, Any]]:
    """How often inputs look up each row of the embeddings among some weights, by path.

    The first batch tells how often each is called in one, others run no longer than
    that. Padding does not count. Tables whose rows are outputs too, and those of which
    nothing is known, are left out.
    """
    tables = {
        id(w.layer): w
        for w in weights
        if isinstance(w.layer, keras.layers.Embedding)
        and "reverse" not in call_signature(w.layer).parameters
    }
    found = {w.path: np.zeros(w.matrix_shape[0]) for w in tables.values()}
    calls, most = 0, math.inf

    def note(layer: Any, inputs: Any, outputs: Any) -> None:
        nonlocal calls
        calls += 1
        counts = found[tables[id(layer)].path]
        with contextlib.suppress(_NoValueError):
            rows = _unmasked(layer, inputs, batch).astype("int64")
            rows = rows[(rows >= 0) & (rows < len(counts))]
            counts += np.bincount(rows, minlength=len(counts))
        if calls == most:
            raise _EnoughError

    with watched_calls([weight.layer for weight in tables.values()], note):
        for batch in batches if tables else ():
            calls = 0
            try:
                run_on_data(model, batch, "calibration_data")
            except DataError:
                if calls < most:
                    raise
            most = calls
    return {path: counts for path, counts in found.items() if counts.any()}


def _unmasked(layer: Any, inputs: Any, batch: Any) -> np.ndarray[Any, Any]:
    """Rows that are looked up, but for those of padding where that is told."""
    rows = _known(inputs)
    mask = layer.compute_mask(inputs)
    if mask is not None:
        return np.asarray(rows[_known(mask).astype(bool)])
    if isinstance(batch, Mapping) and "padding_mask" in batch:
        given = np.asarray(batch["padding_mask"]).astype(bool)
        if given.shape == rows.shape:
            return np.asarray(rows[given])
    return rows.ravel()


class _EnoughError(Exception):
    """All is known that a run is for."""


def in_order_of_calls(
    model: keras.Model, views: Iterable[LayerRows], batch: Any
) -> list[LayerRows]:
    """Weights in the order in which a model calls their layers on a batch of inputs.

    Those that it does not call come last.
    """
    views = list(views)
    order: dict[int, int] = {}

    def note(layer: Any, inputs: Any, outputs: Any) -> None:
        order.setdefault(id(layer), len(order))

    with watched_calls([view.weight.layer for view in views], note):
        run_on_data(model, batch, "calibration_data")
    return sorted(views, key=lambda v: order.get(id(v.weight.layer), len(order)))


class _Watch:
    def __init__(self, views: Iterable[LayerRows], batches: int) -> None:
        self.found: dict[str, InputMoments] = {}
        self.reasons: dict[str, str] = {}
        self.failure: Exception | None = None
        self._views: dict[int, list[LayerRows]] = {}
        for view in views:
            self._views.setdefault(id(view.weight.layer), []).append(view)
        self._batches = batches
        self._masks = _MaskReader(autocast=False, dtype="float32")
        self._last: tuple[Any, Any, tuple[Any, Any, int]] | None = None
        self._padding: dict[tuple[int, ...], list[np.ndarray[Any, Any]]] = {}

    def layers(self) -> list[Any]:
        return [views[0].weight.layer for views in self._views.values()]

    def forget(self) -> None:
        """Let go of what belongs to one batch."""
        self._last = None
        self._padding = {}

    def note_padding(self, batch: Any) -> None:
        """Take the mask that is an input of the model, by its usual name."""
        if isinstance(batch, Mapping) and "padding_mask" in batch:
            self._keep_mask(np.asarray(batch["padding_mask"]).astype(bool))

    def _keep_mask(self, mask: np.ndarray[Any, Any]) -> None:
        known = self._padding.setdefault(mask.shape, [])
        if not any(np.array_equal(mask, other) for other in known):
            known.append(mask)

    def told(self, layer: Any, inputs: Any, outputs: Any) -> None:
        """Note a call; what fails here is kept apart from what fails in the model."""
        try:
            self._note(layer, inputs, outputs)
        except Exception as error:
            self.failure = error
            raise

    def _note(self, layer: Any, inputs: Any, outputs: Any) -> None:
        if isinstance(layer, _MASKING):
            mask = layer.compute_mask(inputs)
            with contextlib.suppress(_NoValueError):
                if mask is not None:
                    self._keep_mask(_known(mask).astype(bool))
        for view in self._views.get(id(layer), ()):
            path = view.weight.path
            try:
                products, totals, count = self._sums(view, inputs, outputs)
            except _NoValueError:
                self.reasons[path] = INSIDE
                self.found.pop(path, None)
                continue
            if path not in self.reasons:
                self._add(path, products, totals, count)

    def _add(self, path: str, products: Any, totals: Any, count: int) -> None:
        known = InputMoments(order=len(self.found))
        moments = self.found.setdefault(path, known)
        if moments.count:
            moments.products += products
        else:
            moments.products = np.array(products)
        moments.totals = moments.totals + totals
        moments.count += count

    def _sums(self, view: LayerRows, inputs: Any, outputs: Any) -> tuple[Any, Any, int]:
        """Sums over one input, which three layers of attention share."""
        last = self._last
        if last is not None and last[0] is inputs and last[1] == view.key:
            return last[2]
        if None in tuple(inputs.shape):
            raise _NoValueError
        part = self._few_samples(view, inputs, outputs)
        rows = ops.cast(view.rows(part), "float32")
        rows = self._drawn(view, self._without_padding(view, inputs, rows))
        places = ops.transpose(rows, (1, 0, 2))
        products = ops.matmul(ops.transpose(rows, (1, 2, 0)), places)
        sums = (_known(products), _known(ops.sum(places, axis=1)).astype("float64"))
        found = (*sums, int(rows.shape[0]))
        self._last = (inputs, view.key, found)
        return found

    def _few_samples(self, view: LayerRows, inputs: Any, outputs: Any) -> Any:
        """Samples of a batch with more than enough places: patches take long."""
        places = math.prod(outputs.shape[1:]) // view.weight.matrix_shape[1]
        if not view.has_patches or not places:
            return inputs
        return inputs[: max(-(-_SPARE * self._wanted(view) // places), 1)]

    def _without_padding(self, view: LayerRows, inputs: Any, rows: Tensor) -> Tensor:
        """`(samples, places, groups, inputs)` -> those that count, in one axis."""
        samples, places, groups, size = rows.shape
        flat = ops.reshape(rows, (samples * places, groups, size))
        mask = self._mask_of(view, inputs)
        if mask is None or mask.ndim != 2 or places % mask.shape[1]:
            return flat
        every = np.repeat(mask[:samples], places // mask.shape[1], axis=1)
        return ops.take(flat, np.flatnonzero(every), axis=0)

    def _mask_of(self, view: LayerRows, inputs: Any) -> np.ndarray[Any, Any] | None:
        """The mask of an input, or the only one of its tokens that the model made.

        Attention takes the mask off what flows through it. Images have no tokens.
        """
        mask = self._masks.mask_of(inputs)
        is_image = view.has_patches and len(inputs.shape) > 3
        if mask is not None or is_image or len(inputs.shape) < 3:
            return mask
        others = self._padding.get(tuple(inputs.shape[:2]), [])
        return others[0] if len(others) == 1 else None

    def _drawn(self, view: LayerRows, rows: Tensor) -> Tensor:
        wanted = self._wanted(view)
        count = int(rows.shape[0])
        if count <= _SPARE * wanted:
            return rows
        known = self.found.get(view.weight.path)
        generator = np.random.default_rng(known.count if known else 0)
        places = np.sort(generator.choice(count, wanted, replace=False))
        return ops.take(rows, places, axis=0)

    def _wanted(self, view: LayerRows) -> int:
        """Rows of one batch that are enough."""
        enough = max(_ROWS_OF_INPUT * view.inputs, _FEWEST_ROWS)
        return -(-enough // self._batches)


class _NoValueError(Exception):
    """A tensor has no value yet."""


def _known(tensor: Tensor) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(ops.convert_to_numpy(tensor))
    except Exception as error:
        raise _NoValueError from error


class _MaskReader(keras.layers.Layer):
    """Keras gives a layer the mask of its input; this one keeps it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self._seen: list[Any] = []

    def mask_of(self, x: Any) -> np.ndarray[Any, Any] | None:
        """Which tokens of an input are no padding; None where that is not given."""
        self._seen = []
        self(x)
        (mask,) = self._seen
        return None if mask is None else _known(mask).astype(bool)

    def call(self, x: Any, mask: Any = None) -> Any:
        """Keep the mask."""
        self._seen = [mask]
        return x
