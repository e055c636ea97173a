"""How one sparsity is divided among layers of different shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def erk_sparsities(shapes: Sequence[Sequence[int]], sparsity: float) -> list[float]:
    """Sparsity of each layer under the Erdos-Renyi-Kernel rule.

    The density of a layer is proportional to the sum of its dimensions over their
    product, so that large layers are cut more; layers that would be denser than 1 stay
    whole and the others make up for them.

    Args:
        shapes: Shapes of the weights.
        sparsity: Fraction of zeros over all of them together, in [0, 1).

    Returns:
        One sparsity in [0, 1) for each shape; weighted by size they average to
        `sparsity`.

    Reference:
        Evci et al., 2020, https://arxiv.org/abs/1911.11134
    """
    sizes = np.array([np.prod(shape) for shape in shapes], dtype=np.float64)
    raw = np.array([np.sum(shape) for shape in shapes], dtype=np.float64) / sizes
    budget = (1.0 - sparsity) * sizes.sum()
    dense = np.zeros(len(sizes), dtype=bool)
    while True:
        spare = budget - sizes[dense].sum()
        factor = spare / (raw * sizes)[~dense].sum() if not dense.all() else 0.0
        density = np.where(dense, 1.0, factor * raw)
        over = density > 1.0
        if not over.any():
            return [float(value) for value in 1.0 - density]
        dense |= over
