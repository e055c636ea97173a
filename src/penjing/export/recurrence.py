"""Recurrent layers as loops that the LiteRT converter understands.

Keras' own loop on TensorFlow gathers the steps in a `TensorArray`, which converts
only with a fixed batch size; unrolled, the file grows with every time step. The loop
here carries plain tensors, so batch and number of steps stay free and the file holds
the cell once. Outputs of all steps are collected by concatenation: scattering into a
tensor of zeros is slower in the runtime, and wrong by 80 % and more once calibrated
to int8.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from penjing.errors import ExportError
from penjing.models.keras_private import all_layers
from penjing.models.lending import all_lent
from penjing.numerics import Tensor

Step = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


@contextlib.contextmanager
def convertible_loops(model: keras.Model, *, growing: bool = True) -> Iterator[None]:
    """Let the recurrent layers of a model trace as convertible loops in the block.

    The model is on the TensorFlow backend, and after the block as before. Layers that
    the user asked to unroll stay unrolled. `growing` lets the outputs of all steps
    gather in a tensor that grows; without it, where the number of steps is known, it
    has its full size from the start, and each step pushes the oldest one out.
    """
    loops = _loops_of(model)
    lent = ((x, "inner_loop", _inner_loop_of(x, growing)) for x in loops)
    with all_lent(lent):
        yield


def check_calibration(model: keras.Model, batch: int | None) -> None:
    """Refuse, as an ExportError, what ends the process when TensorFlow calibrates it.

    That is a layer that loops while the batch size is fixed, not None.
    """
    loops = _loops_of(model)
    if batch is not None and loops:
        raise ExportError(
            "TensorFlow's calibration crashes on the loop of the layer "
            f"`{loops[0].name}` where the batch size is fixed, here to {batch}. Build "
            "the model with keras.Input(shape=...) in place of batch_shape=..., or "
            "make the layer with unroll=True."
        )


def _loops_of(model: keras.Model) -> list[keras.layers.RNN]:
    return [
        layer
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.RNN) and not layer.unroll
    ]


def _inner_loop_of(layer: keras.layers.RNN, growing: bool) -> Callable[..., Any]:
    def inner_loop(
        sequences: Tensor, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Tensor, Tensor, Any]:
        states = (
            initial_state if keras.tree.is_nested(initial_state) else [initial_state]
        )

        def step(inputs: Tensor, flat: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            packed = keras.tree.pack_sequence_as(states, flat)
            output, new = layer.cell(inputs, packed)
            return output, keras.tree.flatten(new)

        last, outputs, flat = _loop(
            step,
            sequences,
            keras.tree.flatten(states),
            mask=mask[0] if keras.tree.is_nested(mask) else mask,
            layer=layer,
            growing=growing,
        )
        return last, outputs, keras.tree.pack_sequence_as(states, flat)

    return inner_loop


def _loop(
    step: Step,
    sequences: Tensor,
    states: list[Tensor],
    *,
    mask: Tensor | None,
    layer: keras.layers.RNN,
    growing: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run a cell over the steps of `(batch, steps, ...)` sequences.

    Gives the last output `(batch, ...)`, all outputs `(batch, steps, ...)` or the last
    one with one step, and the last states.
    """
    import tensorflow as tf

    steps = _time_major(sequences, layer.go_backwards)
    keep = None if mask is None else _time_major(mask, layer.go_backwards)
    first, _ = step(steps[0], states)
    zeros = tf.zeros_like(first)
    count = None if growing else steps.shape[0]
    # One row of zeros that is cut off again: the runtime cannot grow an empty tensor.
    collected = tf.repeat(zeros[tf.newaxis], count or 1, 0)
    if not layer.return_sequences:
        collected = tf.zeros([0])
    shape = [count, *first.shape] if layer.return_sequences else collected.shape

    def body(time: Tensor, rows: Tensor, last: Tensor, *flat: Tensor) -> Any:
        output, new = step(tf.gather(steps, time), list(flat))
        if keep is not None:
            here = tf.gather(keep, time)
            masked = zeros if layer.zero_output_for_mask else last
            output = _choose(here, output, masked)
            new = [_choose(here, a, b) for a, b in zip(new, flat, strict=True)]
        if layer.return_sequences:
            kept = rows if count is None else rows[1:]
            rows = tf.concat([kept, output[tf.newaxis]], 0)
        return (time + 1, rows, output, *new)

    result = tf.while_loop(
        lambda time, *_: time < tf.shape(steps)[0],
        body,
        (tf.constant(0), collected, zeros, *states),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape(shape),
            zeros.shape,
            *(state.shape for state in states),
        ),
    )
    last = result[2]
    if not layer.return_sequences:
        return last, last[:, tf.newaxis], list(result[3:])
    outputs = result[1][1:] if count is None else result[1]
    outputs = _time_major(outputs, go_backwards=False)
    outputs.set_shape([outputs.shape[0], sequences.shape[1], *outputs.shape[2:]])
    return last, outputs, list(result[3:])


def _time_major(tensor: Tensor, go_backwards: bool) -> Tensor:
    """Swap the first two axes, and reverse the new first one where asked."""
    import tensorflow as tf

    swapped = tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])
    return tf.reverse(swapped, [0]) if go_backwards else swapped


def _choose(keep: Tensor, new: Tensor, old: Tensor) -> Tensor:
    import tensorflow as tf

    mask = tf.cast(keep, tf.bool)
    for _ in range(new.shape.rank - mask.shape.rank):
        mask = mask[..., tf.newaxis]
    return tf.where(mask, new, old)
