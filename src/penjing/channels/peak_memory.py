"""The RAM that a cut model's int8 file will take in TensorFlow Lite Micro."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import keras

from penjing.channels.cut_costs import CutCosts, Kept
from penjing.channels.cut_search import Candidates, OutOfReachError
from penjing.channels.rules.units import Channels, Layout
from penjing.channels.tracing import ChannelGraph, trace_channels
from penjing.engine.activations.integer_kinds import FUSED, WEIGHTED, activation_of
from penjing.errors import UnsupportedModelError
from penjing.models.graph_flow import as_graph, follow_graph

# Of operators, descriptions of tensors, and multipliers of each convolution's channel,
# fitted to the networks in `benchmarks/results/micro_networks.json`: 0.7 to 1.1 times
# what their arenas keep besides activations.
_ARENA_BYTES, _LAYER_BYTES, _DECODER_BYTES, _CHANNEL_BYTES = 1_200, 260, 150, 8
PLAIN_BITS = 8.0  # of a weight that is not packed
_INDEX_BYTES = 4  # inputs that are no floats stay integers of 32 bits
# What gives the tensor that it takes, in a file.
_SAME = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
    keras.layers.ActivityRegularization,
    keras.layers.Identity,
    keras.layers.Flatten,
    keras.layers.Reshape,
)
# Activations that TFLM computes with a tensor more than what they take and give.
_COMPOSED = ("silu", "swish", "gelu", "mish", "softplus", "softsign")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Tensor:
    """A tensor of `each` bytes for one channel, whose ids it has where some may go."""

    each: int
    channels: int
    ids: Any = None

    def kept(self, stays: Any) -> int:
        return self.channels if self.ids is None else int(stays[self.ids].sum())

    def size(self, stays: Any) -> int:
        return self.each * self.kept(stays)


@dataclasses.dataclass(kw_only=True, eq=False)
class _Step:
    """One operator: what lives while it runs, and the kernels that it reads.

    `scaled` are outputs of a convolution, each of whose channels has a multiplier.
    """

    kernels: tuple[str, ...] = ()
    scaled: tuple[_Tensor, ...] = ()
    live: list[_Tensor] = dataclasses.field(default_factory=list)


class PeakMemory:
    """The arena of a model's int8 file after a cut, without building it.

    An estimate: it is the most that activations take at once, in the order of the
    graph, and what descriptions take besides. What is within a layer is not seen, nor
    which gaps the memory planner leaves.

    Args:
        graph: The traced model, with sizes that are known but for the batch.
        costs: Of the same model.
        weight_bits: Of a number of a weight in the file. Below `PLAIN_BITS` weights are
            packed: then one lies in the arena, decoded, while its layer runs.
    """

    def __init__(
        self, graph: ChannelGraph, costs: CutCosts, *, weight_bits: float
    ) -> None:
        self._graph, self._costs = graph, costs
        self._decodes = weight_bits < PLAIN_BITS
        self._steps = _Order(graph).steps

    def arena(self, kept: Kept) -> float:
        """Bytes of the arena.

        Args:
            kept: Group name -> `(size,)`, True where a unit stays; empty for no cut.
        """
        stays = self._graph.kept_ids(dict(kept))
        peak = max((self._live(s, kept, stays) for s in self._steps), default=0.0)
        return peak + self._rest(stays)

    def fullest(self, kept: Kept) -> Callable[[Kept], float]:
        """What lives, after any cut, in the step that takes most after this one."""
        stays = self._graph.kept_ids(dict(kept))
        step = max(self._steps, key=lambda s: self._live(s, kept, stays))

        def live(other: Kept) -> float:
            return self._live(step, other, self._graph.kept_ids(dict(other)))

        return live

    def _live(self, step: _Step, kept: Kept, stays: Any) -> float:
        total = sum(tensor.size(stays) for tensor in step.live)
        return total + (self._decoded(step, kept) if self._decodes else 0.0)

    def _decoded(self, step: _Step, kept: Kept) -> float:
        costs = self._costs
        sizes = (
            math.prod(costs.shapes[path])
            * math.prod(costs.fractions(path, kept).values())
            for path in step.kernels
        )
        return max(sizes, default=0.0)  # a layer of several kernels is several steps

    def _rest(self, stays: Any) -> float:
        layers = sum(bool(step.kernels) for step in self._steps)
        each = _LAYER_BYTES + (_DECODER_BYTES if self._decodes else 0)
        scaled = [tensor for step in self._steps for tensor in step.scaled]
        channels = sum(tensor.kept(stays) for tensor in scaled)
        return _ARENA_BYTES + each * layers + _CHANNEL_BYTES * channels


def arena_of(model: keras.Model, *, weight_bits: float = PLAIN_BITS) -> float:
    """Estimate the arena of a model's int8 file as it is; see `PeakMemory`."""
    graph = trace_channels(model)
    return PeakMemory(graph, CutCosts(model, graph), weight_bits=weight_bits).arena({})


