"""Which weights of a model are compressed, and why the others are not."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from penjing.arguments import did_you_mean, quoted
from penjing.errors import UnsupportedModelError
from penjing.models.copying import name_apart
from penjing.models.keras_private import all_layers, own_variables, stored_variable
from penjing.models.layer_specs import WeightSpec, find_weight_specs
from penjing.numerics import Tensor

Entry: TypeAlias = str | keras.layers.Layer
Filter: TypeAlias = Entry | Sequence[Entry] | None
Obstacle: TypeAlias = Callable[["SelectedWeight"], str | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectedWeight:
    """A weight that is compressed, and how it is seen as a matrix.

    Its path is Keras', its name in penjing. `output_axes` are non-negative.
    """

    path: str
    variable: Any
    layer: keras.layers.Layer
    output_axes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the variable."""
        return tuple(self.variable.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def input_axes(self) -> tuple[int, ...]:
        """Axes that index inputs, the input channel last."""
        return tuple(i for i in range(len(self.shape)) if i not in self.output_axes)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Shape of the `(inputs, outputs)` view."""
        columns = int(np.prod([self.shape[i] for i in self.output_axes]))
        return self.size // columns, columns

    @property
    def input_channels(self) -> int:
        """Length of the innermost input axis."""
        return self.shape[self.input_axes[-1]] if self.input_axes else 1

    def to_matrix(self, values: Tensor) -> Tensor:
        """Values in the variable's shape -> `(inputs, outputs)`."""
        order = self.input_axes + self.output_axes
        return ops.reshape(ops.transpose(values, order), self.matrix_shape)

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """`(inputs, outputs)` -> the variable's shape; undoes `to_matrix`."""
        order = self.input_axes + self.output_axes
        values = ops.reshape(matrix, [self.shape[i] for i in order])
        return ops.transpose(values, np.argsort(order).tolist())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Weights to compress, in the model's order, and by path why others are skipped."""

    chosen: tuple[SelectedWeight, ...]
    skipped: dict[str, str]


def select_weights(
    model: keras.layers.Layer,
    include: Filter = None,
    exclude: Filter = None,
    obstacle: Obstacle | None = None,
    *,
    spare: bool = True,
    frozen: bool = False,
) -> Selection:
    """Divide the weights of a built model or layer into chosen and skipped.

    Args:
        model: A built Keras model or layer.
        include: Weights to compress: layer objects, or patterns such as
            `"*/dense_1/kernel"` or `"conv*"` that are matched against weight paths,
            layer paths and layer names. `None`: every compressible weight.
        exclude: Weights to leave whole, in the same form; wins over `include`.
        obstacle: Gives the reason why a method cannot take a weight, or `None`.
        spare: Leave the weights whole that the table spares unless they are named.
        frozen: Take those too that do not train, where the table has them.

    Raises:
        UnsupportedModelError: If a pattern matches nothing, a named weight cannot be
            compressed, two weights share a path or nothing is left to compress.
    """
    name_apart(model)
    included, excluded = _Matcher("include", include), _Matcher("exclude", exclude)
    chosen, skipped = [], {}
    for path, variable, layer, spec in _walk(model):
        named = included.matches(path, layer)
        barred = excluded.matches(path, layer)
        weight = _selected_weight(path, variable, layer, spec)
        reason = _skip_reason(
            variable,
            layer,
            spec,
            named=named and (include is not None or not spare),
            frozen=frozen,
        )
        if barred:
            reason = "excluded"
        elif not named:
            reason = reason or "not included"
        elif reason is None and weight is not None and obstacle is not None:
            reason = obstacle(weight)
        if reason is None and weight is not None:
            chosen.append(weight)
        else:
            skipped[path] = reason or "not compressible"
    included.check_all_used(chosen, skipped)
    excluded.check_all_matched()
    _check_chosen(model, chosen, skipped)
    return Selection(chosen=tuple(chosen), skipped=skipped)


def find_weights(
    model: keras.layers.Layer, paths: Sequence[str]
) -> tuple[SelectedWeight, ...]:
    """Weights of a built model by the paths of an earlier selection, in their order.

    A path that the model does not have is an UnsupportedModelError.
    """
    found = {}
    for path, variable, layer, spec in _walk(model):
        weight = _selected_weight(path, variable, layer, spec)
        if weight is not None:
            found[path] = weight
    missing = [path for path in paths if path not in found]
    if missing:
        raise UnsupportedModelError(
            f"The model {model.name!r} has no compressible weight {missing[0]!r}. It "
            f"has {quoted(found, limit=8)}. Was its architecture changed after it was "
            "compressed?"
        )
    return tuple(found[path] for path in paths)


def matches_layer(layer: keras.layers.Layer, path: str, filters: Filter) -> bool:
    """Whether a weight, named by its layer and path, is matched by `filters`."""
    return _Matcher("filters", filters).matches(path, layer)


def check_all_match(model: keras.layers.Layer, filters: Filter, argument: str) -> None:
    """Refuse filters of which one matches no weight at all, compressible or not.

    The UnsupportedModelError calls them `argument`.
    """
    name_apart(model)
    matcher = _Matcher(argument, filters)
    for path, _, layer, _ in _walk(model):
        matcher.matches(path, layer)
    matcher.check_all_matched()


def _walk(
    model: keras.layers.Layer,
) -> Iterator[tuple[str, Any, keras.layers.Layer, WeightSpec | None]]:
    """Path, variable, owner and spec of every weight of a model, each once."""
    owners: dict[int, tuple[keras.layers.Layer, WeightSpec | None]] = {}
    layers = all_layers(model)
    for layer in layers:
        for spec in find_weight_specs(layer):
            variable = stored_variable(layer, spec.attribute)
            if variable is not None:
                owners.setdefault(id(variable), (layer, spec))
    for layer in layers:  # some hold weights of others, as SpectralNormalization does
        for variable in own_variables(layer):
            owners.setdefault(id(variable), (layer, None))
    for variable in model.weights:
        yield variable.path, variable, *owners.get(id(variable), (model, None))


def _selected_weight(
    path: str, variable: Any, layer: keras.layers.Layer, spec: WeightSpec | None
) -> SelectedWeight | None:
    if spec is None:
        return None
    rank = len(variable.shape)
    axes = spec.output_axes
    if isinstance(layer, keras.layers.EinsumDense):
        axes = _einsum_output_axes(layer.equation)
    return SelectedWeight(
        path=path,
        variable=variable,
        layer=layer,
        output_axes=tuple(sorted(axis % rank for axis in axes)),
    )


def _einsum_output_axes(equation: str) -> tuple[int, ...]:
    """Axes of an EinsumDense kernel that its output shows and its input does not."""
    operands, output = equation.replace("...", "").replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    axes = tuple(
        i for i, name in enumerate(kernel) if name in output and name not in inputs
    )
    return axes or (len(kernel) - 1,)


def _skip_reason(
    variable: Any,
    layer: keras.layers.Layer,
    spec: WeightSpec | None,
    *,
    named: bool,
    frozen: bool,
) -> str | None:
    if not variable.trainable and (spec is None or not frozen):
        return "frozen: it does not train"
    if spec is None and len(variable.shape) < 2:
        return "a bias, a scale or another vector"
    if spec is None:
        return (
            f"the table has no {type(layer).__name__}.{variable.name}; "
            "penjing.register_layer_spec adds it"
        )
    if not keras.backend.is_float_dtype(str(variable.dtype)):
        return f"its type is {variable.dtype}, not a float"
    if 0 in variable.shape:
        return f"it holds no values: its shape is {tuple(variable.shape)}"
    if spec.skip_reason is not None and not named:
        return spec.skip_reason
    return None


def _check_chosen(
    model: keras.layers.Layer,
    chosen: Sequence[SelectedWeight],
    skipped: dict[str, str],
) -> None:
    if not chosen:
        reasons = "; ".join(f"{path}: {why}" for path, why in list(skipped.items())[:5])
        raise UnsupportedModelError(
            f"The model {model.name!r} has no weight to compress. "
            f"{reasons or 'It has no weights at all'}."
        )
    seen: set[str] = set()
    for weight in chosen:
        if weight.path in seen:
            raise UnsupportedModelError(
                f"Two weights of the model {model.name!r} share the path "
                f"{weight.path!r}, so neither can be named. Give their layers "
                "different names."
            )
        seen.add(weight.path)


class _Matcher:
    """Matches weights against the filters of one argument, and remembers which did."""

    def __init__(self, argument: str, filters: Filter) -> None:
        self.argument = argument
        self.filters = None if filters is None else filter_entries(filters, argument)
        self.names: list[str] = []
        self.hits: dict[int, list[str]] = {}

    def matches(self, path: str, layer: keras.layers.Layer) -> bool:
        if self.filters is None:
            return self.argument == "include"
        self.names += [path, layer.name]
        matched = False
        for i, entry in enumerate(self.filters):
            if self._match(entry, path, layer):
                self.hits.setdefault(i, []).append(path)
                matched = True
        return matched

    @staticmethod
    def _match(entry: Any, path: str, layer: keras.layers.Layer) -> bool:
        if isinstance(entry, keras.layers.Layer) and entry.weights:
            return any(path == variable.path for variable in entry.weights)
        if isinstance(entry, keras.layers.Layer):
            return entry.name in path.split("/")[:-1]
        names = (path, path.rpartition("/")[0], layer.name, *path.split("/"))
        return any(name == entry or fnmatch.fnmatchcase(name, entry) for name in names)

    def check_all_matched(self) -> None:
        for i, entry in enumerate(self.filters or ()):
            if i not in self.hits:
                name = entry_name(entry)
                raise UnsupportedModelError(
                    f"`{self.argument}` names {name!r}, which matches no weight of the "
                    f"model.{did_you_mean(name, self.names, cutoff=0.4)} It has "
                    f"{quoted(dict.fromkeys(self.names), limit=8)}."
                )

    def check_all_used(
        self, chosen: Sequence[SelectedWeight], skipped: dict[str, str]
    ) -> None:
        """A layer that the user named and that cannot be compressed raises."""
        self.check_all_matched()
        used = {weight.path for weight in chosen}
        for i, paths in self.hits.items():
            if used.isdisjoint(paths) and not all(
                skipped.get(path) == "excluded" for path in paths
            ):
                reasons = "; ".join(f"{path}: {skipped[path]}" for path in paths)
                name = entry_name((self.filters or ())[i])
                raise UnsupportedModelError(
                    f"`{self.argument}` names {name!r}, of which nothing can be "
                    f"compressed. {reasons}."
                )


def filter_names(filters: Filter) -> list[str] | None:
    """Patterns and layers of a filter as JSON-ready names."""
    if filters is None:
        return None
    return [entry_name(entry) for entry in filter_entries(filters, "filters")]


def filter_entries(filters: Filter, argument: str) -> tuple[Entry, ...]:
    """Patterns and layers of a filter; none of None.

    `argument` is what the filter is called in the ValueError for anything else.
    """
    if filters is None:
        return ()
    single = isinstance(filters, str | keras.layers.Layer)
    if single or not isinstance(filters, Iterable):
        filters = (filters,)  # what is neither is refused below
    for entry in filters:
        if not isinstance(entry, str | keras.layers.Layer):
            raise ValueError(
                f"`{argument}` takes patterns and layers, got {entry!r} of type "
                f"{type(entry).__name__}."
            )
    return tuple(filters)


def entry_name(entry: Entry) -> str:
    """A pattern, or the name of a layer."""
    return entry if isinstance(entry, str) else str(entry.name)
