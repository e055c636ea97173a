"""Integer inputs and outputs where a model in training rounds none.

What a layer without an integer kernel reads or gives is not rounded while a model
trains. A file can still take and give integers there: the runtime turns them into
floats and back. Their ranges are those of the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from penjing.engine.activations.activation_config import HIGHEST, LOWEST
from penjing.errors import DataError
from penjing.export.output_parts import MOST_COLUMNS
from penjing.export.verification import COMPARED_BATCH, keras_outputs
from penjing.models.signature import InputSignature
from penjing.numerics import Tensor
from penjing.numerics.grids import range_to_scale

Arrays = Sequence[np.ndarray[Any, Any]]
_PIXELS = (0.0, 255.0)
_NOISE = 1e-6  # Of the size of a column: what varies by less is constant.


def check_columns(samples: Arrays, signature: InputSignature, input_type: str) -> None:
    """Refuse, as a DataError, integer inputs in which columns would be lost.

    One scale serves a whole input, so a column that varies by less than its steps gives
    nothing but its mean. Of many columns, as of spectra or words, some always do.
    """
    if input_type == "float32":
        return
    levels = np.iinfo(input_type).max - np.iinfo(input_type).min
    for item, values in zip(signature.inputs, samples, strict=True):
        if item.dtype != "float32" or values.ndim < 2 or not values.size:
            continue
        if values.shape[-1] > MOST_COLUMNS:
            continue
        columns = values.reshape(-1, values.shape[-1]).astype("float64")
        low, high = min(columns.min(), 0.0), max(columns.max(), 0.0)
        step = (high - low) / levels or 1.0
        spread = columns.std(axis=0)
        error = (np.rint(columns / step) * step - columns).std(axis=0)
        varies = spread > _NOISE * np.abs(columns).max(axis=0)
        lost = np.flatnonzero(varies & (error > spread / 2))
        if lost.size:
            raise DataError(
                f"The input `{item.name}` cannot be {input_type}: one scale serves all "
                f"its columns, whose values go from {low:.3g} to {high:.3g} in steps "
                f"of {step:.3g}, but column {lost[0]} varies by {spread[lost[0]]:.3g} "
                "only. Scale the columns alike before the model, or give those of "
                "another size as an input of their own."
            )


class EndGrids:
    """Rounds inputs and outputs of a trace that the plan of a model leaves in float.

    `model` rounds its activations; `samples` has an array for each of its inputs. None
    where a range is needed is a DataError.
    """

    def __init__(
        self,
        model: Any,
        signature: InputSignature,
        samples: Arrays | None,
        *,
        input_type: str,
        output_type: str,
    ) -> None:
        plan = model.activations.plan

        def given() -> Arrays:
            return _known(samples, plan.in_float)

        def computed() -> Arrays:
            return keras_outputs(model, signature, given(), COMPARED_BATCH)

        self._inputs = _grids(plan.inputs, input_type, given)
        self._outputs = _grids(plan.outputs, output_type, computed)

    def round_inputs(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The flat inputs, those rounded that operations in float alone read."""
        return [_rounded(v, self._inputs.get(i)) for i, v in enumerate(values)]

    def round_outputs(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The flat outputs, those rounded that an operation in float gives."""
        return [_rounded(v, self._outputs.get(i)) for i, v in enumerate(values)]


def _grids(
    groups: Sequence[str | None], wanted: str, find: Callable[[], Arrays]
) -> dict[int, tuple[float, float]]:
    """Place of each end that is not rounded yet -> the range of its integers."""
    places = [i for i, group in enumerate(groups) if group is None]
    if wanted == "float32" or not places:
        return {}
    arrays = find()
    return {i: _range(arrays[i]) for i in places if arrays[i].dtype.kind == "f"}


def _range(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The ends of a grid of eight bits; pixels have that of 0 to 255."""
    low, high = float(values.min()), float(values.max())
    if low >= _PIXELS[0] and _PIXELS[1] / 2 < high <= _PIXELS[1]:
        low, high = _PIXELS
    scale, zero_point = map(
        ops.convert_to_numpy, range_to_scale(low, high, LOWEST, HIGHEST)
    )
    return float((LOWEST - zero_point) * scale), float((HIGHEST - zero_point) * scale)


def _rounded(values: Tensor, ends: tuple[float, float] | None) -> Tensor:
    if ends is None:
        return values
    import tensorflow as tf

    return tf.quantization.fake_quant_with_min_max_vars(values, *ends)


def _known(samples: Arrays | None, in_float: Any) -> Arrays:
    if samples is not None:
        return samples
    reasons = "; ".join(f"`{name}`: {reason}" for name, reason in in_float.items())
    raise DataError(
        "Integer inputs or outputs were asked for where the model runs in float, so "
        "that their ranges were not trained. Pass `representative_data`, some real "
        f"inputs, in which they are found. In float run {reasons[:500]}."
    )
