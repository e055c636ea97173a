"""The scheme that `quantize_apply` has by default."""

from penjing.tfmot.quantize_schemes import Default8BitQuantizeScheme

__all__ = ["Default8BitQuantizeScheme"]
