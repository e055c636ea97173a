"""Channel rules of blocks that other packages make: transformers and mobile networks.

They are known by the name of their class, so no package has to be installed. A block
builds layers of its own from a few numbers in its config. What one such number counts
can be cut; all else stays whole, with its input and output.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
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
    step.pin(step.layout, f"{step.describe()} looks its values up")
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
        makers: Dense layers that make the units, which fall together; those that the
            block does not have are none.
        reader: The dense layer that sums them up.
        per_unit: By how much the key counts each.
        parts: The blocks of a layer that holds several of the same width.
    """
    for part in parts(step.operation):
        found = [_inner(part, name) for name in makers]
        made = [dense for dense in found if dense is not None]
        ids = step.produce(int(made[0].kernel.shape[-1]), makers[0].strip("_"))
        for dense in made:
            step.carry(dense.kernel, -1, ids, "output")
            step.carry(dense.bias, 0, ids, "output")
            pin_mixed(step, ids, dense.activation)
        _pin_mixed_by_block(step, ids, part)
        step.carry(_inner(part, reader).kernel, 0, ids, "input")
    step.edit(key, np.tile(ids, per_unit))
    return _keep_outside(step, f"{step.describe()} {_RESIDUAL}")


def _inner(part: Any, name: str) -> Any:
    """An attribute within attributes, or an entry of a list; None if there is none."""
    for step in name.split("."):
        part = part[int(step)] if step.isdigit() else getattr(part, step, None)
    return part


def _pin_mixed_by_block(step: ChannelStep, ids: np.ndarray, block: Any) -> None:
    pin_mixed(step, ids, keras.activations.get(getattr(block, "activation", None)))


def _keep_outside(step: ChannelStep, reason: str) -> list[Layout]:
    """Let what comes in and goes out stay whole."""
    for layout in step.layouts:
        step.pin(layout, reason)
    return step.stay(reason)


def _trace_heads(step: ChannelStep, attention: Any, names: str, axis: int) -> None:
    """Whole heads, whose size the config gives: a key's with the queries that read it.

    `names` are those of the projections of queries, keys, values and outputs, `axis`
    is where the heads lie in the kernels of the first three.
    """
    block = step.operation
    query, key, value, output = (_inner(attention, name) for name in names.split())
    readers = block.num_query_heads // block.num_key_value_heads
    width = readers * int(output.kernel.shape[1])
    heads = step.produce(block.num_key_value_heads, "attention", width=width)
    queries = np.repeat(heads, readers)
    step.edit("num_key_value_heads", heads)
    step.edit("num_query_heads", queries)
    for dense, ids in ((query, queries), (key, heads), (value, heads)):
        step.carry(dense.kernel, axis, ids, "output")
        step.carry(dense.bias, 0, ids, "output")
    step.carry(output.kernel, 0, queries, "input")


def trace_gemma_block(step: ChannelStep) -> Layout | list[Layout]:
    """`GemmaDecoderBlock`, `Gemma3DecoderBlock`: the units between, and whole heads."""
    names = "query_dense key_dense value_dense output_dense"
    _trace_heads(step, step.operation.attention, names, 0)
    return _trace_feed_forward(
        step,
        key="intermediate_dim",
        makers=("gating_ffw", "gating_ffw_2"),
        reader="ffw_linear",
        per_unit=getattr(step.operation, "gate_dim_reduction", 2),
    )


def trace_qwen3_block(step: ChannelStep) -> Layout | list[Layout]:
    """`Qwen3TransformerDecoder`: the units between, and whole heads."""
    names = "_query_dense _key_dense _value_dense _output_dense"
    _trace_heads(step, _inner(step.operation, "_self_attention_layer"), names, 1)
    return _GATED(step)


def trace_experts(step: ChannelStep) -> Layout | list[Layout]:
    """`MixtralTransformerDecoder`: the same units of all its experts."""
    experts = _inner(step.operation, "_sparse_moe_block.expert_bank")
    gate, inner, output = (
        _inner(experts, f"_expert_feedforward_{name}_dense")
        for name in ("gate", "intermediate", "output")
    )
    ids = step.produce(int(gate.shape[-1]), "experts")
    for kernel in (gate, inner):
        step.carry(kernel, 2, ids, "output")
    _pin_mixed_by_block(step, ids, experts)
    step.carry(output, 1, ids, "input")
    step.edit("intermediate_dim", ids)
    return _keep_outside(step, f"{step.describe()} {_RESIDUAL}")


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


def _mlp(block: Any) -> list[Any]:
    return [block.mlp_block.dense_net]


def _dense_pair(names: str, **options: Any) -> Rule:
    """The rule for a block whose dense layers have these names: "makers -> reader"."""
    makers, reader = names.split(" -> ")
    options = {"key": "intermediate_dim", **options}
    return functools.partial(
        _trace_feed_forward, makers=makers.split(), reader=reader, **options
    )


_TRANSFORMER = _dense_pair(
    "_feedforward_intermediate_dense -> _feedforward_output_dense"
)
_GATED = _dense_pair(
    "_feedforward_intermediate_dense _feedforward_gate_dense"
    " -> _feedforward_output_dense"
)
_PUBLIC = (
    "feedforward_intermediate_dense feedforward_gate_dense -> feedforward_output_dense"
)
_PLAIN = _dense_pair(_PUBLIC)
_SIZED = _dense_pair(_PUBLIC, key="intermediate_size")

# Package -> class -> rule.
RULES_BY_NAME: dict[str, dict[str, Rule]] = {
    "keras_hub": {
        "PositionEmbedding": trace_position_embedding,
        "TokenAndPositionEmbedding": trace_token_and_position_embedding,
        "TransformerEncoder": _TRANSFORMER,
        "TransformerDecoder": _TRANSFORMER,
        "WhisperEncoder": _TRANSFORMER,
        "WhisperDecoder": _TRANSFORMER,
        "DisentangledAttentionEncoder": _TRANSFORMER,
        "GPTNeoXDecoder": _TRANSFORMER,
        "FNetEncoder": _dense_pair("_intermediate_dense -> _output_dense"),
        "BloomDecoder": _dense_pair("_mlp_intermediate_dense -> _mlp_output_dense"),
        "FalconTransformerDecoder": _dense_pair("dense_h_to_4h -> dense_4h_to_h"),
        "LlamaTransformerDecoder": _GATED,
        "MistralTransformerDecoder": _GATED,
        "QwenTransformerDecoder": _GATED,
        "Qwen3TransformerDecoder": trace_qwen3_block,
        "Phi3Decoder": _PLAIN,
        "XLNetEncoder": _PLAIN,
        "RoformerV2Encoder": _SIZED,
        "ESMEncoder": _SIZED,
        "T5TransformerLayer": _dense_pair(
            "input_projector gate_projector -> output_projector"
        ),
        "MixtralTransformerDecoder": trace_experts,
        "GemmaDecoderBlock": trace_gemma_block,
        "Gemma3DecoderBlock": trace_gemma_block,
        "ViTEncoder": _dense_pair(
            "mlp.dense_1 -> mlp.dense_2",
            key="mlp_dim",
            parts=lambda layer: layer.encoder_layers,
        ),
        "DeiTEncoder": _dense_pair(
            "mlp.dense -> output_layer.dense",
            parts=lambda layer: layer.encoder_layers,
        ),
        "WindowedTransformerEncoder": _dense_pair("layers.0 -> layers.2", parts=_mlp),
        "InvertedResidualBlock": trace_inverted_residual,
    },
}
