"""Whether a file computes what its model does, and which layers are to blame if not."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from penjing.engine.stripping import strip
from penjing.errors import CompressionError, ExportError
from penjing.export.conversion_config import ConversionConfig
from penjing.export.integers.compared_tensors import compared_tensors
from penjing.export.integers.fewest_floats import noisiest_layers
from penjing.export.samples import compared_samples
from penjing.export.trained_grids import has_trained_grids
from penjing.export.twins.float_twin import float_twin
from penjing.export.verification import (
    COMPARED_BATCH,
    VERIFIED_SAMPLES,
    InexactFileError,
    keras_outputs,
    verify,
)
from penjing.models.signature import InputSignature

_NAMED = 3
_COMPARED = 16  # samples


def check_file(
    path: Path,
    model: keras.Model,
    signature: InputSignature,
    samples: list[np.ndarray] | None,
    config: ConversionConfig,
    imports: Sequence[str] = (),
) -> None:
    """Compare a file with its Keras model; an ExportError where they differ too much.

    Where the file computes in integers, it names the layers in which most noise comes
    in. `samples` has an array for each input; None takes random ones.
    """
    chosen = compared_samples(samples, signature, model, VERIFIED_SAMPLES)
    expected = keras_outputs(model, signature, chosen, COMPARED_BATCH)
    if not all(np.isfinite(value).all() for value in expected):
        raise ExportError(
            f"The Keras model `{model.name}` itself gives NaN or infinity on the "
            "samples, so its file cannot be checked. Check its weights, or pass "
            "`representative_data` it can take."
        )
    unrounded = None
    if has_trained_grids(model):
        unrounded = functools.partial(_unrounded_outputs, model, signature, chosen)
    try:
        verify(
            path,
            chosen,
            expected,
            config.quantization,
            unrounded,
            config.float_error,
        )
    except InexactFileError as error:
        blamed = ""
        if config.mode.needs_calibration:
            blamed = _blamed(path, model, signature, samples or chosen, config, imports)
        raise ExportError(f"{error}{blamed}") from None


def _unrounded_outputs(
    model: keras.Model, signature: InputSignature, samples: list[np.ndarray]
) -> list[np.ndarray]:
    """What a model in training puts out where activations are not rounded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was not trained is no news here
        return keras_outputs(strip(model), signature, samples, COMPARED_BATCH)


def _blamed(
    path: Path,
    model: keras.Model,
    signature: InputSignature,
    samples: list[np.ndarray],
    config: ConversionConfig,
    imports: Sequence[str],
) -> str:
    """The layers in which most noise comes in, and what to do about them, as lines."""
    try:
        twin = float_twin(model, signature, samples, imports, for_integers=True)
        chosen = compared_samples(samples, signature, model, _COMPARED)
        content = path.read_bytes()
        rows, _ = compared_tensors(content, twin.content, chosen, twin.scopes)
    except CompressionError:  # what is wrong with the file is said all the same
        return ""
    worst = noisiest_layers(rows)[:_NAMED]
    if not worst:
        return ""
    lines = ["", "Most noise comes in at:", *(f"  {row}" for row in worst)]
    if config.mode.has_int8_activations and not has_trained_grids(model):
        names = list(dict.fromkeys(n for r in worst[:1] for n in (r.layer, *r.readers)))
        lines.append(
            f"Keep layers in float, as in float_layers={names}, or let "
            'float_layers="auto" look for the fewest.'
        )
    return "\n".join(lines)
