"""Which kernels use zeros, on which runtime, under which conditions: one table.

Whoever has to know it asks here: `penjing.explain_sparsity`, the export with
`encoding="sparse"`, `penjing.prepare_for_sparse_inference`, and tfmot's
`PruneForLatencyOnXNNPack`.

XNNPACK has kernels for sparse 1x1 convolutions that read and write tensors with the
channels first. Where a file holds a constant behind DENSIFY, LiteRT asks for them; then
XNNPACK looks for a part of the graph that it can run with the channels first as a
whole. It is entered at a 3x3 convolution with stride 2 on an image of 3 channels, the
stem, and left at a global average pooling. What can stand in between is below.

Sources, read at the versions named in `SOURCES` and measured as `docs/` says:

- XNNPACK, `src/subgraph.c`: `xnn_check_nchw_compatibility` (which operators),
  `xnn_subgraph_rewrite_for_nchw` (which parts of a graph, more than 2/3 zeros);
  `src/xnnpack/hardware-config.h`: `xnn_is_chw_compatible_config` (never with AVX);
  `src/operators/convolution-nchw.c`: `create_spmm_path` (one value at a time, or blocks
  of 2 or 4 output channels).
- LiteRT, `tflite/delegates/xnnpack/xnnpack_delegate.cc` (DENSIFY asks for sparse
  kernels; FULLY_CONNECTED of version 8 stays with LiteRT),
  `tflite/kernels/fully_connected.cc` and
  `tflite/kernels/internal/optimized/sparse_ops/fully_connected.h` (blocks of 1x4).
"""

from __future__ import annotations

import dataclasses

RUNTIMES = ("x86", "arm", "wasm")
SOURCES = {
    "XNNPACK": "75db3c093b6d",
    "LiteRT": "f67457790",
    "ai-edge-litert": "2.3.0",
    "@litertjs/core": "2.5.3",
}
"""Versions that the rules were read in (commits) and measured with (packages)."""

STEM_CHANNELS = 3
STEM_KERNEL = 3
STEM_STRIDE = 2
DEPTHWISE_KERNELS = (3, 5)
DEPTHWISE_STRIDES = (1, 2)
DENSE_BLOCK = 4
"""Inputs of a dense layer whose weights for one output are zero together."""
MIN_BLOCK_ZEROS = {"x86": 0.78, "arm": 0.88}  # what rounding leaves of 80 % and 90 %
"""Fraction of blocks of zeros from which the block-sparse kernel is faster.

On ARM: from which it takes fewer instructions, and a fifth of the bytes.
"""
MIN_BLOCK_WEIGHTS = 256 * 256
"""Weights of a dense layer from which it is: smaller ones are faster dense."""