def within_arena(
    candidates: Sequence[Candidates], memory: PeakMemory, limit: float
) -> list[Candidates]:
    """The same groups with at most as many units as an arena has room for.

    While there is too little, of the groups that lie in the fullest step the one gives
    units that loses the least share of its scores for each byte. What is left of the
    room then gives units back.
    """
    groups = list(candidates)
    while True:
        kept = _most_kept(groups)
        arena = memory.arena(kept)
        if arena <= limit:
            return _refilled(groups, memory, limit)
        live, choices = memory.fullest(kept), []
        whole = live(kept)
        for number, group in enumerate(groups):
            if len(group.allowed) > 1:
                fewer = {**kept, group.name: group.best(group.allowed[-2])}
                saved = whole - live(fewer)
                if saved > 0:
                    choices.append((group.share_of_last() / saved, number))
        if not choices:
            raise _out_of_reach(limit, math.ceil(arena))
        _, number = min(choices)
        fewest = groups[number].allowed[-2]
        groups[number] = dataclasses.replace(groups[number], ceiling=fewest)


def _most_kept(groups: Sequence[Candidates]) -> Kept:
    return {group.name: group.best(group.allowed[-1]) for group in groups}


def _refilled(
    groups: list[Candidates], memory: PeakMemory, limit: float
) -> list[Candidates]:
    """Give back units, the largest shares first, as long as there is room."""
    while True:
        choices = []
        for number, group in enumerate(groups):
            whole = dataclasses.replace(group, ceiling=None).allowed
            more = [count for count in whole if count > group.allowed[-1]]
            if more:
                larger = dataclasses.replace(group, ceiling=more[0])
                trial = [*groups[:number], larger, *groups[number + 1 :]]
                if memory.arena(_most_kept(trial)) <= limit:
                    choices.append((larger.share_of_last(), number, trial))
        if not choices:
            return groups
        groups = max(choices, key=lambda choice: choice[:2])[2]


def _out_of_reach(limit: float, least: int) -> OutOfReachError:
    return OutOfReachError(
        f"max_arena={limit:,.0f} cannot be met: the best that can be reached is "
        f"{least:,} bytes, estimated, where memory is fullest. Lower `round_to` or "
        "`min_channels`, raise `tolerance` where a `sensitivity` table is given, let "
        "more layers be cut, or make the model's input smaller.",
        least,
        argument="max_arena",
    )


