"""What tfmot offers for quantization-aware training, by the same names."""

from penjing.tfmot.quantization.keras import default_8bit, experimental, quantizers
from penjing.tfmot.quantize_annotate import (
    quantize_annotate_layer,
    quantize_annotate_model,
)
from penjing.tfmot.quantize_config import QuantizeConfig
from penjing.tfmot.quantize_model import quantize_apply, quantize_model, quantize_scope
from penjing.tfmot.quantize_schemes import QuantizeScheme

__all__ = [
    "QuantizeConfig",
    "QuantizeScheme",
    "default_8bit",
    "experimental",
    "quantize_annotate_layer",
    "quantize_annotate_model",
    "quantize_apply",
    "quantize_model",
    "quantize_scope",
    "quantizers",
]
