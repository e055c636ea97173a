"""Quantization-aware training; see `penjing.tfmot.quantization.keras`."""

from penjing.tfmot.quantization import keras

__all__ = ["keras"]
