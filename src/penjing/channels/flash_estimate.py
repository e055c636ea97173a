"""The flash that a cut model will take on a microcontroller, before there is a file."""

from __future__ import annotations

import math

from penjing.channels.cut_costs import CutCosts, Kept

# Operators, descriptions of tensors and scales, chosen by hand: the plain int8 files of
# the networks in `benchmarks/packing.py` are 1 to 5 % larger than the estimate.
_FILE_BYTES = 600
_LAYER_BYTES = 350
_BIAS_BYTES = 4
_SHIFTS = ("bias", "beta")


def flash_estimate(costs: CutCosts, kept: Kept, weight_bits: float = 8.0) -> float:
    """Estimate the bytes of a model's int8 file after a cut.

    Args:
        costs: Of the model.
        kept: Group name -> `(size,)`, True where a unit stays; empty for no cut.
        weight_bits: Bits that a number of a kernel takes: 8 in a plain file, fewer in
            one that `penjing.pack_litert` makes.

    Returns:
        Bytes. An estimate: which form a weight gets, and what headers and alignment
        take, is known when the file is written.
    """
    kernels = {p: s for p, s in costs.shapes.items() if len(s) > 1}
    biases = {
        path: shape
        for path, shape in costs.shapes.items()
        if len(shape) == 1 and path.rpartition("/")[2] in _SHIFTS
    }
    bits = weight_bits * costs.weighted(
        {path: math.prod(shape) for path, shape in kernels.items()}, kept
    )
    shifts = costs.weighted({path: shape[0] for path, shape in biases.items()}, kept)
    return bits / 8 + _BIAS_BYTES * shifts + _LAYER_BYTES * len(kernels) + _FILE_BYTES
