"""What `quantize_apply` does to the layers that are marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from penjing.engine.transforms.weight_transform import Transform
from penjing.errors import UnsupportedModelError
from penjing.models.selection import SelectedWeight
from penjing.numerics.grids import Grid
from penjing.tfmot.preserving_transforms import KeepClusters, KeepZeros, find_codebooks


class QuantizeScheme:
    """Base of the schemes: grids of weights and activations, and what is kept.

    Attributes:
        weights: Grid of the weights of layers without a config of their own.
        activations: Grid of their activations.
    """

    weights: Grid = Grid()
    activations: Grid = Grid(granularity="per_tensor", symmetric=False)

    def keep(
        self, weights: Sequence[SelectedWeight]
    ) -> tuple[list[Transform], Mapping[str, str]]:
        """What the weights pass through before they are rounded.

        Args:
            weights: The weights that will be rounded.

        Returns:
            Transforms, and path -> granularity of the grid that they ask for.
        """
        return [], {}


class Default8BitQuantizeScheme(QuantizeScheme):
    """Weights of 8 bits with a scale for each channel, activations of 8 bits."""


class DefaultNBitQuantizeScheme(QuantizeScheme):
    """Weights of 2 to 8 bits, activations of 8 bits.

    Args:
        disable_per_axis: One scale for a weight, not one for each channel.
        num_bits_weight: Bits of the weights.
        num_bits_activation: 8: LiteRT's integer kernels take no others.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        disable_per_axis: bool = False,
        num_bits_weight: int = 8,
        num_bits_activation: int = 8,
    ) -> None:
        if num_bits_activation != 8:
            raise ValueError(
                "`num_bits_activation` must be 8, as LiteRT's integer kernels take no "
                f"other activations, got {num_bits_activation!r}. Use fewer bits for "
                "the weights alone."
            )
        granularity = "per_tensor" if disable_per_axis else "per_channel"
        self.weights = Grid(bits=num_bits_weight, granularity=granularity)


class Default8BitPrunePreserveQuantizeScheme(Default8BitQuantizeScheme):
    """8 bits, and weights that are zero stay zero through the training.

    For what `strip_pruning` gave.

    Example:
        >>> import keras, numpy as np
        >>> from penjing import tfmot
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model.set_weights([np.eye(4, 2), np.zeros(2)])
        >>> annotated = tfmot.quantization.keras.quantize_annotate_model(model)
        >>> scheme = tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
        >>> quantized = tfmot.quantization.keras.quantize_apply(annotated, scheme)
        >>> [transform.display_name for transform in quantized.transforms]
        ['kept sparse', 'quantized']
    """

    def keep(
        self, weights: Sequence[SelectedWeight]
    ) -> tuple[list[Transform], Mapping[str, str]]:
        """Masks of the weights that have zeros."""
        sparse = [w.path for w in weights if not _values(w).all()]
        if not sparse:
            raise UnsupportedModelError(
                f"{type(self).__name__} keeps zeros, but no weight has any. Prune and "
                "strip the model first, or leave the scheme out."
            )
        return [KeepZeros(paths=sparse)], {}


class Default8BitClusterPreserveQuantizeScheme(Default8BitQuantizeScheme):
    """8 bits, and weights go on sharing as few values as they do.

    For what `strip_clustering` gave. A weight whose channels share values gets one
    scale, as a scale for each channel would split them; one whose channels have values
    of their own gets a scale for each.

    Args:
        preserve_sparsity: Weights that are zero stay zero too.
    """

    def __init__(self, preserve_sparsity: bool = True) -> None:
        self.preserve_sparsity = bool(preserve_sparsity)

    def keep(
        self, weights: Sequence[SelectedWeight]
    ) -> tuple[list[Transform], Mapping[str, str]]:
        """Codebooks of the weights that share values, masks of others with zeros."""
        granularities = {}
        for weight in weights:
            found = find_codebooks(
                weight, _values(weight), keep_zeros=self.preserve_sparsity
            )
            if found is not None:
                whole = found.shape[0] == 1
                granularities[weight.path] = "per_tensor" if whole else "per_channel"
        if not granularities:
            raise UnsupportedModelError(
                f"{type(self).__name__} keeps shared values, but no weight has any. "
                "Cluster and strip the model first, or leave the scheme out."
            )
        clusters = KeepClusters(
            paths=list(granularities), preserve_sparsity=self.preserve_sparsity
        )
        kept: list[Transform] = [clusters]
        sparse = [
            weight.path
            for weight in weights
            if weight.path not in granularities and not _values(weight).all()
        ]
        if sparse and self.preserve_sparsity:
            kept.append(KeepZeros(paths=sparse))
        return kept, granularities


def _values(weight: SelectedWeight) -> np.ndarray:
    values: np.ndarray = ops.convert_to_numpy(weight.variable.value)
    return values
