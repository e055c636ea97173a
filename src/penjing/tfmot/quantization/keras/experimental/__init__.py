"""Schemes of other widths; see `default_n_bit`."""

from penjing.tfmot.quantization.keras.experimental import default_n_bit

__all__ = ["default_n_bit"]
