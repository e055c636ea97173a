"""The RAM that a cut model's int8 file will take in TensorFlow Lite Micro."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from penjing.channels.cut_costs import CutCosts, Kept
from penjing.channels.cut_search import Candidates, OutOfReachError
from penjing.channels.rules.units import Channels, Layout
from penjing.channels.tracing import ChannelGraph, trace_channels
from penjing.errors import UnsupportedModelError
from penjing.models.graph_flow import as_graph, follow_graph

# Of operators, descriptions of tensors, and multipliers of each convolution's channel,
# fitted to the networks in `benchmarks/results/micro_networks.json`: 0.7 to 1.1 times
# what their arenas keep besides activations.
_ARENA_BYTES, _LAYER_BYTES, _DECODER_BYTES, _CHANNEL_BYTES = 1_200, 260, 150, 8
PLAIN_BITS = 8.0  # of a weight that is not packed
_INDEX_BYTES = 4  # inputs that are no floats stay integers of 32 bits
# What converters fold into the layer before, or what only names a tensor anew.
_FOLDED = (
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.ReLU,
)
_FOLDED_ACTIVATIONS = ("linear", "relu", "relu6")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Tensor:
    """Bytes of a tensor at each place of its channels; without ids, of all of it."""

    bytes: int
    ids: Any = None

    def size(self, stays: Any) -> float:
        return self.bytes * (1 if self.ids is None else int(stays[self.ids].sum()))


@dataclasses.dataclass(kw_only=True, eq=False)
class _Step:
    """One operator: what lives while it runs, and the kernels that it reads."""

    made: list[_Tensor]
    kernels: tuple[str, ...]
    has_multipliers: bool
    live: list[_Tensor] = dataclasses.field(default_factory=list)


class PeakMemory:
    """The arena of a model's int8 file after a cut, without building it.

    An estimate: it is the most that activations take at once, in the order of the
    graph, and what descriptions take besides. What is within a layer is not seen, nor
    which gaps the memory planner leaves.

    Args:
        graph: The traced model, with sizes that are known but for the batch.
        costs: Of the same model.
        decodes: Whether weights are packed: then one lies in the arena, decoded, while
            its layer runs.
    """

    def __init__(self, graph: ChannelGraph, costs: CutCosts, *, decodes: bool) -> None:
        self._graph, self._costs, self._decodes = graph, costs, decodes
        self._steps = _steps_of(graph)

    def arena(self, kept: Kept) -> float:
        """Bytes of the arena.

        Args:
            kept: Group name -> `(size,)`, True where a unit stays; empty for no cut.
        """
        stays = self._graph.kept_ids(dict(kept))
        peak = max((self._live(s, kept, stays) for s in self._steps), default=0.0)
        return peak + self._rest(stays)

    def fullest(self, kept: Kept) -> Callable[[Kept], float]:
        """The arena that the step which takes most after a cut needs, by itself."""
        stays = self._graph.kept_ids(dict(kept))
        step = max(self._steps, key=lambda s: self._live(s, kept, stays))

        def needed(other: Kept) -> float:
            stays = self._graph.kept_ids(dict(other))
            return self._live(step, other, stays) + self._rest(stays)

        return needed

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
        layers = [step for step in self._steps if step.kernels]
        each = _LAYER_BYTES + (_DECODER_BYTES if self._decodes else 0)
        channels = sum(
            tensor.size(stays) / tensor.bytes if tensor.ids is not None else 0
            for step in layers
            if step.has_multipliers
            for tensor in step.made
        )
        return _ARENA_BYTES + each * len(layers) + _CHANNEL_BYTES * channels


def arena_of(model: keras.Model, *, decodes: bool) -> float:
    """Estimate the arena of a model's int8 file as it is; see `PeakMemory`."""
    graph = trace_channels(model)
    return PeakMemory(graph, CutCosts(model, graph), decodes=decodes).arena({})


def within_arena(
    candidates: Sequence[Candidates], memory: PeakMemory, limit: float
) -> list[Candidates]:
    """The same groups with at most as many units as an arena has room for.

    While the fullest step needs too much, the group gives units that loses least for
    each byte of it.
    """
    groups = list(candidates)

    def kept() -> Kept:
        return {group.name: group.best(group.allowed[-1]) for group in groups}

    while memory.arena(kept()) > limit:
        needed = memory.fullest(kept())
        before, best = needed(kept()), (math.inf, -1)
        for number, group in enumerate(groups):
            if len(group.allowed) < 2:
                continue
            fewer = {**kept(), group.name: group.best(group.allowed[-2])}
            if (saved := before - needed(fewer)) > 0:
                best = min(best, (group.worth_of_last() / saved, number))
        if best[1] < 0:
            least = math.ceil(memory.arena(kept()))
            raise OutOfReachError(
                f"max_arena={limit:,.0f} cannot be met: the best that can be reached "
                f"is {least:,} bytes, estimated. Lower `round_to` or `min_channels`, "
                "let more layers be cut, or make the model's input smaller.",
                least,
                argument="max_arena",
            )
        group = groups[best[1]]
        groups[best[1]] = dataclasses.replace(group, ceiling=group.allowed[-2])
    return groups


def _steps_of(graph: ChannelGraph) -> list[_Step]:
    """The operators of a model in their order, each with what lives as it runs."""
    top = as_graph(graph.model)
    steps: list[_Step] = []
    inputs = [_tensor_of(tensor, None) for tensor in top.inputs]
    last_use: dict[int, int] = {}
    born: dict[int, tuple[int, _Tensor]] = {id(t): (0, t) for t in inputs}

    def visit(node: Any, values: list[_Tensor], prefix: str) -> list[_Tensor]:
        if len(values) == 1 and len(node.outputs) == 1 and _is_folded(node.operation):
            return values
        layouts = graph.trace.layouts
        made = [_tensor_of(t, layouts.get(id(t))) for t in node.outputs]
        kernels = [
            weight
            for weight in getattr(node.operation, "weights", ())
            if len(weight.shape) > 1
        ]
        for value in values:
            last_use[id(value)] = len(steps)
        for tensor in made:
            born[id(tensor)] = len(steps), tensor
        steps.append(
            _Step(
                made=made,
                kernels=tuple(weight.path for weight in kernels),
                has_multipliers=any(len(weight.shape) > 2 for weight in kernels),
            )
        )
        return made

    for value in follow_graph(top, inputs, visit):
        last_use[id(value)] = len(steps) - 1
    for key, (first, tensor) in born.items():
        for step in steps[first : last_use.get(key, first) + 1]:
            step.live.append(tensor)
    return steps


def _tensor_of(tensor: Any, layout: Layout | None) -> _Tensor:
    sizes = list(tensor.shape[1:])
    if None in sizes:
        raise UnsupportedModelError(
            f"`max_arena` needs sizes that are known, and {tensor.name!r} in the model "
            f"has the shape {tuple(tensor.shape)}. Make it with a keras.Input of known "
            "sizes, or leave `max_arena` out."
        )
    is_float = "float" in keras.backend.standardize_dtype(tensor.dtype)
    each = 1 if is_float else _INDEX_BYTES
    if isinstance(layout, Channels):
        del sizes[layout.axis - 1]
        return _Tensor(bytes=each * math.prod(sizes), ids=layout.ids)
    return _Tensor(bytes=each * math.prod(sizes))


def _is_folded(operation: Any) -> bool:
    if isinstance(operation, keras.layers.Activation):
        name = getattr(operation.activation, "__name__", "")
        return name in _FOLDED_ACTIVATIONS
    return isinstance(operation, _FOLDED)
