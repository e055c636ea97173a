"""Weights of 2 to 8 bits."""

from penjing.tfmot.quantize_schemes import DefaultNBitQuantizeScheme

__all__ = ["DefaultNBitQuantizeScheme"]