UNARY_OPERATORS = frozenset(
    {"RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "ELU"}
    | {"HARD_SWISH", "LOGISTIC", "TANH", "GELU"}
    | {"ABS", "CEIL", "COS", "EXP", "FLOOR", "LOG", "NEG", "ROUND", "RSQRT"}
    | {"SIGN", "SIN", "SQRT", "SQUARE"}
)
"""Operators of a file on one tensor that run with the channels first."""
POOLING_OPERATORS = frozenset({"MEAN", "SUM"})
"""Where they pool a map of features, channels come last again behind them."""
BINARY_OPERATORS = frozenset({"ADD", "MUL"})
"""On two computed tensors of four dimensions; neither may be a constant."""

KERAS_ACTIVATIONS = frozenset(
    {"linear", "relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh"}
    | {"hard_swish", "hard_silu", "swish", "silu", "gelu", "exponential"}
)
"""Names of Keras' activations that become `UNARY_OPERATORS`, or one and a MUL."""

ORDINARY_FAILURE = (
    "an ordinary convolution behind the first one; replace it by a depthwise and a 1x1 "
    "convolution"
)
OTHER_PADDING = -1
"""Stands for "same" padding with a stride, which the file keeps as such."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseRule:
    """One row: who runs an operator with zeros in its weights, and what they buy.

    Attributes:
        milliseconds: Whether zeros save time; encoded they save bytes anyway.
        conditions: What has to hold, in words.
        measured: What was measured, "" where the row was only read in the source.
        source: The file that decides.
    """

    operator: str
    runtimes: tuple[str, ...]
    kernel: str
    milliseconds: bool
    conditions: tuple[str, ...]
    measured: str
    source: str


_REWRITE = "XNNPACK src/subgraph.c"
_BLOCKS = "LiteRT tflite/kernels/fully_connected.cc"

SPARSE_RULES: tuple[SparseRule, ...] = (
    SparseRule(
        operator="CONV_2D",
        runtimes=("wasm", "arm"),
        kernel="XNNPACK sparse 1x1 convolution, channels first",
        milliseconds=True,
        conditions=(
            "float32 or float16 weights, behind DENSIFY",
            "kernel 1x1, stride 1, no padding, no groups",
            "more than 2/3 zeros in all 1x1 convolutions together",
            "any pattern of zeros: blocks of output channels get slower kernels",
            "every operator from the stem to the global average pooling runs with "
            "the channels first; else outputs are silently wrong",
        ),
        measured="wasm: 3.3x at 80 %, 4.9x at 90 %, 6.3x at 95 % (MobileNet, 224x224); "
        "arm: 2.1x, 3.5x and 5.1x fewer instructions there (Cortex-A72, emulated)",
        source=_REWRITE,
    ),
    SparseRule(
        operator="CONV_2D",
        runtimes=("x86",),
        kernel="XNNPACK dense convolution",
        milliseconds=False,
        conditions=("XNNPACK turns sparse kernels off where the processor has AVX",),
        measured="x86: 1.0x",
        source="XNNPACK src/xnnpack/hardware-config.h",
    ),
    SparseRule(
        operator="FULLY_CONNECTED",
        runtimes=("x86", "arm"),
        kernel="LiteRT block-sparse dense layer",
        milliseconds=True,
        conditions=(
            "float32 weights, sparse without DENSIFY, operator version 8",
            "blocks of 1x4 along the input: Block(4, 1) of a Keras kernel",
            "inputs a multiple of 4",
            "65,536 weights or more, 80 % of the blocks or more without a value, on "
            "arm 90 %",
            "batch 1: large batches are faster dense",
        ),
        measured="x86, batch 1, one thread: 2.1x to 2.4x warm and 3.4x to 3.9x with "
        "cold caches at 90 %, 4.4x and 5.8x at 95 %; arm: 1.3x and 2.5x fewer "
        "instructions at 90 % and 95 %, 1.5x more at 80 % (Cortex-A72, emulated)",
        source=_BLOCKS,
    ),
    SparseRule(
        operator="FULLY_CONNECTED",
        runtimes=("wasm",),
        kernel="XNNPACK dense layer",
        milliseconds=False,
        conditions=("the block-sparse kernel was not measured there",),
        measured="",
        source=_BLOCKS,
    ),
    SparseRule(
        operator="DEPTHWISE_CONV_2D",
        runtimes=RUNTIMES,
        kernel="XNNPACK dense depthwise convolution",
        milliseconds=False,
        conditions=("no sparse kernel; few weights anyway",),
        measured="",
        source=_REWRITE,
    ),
)
"""The table. Operators that are not in it run dense, and their zeros save no time."""


def rule_for(operator: str, runtime: str) -> SparseRule | None:
    """The row for an operator of a file; `None` where a runtime uses no zeros of it."""
    rows = (rule for rule in SPARSE_RULES if rule.operator == operator)
    return next((rule for rule in rows if runtime in rule.runtimes), None)


def rule_pays(operator: str, runtime: str) -> bool:
    """Whether zeros of an operator can save time on a runtime."""
    rule = rule_for(operator, runtime)
    return rule is not None and rule.milliseconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution:
    """What decides which kernel runs a convolution. Pairs are of height and width.

    Attributes:
        padding: Above, below, left and right of the image; `OTHER_PADDING` each for
            "same" with a stride.
        groups: Groups; 1 for a depthwise convolution.
        channels: Channels of the input.
        multiplier: Outputs of a depthwise convolution for each input.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    channels: int = 0
    multiplier: int = 1


def same_padding(
    kernel: tuple[int, int], strides: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """What "same" stands for to XNNPACK: numbers without a stride, else itself."""
    if strides != (1, 1):
        return (OTHER_PADDING,) * 4
    sides = []
    for size, step in zip(kernel, dilation, strict=True):
        total = (size - 1) * step
        sides += [total // 2, total - total // 2]
    return sides[0], sides[1], sides[2], sides[3]


def pointwise_failure(convolution: Convolution) -> str | None:
    """Which condition keeps a convolution off sparse weights; None where all hold."""
    if convolution.kernel != (1, 1):
        size = "x".join(map(str, convolution.kernel))
        return f"its kernel is {size}; sparse kernels take 1x1"
    if convolution.strides != (1, 1):
        return "its stride is not 1; move the stride to a depthwise convolution"
    if any(convolution.padding):
        return "it is padded; a 1x1 convolution needs no padding"
    return _plain_failure(convolution)


def stem_failure(convolution: Convolution) -> str | None:
    """Which condition fails for the first convolution of a sparse part, or None."""
    if convolution.kernel != (STEM_KERNEL, STEM_KERNEL):
        return "the first convolution must have a 3x3 kernel"
    if convolution.strides != (STEM_STRIDE, STEM_STRIDE):
        return "the first convolution must have stride 2"
    if convolution.channels != STEM_CHANNELS:
        return (
            f"the first convolution has {convolution.channels} input channels and "
            "must have 3; repeat a grey image three times"
        )
    return _padding_failure(convolution.padding, 1) or _plain_failure(convolution)


def depthwise_failure(convolution: Convolution) -> str | None:
    """Which condition keeps a depthwise convolution off such kernels, or None."""
    size = convolution.kernel[0]
    if convolution.kernel != (size, size) or size not in DEPTHWISE_KERNELS:
        shape = "x".join(map(str, convolution.kernel))
        return f"its depthwise kernel is {shape}; 3x3 and 5x5 are possible"
    if convolution.multiplier != 1:
        return "its depth multiplier is not 1"
    strides = convolution.strides
    if strides[0] != strides[1] or strides[0] not in DEPTHWISE_STRIDES:
        return "its stride is neither 1 nor 2"
    if convolution.dilation != (1, 1):
        return "it is dilated"
    return _padding_failure(convolution.padding, size // 2)


def _plain_failure(convolution: Convolution) -> str | None:
    if convolution.groups != 1:
        return "it has groups"
    return "it is dilated" if convolution.dilation != (1, 1) else None


def _padding_failure(padding: tuple[int, int, int, int], wanted: int) -> str | None:
    if padding == (wanted,) * 4:
        return None
    found = 'it is padded with "same" and a stride'
    if OTHER_PADDING not in padding:
        found = f"its padding is {padding} above, below, left and right"
    return (
        f"{found}; it must be {wanted} on every side: "
        f'ZeroPadding2D({wanted}) and padding "valid", see '
        "penjing.prepare_for_sparse_inference"
    )
