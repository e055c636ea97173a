"""The names and arguments of tfmot, on penjing's engine."""

from penjing.tfmot import clustering, experimental, quantization, sparsity

__all__ = ["clustering", "experimental", "quantization", "sparsity"]
