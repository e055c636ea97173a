"""How one layer is rounded: the peer's description, and what it says in grids."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import keras

from penjing.errors import UnsupportedModelError
from penjing.numerics.grids import Grid
from penjing.tfmot.quantizers import activation_grid, weight_grid


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
    """Ask a config what it says of a layer.

    Args:
        config: What the user gave for the layer.
        layer: The built layer.

    Raises:
        UnsupportedModelError: If it says something that no grid stands for.
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
