"""What the schemes ask for."""

from __future__ import annotations

import numpy as np
import pytest
from tests.tfmot.quantized_models import (
    combine,
    dense,
    kernels,
    quantization,
)

import penjing


def test_fewer_bits():
    default_n_bit = quantization.experimental.default_n_bit
    scheme = default_n_bit.DefaultNBitQuantizeScheme(
        disable_per_axis=True, num_bits_weight=3
    )
    annotated = quantization.quantize_annotate_model(dense())
    quantized = quantization.quantize_apply(annotated, scheme)
    assert all(np.unique(k).size <= 7 for k in kernels(penjing.strip(quantized)))
    with pytest.raises(ValueError, match="`num_bits_activation` must be 8"):
        default_n_bit.DefaultNBitQuantizeScheme(num_bits_activation=4)


@pytest.mark.once
@pytest.mark.parametrize(
    ("scheme", "says"),
    [
        (combine.Default8BitPrunePreserveQuantizeScheme, "keeps zeros, but no weight"),
        (combine.Default8BitClusterPreserveQuantizeScheme, "keeps shared values, but"),
    ],
)
def test_what_is_not_there_cannot_be_kept(scheme, says):
    annotated = quantization.quantize_annotate_model(dense())
    with pytest.raises(ValueError, match=says):
        quantization.quantize_apply(annotated, scheme())
