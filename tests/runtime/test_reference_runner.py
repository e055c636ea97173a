"""What LiteRT's own kernels compute, tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penjing.errors import FileFormatError
from penjing.runtime.interpreter import LiteRTModel
from penjing.runtime.reference_runner import OPTIMIZED, ReferenceRunner

pytestmark = pytest.mark.once

DATA = Path(__file__).parents[1] / "data"
FILE = DATA / "mlperf_tiny/keyword_spotting.tflite"


def test_outputs_and_tensors_come_for_each_sample():
    x = np.random.default_rng(0).normal(size=(3, 50, 10, 1)).astype("f4") * 20
    with ReferenceRunner() as runner:
        run = runner.run(
            FILE.read_bytes(),
            [[one[None]] for one in x],
            where="it",
            tensors=[33],
            kept=2,
        )
        other = runner.run(
            FILE.read_bytes(), [[x]], where="it", kernels=OPTIMIZED
        ).outputs[0][0]
    outputs = np.concatenate([outputs for (outputs,) in run.outputs])
    np.testing.assert_allclose(outputs, other, atol=1 / 128)
    np.testing.assert_allclose(outputs, LiteRTModel(FILE).predict(x), atol=1 / 64)
    assert [[value.shape for value in kept] for kept in run.tensors] == [[(1, 12)]] * 2


def test_a_file_that_litert_refuses_is_told_by_its_name():
    with ReferenceRunner() as runner:
        with pytest.raises(FileFormatError, match="LiteRT cannot run cut: "):
            runner.run(FILE.read_bytes()[:3000], [], where="cut")
        assert runner.run(FILE.read_bytes(), [], where="it").outputs == []
