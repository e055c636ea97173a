"""Descriptions of how a tensor is rounded."""

from penjing.tfmot.quantize_config import (
    AllValuesQuantizer,
    FixedQuantizer,
    LastValueQuantizer,
    MovingAverageQuantizer,
    Quantizer,
)

__all__ = [
    "AllValuesQuantizer",
    "FixedQuantizer",
    "LastValueQuantizer",
    "MovingAverageQuantizer",
    "Quantizer",
]
