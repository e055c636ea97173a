"""The names and arguments of tfmot, on penjing's engine: `tfmot.sparsity.keras`."""

from penjing.tfmot import sparsity

__all__ = ["sparsity"]
