"""Channel rules of blocks that other packages make: transformers and mobile networks.

They are known by the name of their class, so no package has to be installed. A block
builds layers of its own from a few numbers in its config. What one such number counts
can be cut; all else stays whole, with its input and output.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np

from penjing.channels.rules.dense_rules import pin_mixed
from penjing.channels.rules.trace import ChannelStep
from penjing.channels.rules.units import Channels, Layout

Rule: TypeAlias = Callable[[ChannelStep], Layout | list[Layout]]

_RESIDUAL = "adds its input to what heads of a fixed size make"
# MobileNet's blocks round the number of channels to a multiple of it.
_ROUNDED_TO = 8


def trace_position_embedding(step: ChannelStep) -> Layout | list[Layout]:
    """`PositionEmbedding`: a vector for each position, as wide as the input."""
    ids = step.ids_on(step.rank - 1)
    weight = step.operation.position_embeddings
    if ids is None:
        step.trace.keep_axis(weight, 1, step.reason)
        return step.leave(step.reason)
    step.carry(weight, 1, ids, "offset")
    return step.layout


def trace_token_and_position_embedding(step: ChannelStep) -> Layout:
    """`TokenAndPositionEmbedding`: the sum of two embeddings."""
    layer = step.operation
    ids = step.produce(layer.embedding_dim)
    step.carry(layer.token_embedding.embeddings, 1, ids, "output")
    if not layer.token_embedding.tie_weights:
        step.carry(layer.token_embedding.reverse_embeddings, 0, ids, "through")
    step.carry(layer.position_embedding.position_embeddings, 1, ids, "output")
    step.edit("embedding_dim", ids)
    return Channels(step.rank, ids)


def _trace_feed_forward(
    step: ChannelStep,
    *,
    key: str,
    makers: Sequence[str],
    reader: str,
    per_unit: int = 1,
    parts: Callable[[Any], Sequence[Any]] = lambda layer: [layer],
) -> Layout | list[Layout]:
    """A transformer's block: the units between its dense layers can be cut.

    Args:
        step: The call.
        key: Key of the config that counts them.
        makers: Dense layers that make the units, which fall together.
        reader: The dense layer that sums them up.
        per_unit: By how much the key counts each.
        parts: The blocks of a layer that holds several of the same width.
    """
    for part in parts(step.operation):
        made = [attrgetter(name)(part) for name in makers]
        ids = step.produce(int(made[0].kernel.shape[-1]), makers[0].strip("_"))
        for dense in made:
            step.carry(dense.kernel, -1, ids, "output")
            step.carry(dense.bias, 0, ids, "output")
            pin_mixed(step, ids, dense.activation)
        pin_mixed(step, ids, getattr(part, "activation", None))
        step.carry(attrgetter(reader)(part).kernel, 0, ids, "input")
    step.edit(key, np.tile(ids, per_unit))
    return _keep_outside(step, f"{step.describe()} {_RESIDUAL}")


def _keep_outside(step: ChannelStep, reason: str) -> list[Layout]:
    """Let what comes in and goes out stay whole."""
    for layout in step.layouts:
        step.pin(layout, reason)
    return step.stay(reason)


def trace_gemma_block(step: ChannelStep) -> Layout | list[Layout]:
    """`GemmaDecoderBlock`: whole heads too, a key's with the queries that read it."""
    block = step.operation
    attention = block.attention
    readers = block.num_query_heads // block.num_key_value_heads
    heads = step.produce(
        block.num_key_value_heads, "attention", width=readers * block.head_dim
    )
    queries = np.repeat(heads, readers)
    step.edit("num_key_value_heads", heads)
    step.edit("num_query_heads", queries)
    step.carry(attention.query_dense.kernel, 0, queries, "output")
    step.carry(attention.key_dense.kernel, 0, heads, "output")
    step.carry(attention.value_dense.kernel, 0, heads, "output")
    step.carry(attention.output_dense.kernel, 0, queries, "input")
    return _trace_feed_forward(
        step,
        key="intermediate_dim",
        makers=("gating_ffw", "gating_ffw_2"),
        reader="ffw_linear",
        per_unit=2,
    )


def trace_inverted_residual(step: ChannelStep) -> Layout | list[Layout]:
    """MobileNet's `InvertedResidualBlock`: eight channels of its expansion at a time.

    With squeeze-and-excite another width follows from the expansion: it stays.
    """
    block = step.operation
    count = int(block.conv1.kernel.shape[-1])
    reason = f"{step.describe()} adds its input to what it makes"
    if block.squeeze_excite is not None or count % _ROUNDED_TO:
        reason = f"the widths within {step.describe()} follow from each other"
        return _keep_outside(step, reason)
    units = step.produce(count // _ROUNDED_TO, "expansion", width=_ROUNDED_TO)
    ids = np.repeat(units, _ROUNDED_TO)
    step.carry(block.conv1.kernel, -1, ids, "output")
    step.carry(block.conv2.kernel, -1, ids, "through")
    for norm in (block.batch_normalization1, block.batch_normalization2):
        step.carry(norm.gamma, 0, ids, "scale")
        step.carry(norm.beta, 0, ids, "offset")
        step.carry(norm.moving_mean, 0, ids, "statistic")
        step.carry(norm.moving_variance, 0, ids, "statistic")
    step.carry(block.conv3.kernel, -2, ids, "input")
    step.edit("expansion", ids)
    return _keep_outside(step, reason)


_TRANSFORMER = functools.partial(
    _trace_feed_forward,
    key="intermediate_dim",
    makers=("_feedforward_intermediate_dense",),
    reader="_feedforward_output_dense",
)

# Package -> class -> rule.
RULES_BY_NAME: dict[str, dict[str, Rule]] = {
    "keras_hub": {
        "PositionEmbedding": trace_position_embedding,
        "TokenAndPositionEmbedding": trace_token_and_position_embedding,
        "TransformerEncoder": _TRANSFORMER,
        "TransformerDecoder": _TRANSFORMER,
        "LlamaTransformerDecoder": functools.partial(
            _trace_feed_forward,
            key="intermediate_dim",
            makers=("_feedforward_intermediate_dense", "_feedforward_gate_dense"),
            reader="_feedforward_output_dense",
        ),
        "GemmaDecoderBlock": trace_gemma_block,
        "ViTEncoder": functools.partial(
            _trace_feed_forward,
            key="mlp_dim",
            makers=("mlp.dense_1",),
            reader="mlp.dense_2",
            parts=lambda layer: layer.encoder_layers,
        ),
        "InvertedResidualBlock": trace_inverted_residual,
    },
}
