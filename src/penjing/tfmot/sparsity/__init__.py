"""Pruning; see `penjing.tfmot.sparsity.keras`."""

from penjing.tfmot.sparsity import keras

__all__ = ["keras"]