class _Order:
    """The operators of a model in their order, each with what lives as it runs."""

    def __init__(self, graph: ChannelGraph) -> None:
        self.steps: list[_Step] = []
        self._layouts = graph.trace.layouts
        self._born: list[tuple[int, _Tensor]] = []
        self._last_use: dict[int, int] = {}
        self._makers: dict[int, Any] = {}
        top = as_graph(graph.model)
        self._readers = iter(_lone_readers(top))
        inputs = [self._tensor(tensor, at=0) for tensor in top.inputs]
        for value in follow_graph(top, inputs, self._visit):
            self._last_use[id(value)] = len(self.steps) - 1
        for first, tensor in self._born:
            last = self._last_use.get(id(tensor), first)
            for step in self.steps[first : last + 1]:
                step.live.append(tensor)

    def _visit(self, node: Any, values: list[_Tensor], prefix: str) -> list[_Tensor]:
        operation, is_lone = node.operation, next(self._readers)
        if len(values) == 1 == len(node.outputs):
            if isinstance(operation, _SAME):
                return values
            if is_lone and self._is_folded(operation, values[0]):
                self._makers[id(values[0])] = operation
                return values
        made = self._step(operation, values, node.outputs)
        activation = getattr(operation, "activation", None)
        if isinstance(operation, keras.layers.Activation):
            self._add_temporary(activation, made[0])
        elif _is_weighted(operation) and activation_of(operation) not in FUSED:
            return self._step(activation, made, node.outputs)
        return made

    def _step(
        self, operation: Any, values: list[_Tensor], outputs: Sequence[Any]
    ) -> list[_Tensor]:
        number = len(self.steps)
        made = [self._tensor(tensor, at=number) for tensor in outputs]
        self._makers |= {id(tensor): operation for tensor in made}
        self._last_use |= {id(value): number for value in values}
        kernels = [w for w in getattr(operation, "weights", ()) if len(w.shape) > 1]
        is_convolution = any(len(weight.shape) > 2 for weight in kernels)
        self.steps.append(
            _Step(
                kernels=tuple(weight.path for weight in kernels),
                scaled=tuple(made) if is_convolution else (),
            )
        )
        if not kernels:
            self._add_temporary(operation, made[0])
        return made

    def _add_temporary(self, activation: Any, made: _Tensor) -> None:
        if getattr(activation, "__name__", "") in _COMPOSED:
            self.steps[-1].live.append(made)

    def _is_folded(self, operation: Any, value: _Tensor) -> bool:
        """Whether converters make it one with the layer that it alone reads."""
        maker = self._makers.get(id(value))
        if isinstance(operation, keras.layers.BatchNormalization):
            return _is_weighted(maker) and activation_of(maker) == "linear"
        is_activation = isinstance(
            operation, (keras.layers.Activation, keras.layers.ReLU)
        )
        return maker is not None and is_activation and activation_of(operation) in FUSED

    def _tensor(self, tensor: Any, *, at: int) -> _Tensor:
        found = _tensor_of(tensor, self._layouts.get(id(tensor)))
        self._born.append((at, found))
        return found


def _lone_readers(top: Any) -> list[bool]:
    """Of each call of a graph whether it alone reads its first input."""
    numbers, readers = itertools.count(), Counter[int]()
    first: list[int] = []

    def visit(node: Any, values: list[int], prefix: str) -> list[int]:
        first.append(values[0] if values else -1)
        readers.update(set(values))
        return [next(numbers) for _ in node.outputs]

    inputs = [next(numbers) for _ in top.inputs]
    readers.update(follow_graph(top, inputs, visit))
    return [readers[number] == 1 for number in first]


def _is_weighted(operation: Any) -> bool:
    return type(operation).__name__ in WEIGHTED


def _tensor_of(tensor: Any, layout: Layout | None) -> _Tensor:
    sizes = list(tensor.shape[1:])
    if None in sizes:
        raise UnsupportedModelError(
            f"`max_arena` needs sizes that are known, and {tensor.name!r} in the model "
            f"has the shape {tuple(tensor.shape)}. Make it with a keras.Input of known "
            "sizes, models within it too, or leave `max_arena` out."
        )
    is_float = "float" in keras.backend.standardize_dtype(tensor.dtype)
    each = 1 if is_float else _INDEX_BYTES
    axis = layout.axis - 1 if isinstance(layout, Channels) else -1
    channels = sizes.pop(axis) if sizes else 1
    ids = layout.ids if isinstance(layout, Channels) else None
    return _Tensor(each=each * math.prod(sizes), channels=channels, ids=ids)
