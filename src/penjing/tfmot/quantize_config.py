"""How one layer is rounded: the peer's description, and what it says in grids."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import keras

from penjing.errors import UnsupportedModelError
from penjing.numerics.grids import Grid


class QuantizeConfig(abc.ABC):
    """Says how a layer is rounded, in place of what the scheme says.

    The `get_` methods are asked once, with the built layer. The `set_` methods are
    never called: the engine runs the layer on rounded weights without changing it.

    Example:
        >>> class FourBits(QuantizeConfig):
        ...     def get_weights_and_quantizers(self, layer):
        ...         return [(layer.kernel, LastValueQuantizer(4, True, True, True))]
        ...
        ...     def get_activations_and_quantizers(self, layer):
        ...         return []
        ...
        ...     def set_quantize_weights(self, layer, quantize_weights):
        ...         pass
        ...
        ...     def set_quantize_activations(self, layer, quantize_activations):
        ...         pass
        ...
        ...     def get_output_quantizers(self, layer):
        ...         return []
        ...
        ...     def get_config(self):
        ...         return {}
    """

    @abc.abstractmethod
    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return the weights to round, each with its quantizer."""

    @abc.abstractmethod
    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return the activations to round, each with its quantizer."""

    @abc.abstractmethod
    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        """Put rounded weights into the layer; not called here."""

    @abc.abstractmethod
    def set_quantize_activations(
        self, layer: Any, quantize_activations: list[Any]
    ) -> None:
        """Put rounded activations into the layer; not called here."""

    @abc.abstractmethod
    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """Return the quantizers of what the layer gives out."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Config from the dictionary that `get_config` gave."""
        return cls(**config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerGrids:
    """What a layer is rounded to.

    Args:
        weights: Path of a weight -> its grid.
        activations: Grid of what the layer gives out; `None`: left as it is.
    """

    weights: Mapping[str, Grid]
    activations: Grid | None


def read_quantize_config(
    config: QuantizeConfig, layer: keras.layers.Layer
) -> LayerGrids:
    """Ask the config that a user gave for a built layer what it says of it.

    What no grid stands for is an UnsupportedModelError.
    """
    paths = {id(variable): variable.path for variable in layer.weights}
    weights = {}
    for variable, quantizer in config.get_weights_and_quantizers(layer):
        if id(variable) not in paths:
            raise UnsupportedModelError(
                f"`get_weights_and_quantizers` of {type(config).__name__} gives "
                f"{variable!r} for the layer {layer.name!r}, which is none of its "
                "variables. Give variables, such as `layer.kernel`."
            )
        path = paths[id(variable)]
        weights[path] = weight_grid(quantizer, f"weight {path!r}")
    quantizers = [
        *(pair[1] for pair in config.get_activations_and_quantizers(layer)),
        *config.get_output_quantizers(layer),
    ]
    grids = {
        activation_grid(quantizer, f"activation of the layer {layer.name!r}")
        for quantizer in quantizers
    }
    if len(grids) > 1:
        raise UnsupportedModelError(
            f"The activation and the outputs of the layer {layer.name!r} ask for "
            "different grids. Give both the same quantizer."
        )
    return LayerGrids(weights=weights, activations=next(iter(grids), None))


_ACTIVATION_BITS = 8


class Quantizer(abc.ABC):
    """Base of the quantizers.

    A quantizer describes a grid; penjing's engine rounds. So one with a `__call__` of
    its own is refused where it is used: what it computes has no place in the file.
    """

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Quantizer from the dictionary that `get_config` gave."""
        return cls(**config)


@dataclasses.dataclass(frozen=True)
class _RangeQuantizer(Quantizer):
    """A grid whose range follows the values.

    Args:
        num_bits: Width of the integers.
        per_axis: A scale for each output channel.
        symmetric: The zero point is 0.
        narrow_range: Leave the lowest integer out. Symmetric weights always do.
    """

    num_bits: int
    per_axis: bool
    symmetric: bool
    narrow_range: bool

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return dataclasses.asdict(self)


@keras.saving.register_keras_serializable("penjing.tfmot")
class LastValueQuantizer(_RangeQuantizer):
    """A grid that follows a weight from batch to batch."""


@keras.saving.register_keras_serializable("penjing.tfmot")
class MovingAverageQuantizer(_RangeQuantizer):
    """A grid whose range is averaged over batches."""


@keras.saving.register_keras_serializable("penjing.tfmot")
class AllValuesQuantizer(_RangeQuantizer):
    """The same as `MovingAverageQuantizer`, so that no outlier sets the range."""


@keras.saving.register_keras_serializable("penjing.tfmot")
@dataclasses.dataclass(frozen=True)
class FixedQuantizer(Quantizer):
    """A grid with a range that is given; it can be described, but not trained on.

    Args:
        num_bits: Width of the integers.
        init_min: Lower end of the range.
        init_max: Upper end of the range.
        narrow_range: Leave the lowest integer out.
    """

    num_bits: int
    init_min: float
    init_max: float
    narrow_range: bool

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return dataclasses.asdict(self)


def weight_grid(quantizer: Any, where: str) -> Grid:
    """The grid of a weight that a quantizer, whose range follows the values, describes.

    `where` says what it rounds, in the UnsupportedModelError if penjing has no such
    grid.
    """
    described = _known(quantizer, where)
    if not described.symmetric:
        raise UnsupportedModelError(
            f"The {where} asks for a zero point of its own, but LiteRT's kernels take "
            "weights whose zero point is 0. Pass symmetric=True."
        )
    return Grid(
        bits=described.num_bits,
        granularity="per_channel" if described.per_axis else "per_tensor",
    )


def activation_grid(quantizer: Any, where: str) -> Grid:
    """The grid of an activation that a quantizer with a following range describes.

    `where` says what it rounds, in the UnsupportedModelError if LiteRT's int8 kernels
    have no such grid.
    """
    described = _known(quantizer, where)
    plain = not described.per_axis and not described.narrow_range
    if described.num_bits != _ACTIVATION_BITS or not plain:
        raise UnsupportedModelError(
            f"The {where} asks for {described}, but LiteRT's integer kernels take "
            f"activations of {_ACTIVATION_BITS} bits with one scale and the whole "
            "range. Pass num_bits=8, per_axis=False and narrow_range=False."
        )
    return Grid(granularity="per_tensor", symmetric=bool(described.symmetric))


def _known(quantizer: Any, where: str) -> _RangeQuantizer:
    if isinstance(quantizer, FixedQuantizer):
        raise UnsupportedModelError(
            f"The {where} has a FixedQuantizer, whose range is given, but ranges "
            "follow the data here. Use MovingAverageQuantizer."
        )
    known = (LastValueQuantizer, MovingAverageQuantizer, AllValuesQuantizer)
    if type(quantizer) not in known:
        raise UnsupportedModelError(
            f"The {where} has the quantizer {quantizer!r} of class "
            f"{type(quantizer).__name__}, whose values lie on no grid that is known, "
            "so that no file could hold them. Use LastValueQuantizer or "
            "MovingAverageQuantizer, or put what it computes into a layer."
        )
    return quantizer  # type: ignore[no-any-return]
