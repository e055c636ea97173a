"""Which tensors of a graph become int8, and which of them share a range."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import keras

from penjing.engine.activations.integer_kinds import (
    ARITHMETIC,
    FIXED_GRIDS,
    FUSED,
    WEIGHTED,
    Kind,
    activation_of,
    kind_of,
)
from penjing.errors import CompressionError
from penjing.models.graph_flow import Call, Flow, trace_flow

_GROUPS = ("output", "before_activation", "between", "gate", "bias_input")
_INTEGER = (Kind.COMPUTED, Kind.RECTIFIER, Kind.FIXED, Kind.ROUNDED, Kind.JOINED)


@dataclasses.dataclass(kw_only=True, eq=False)
class Site:
    """Where one call of an operation rounds; groups are named, `None` is nowhere.

    Attributes:
        operation: The layer or operation.
        source: Name of the call.
        in_integers: Whether it computes in integers.
        output: Group that its output is rounded to.
        before_activation: Group of what its activation takes.
        between: Group of what a separable convolution hands from its first half to
            its second.
        inputs: Position of an input -> group that it is rounded to once more.
        gate: Group of the sigmoid inside `silu`, which is its input times that.
        bias_input: Group of what the weights are multiplied with: its scale and theirs
            are the grid of the bias.
        halves_away: Halves between two integers go away from zero, as the kernel of
            average pooling rounds.
    """

    operation: Any
    source: str = ""
    in_integers: bool = False
    output: str | None = None
    before_activation: str | None = None
    between: str | None = None
    inputs: dict[int, str] = dataclasses.field(default_factory=dict)
    gate: str | None = None
    bias_input: str | None = None
    halves_away: bool = False

    @property
    def rounds(self) -> bool:
        """Whether anything is rounded here."""
        whole = (self.output, self.before_activation, self.between, self.gate)
        return any(whole) or bool(self.inputs)

    def get_config(self) -> dict[str, Any]:
        """JSON-ready fields, with the class of the operation in its place."""
        names = [field.name for field in dataclasses.fields(self)]
        config = {name: getattr(self, name) for name in names}
        config["operation"] = type(self.operation).__name__
        config["inputs"] = [[i, group] for i, group in self.inputs.items()]
        return config


@dataclasses.dataclass(kw_only=True, eq=False)
class ActivationPlan:
    """Which tensors of a model are rounded, to which ranges.

    Attributes:
        sites: One for each call, in the order of the calls.
        inputs: Group of each input of the model; `None` where it stays as it is.
        outputs: The same for the outputs.
        groups: Names of the groups whose range is found, in order.
        fixed: Group -> scale and zero point that the runtime dictates.
        ends: Those of them that are outputs of the model and that nothing reads.
        in_float: Name of a call that runs in float -> the reason.
    """

    sites: list[Site]
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    groups: tuple[str, ...]
    fixed: Mapping[str, tuple[float, int]]
    ends: frozenset[str]
    in_float: Mapping[str, str]

    def get_config(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return {
            "sites": [site.get_config() for site in self.sites],
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "groups": list(self.groups),
            "fixed": {name: list(grid) for name, grid in self.fixed.items()},
            "ends": sorted(self.ends),
            "in_float": dict(self.in_float),
        }


def restored_plan(model: keras.Model, config: Mapping[str, Any]) -> ActivationPlan:
    """The plan that `get_config` described, for a model that was made again.

    It is not planned anew, as what was planned may have hung on what has changed since.
    A model that has other operations than the plan is a CompressionError.
    """
    flow = trace_flow(model)
    calls = [] if flow is None else flow.calls
    saved = list(config["sites"])
    by_name = {site["source"]: site for site in saved}
    if all(call.source in by_name for call in calls):
        saved = [by_name[call.source] for call in calls]
    kinds = [type(call.operation).__name__ for call in calls]
    if kinds != [site["operation"] for site in saved]:
        raise CompressionError(
            f"The model {model.name!r} has other operations than those whose ranges "
            f"were saved with it: {kinds} in place of "
            f"{[site['operation'] for site in saved]}. Was its architecture changed "
            "after it was quantized?"
        )
    sites = [
        Site(
            **{
                **site,
                "operation": call.operation,
                "inputs": {int(i): group for i, group in site["inputs"]},
            }
        )
        for call, site in zip(calls, saved, strict=True)
    ]
    return ActivationPlan(
        sites=sites,
        inputs=tuple(config["inputs"]),
        outputs=tuple(config["outputs"]),
        groups=tuple(config["groups"]),
        fixed={name: (grid[0], grid[1]) for name, grid in config["fixed"].items()},
        ends=frozenset(config.get("ends", ())),  # earlier plans have none
        in_float=dict(config["in_float"]),
    )


def plan_activations(
    model: keras.Model, quantized: Collection[int]
) -> ActivationPlan | None:
    """Plan the ranges of a model as LiteRT's int8 kernels want them; None for no graph.

    Layers with a weight whose `id` is not in `quantized` run in float.
    """
    flow = trace_flow(model)
    return None if flow is None else _Planner(flow, quantized).plan()


def _is_scaling(call: Call) -> bool:
    """Whether a call multiplies by a constant."""
    return type(call.operation).__name__ == "Multiply" and len(call.inputs) == 1


class _Planner:
    def __init__(self, flow: Flow, quantized: Collection[int]) -> None:
        self.flow = flow
        self.quantized = quantized
        self.consumers = flow.consumers()
        self.giving = {call.source: call for call in flow.calls}
        self.reasons: dict[str, str] = {}
        self.kinds = {call.source: self._kind(call) for call in flow.calls}
        self.wanted = self._wanted()
        self.parents: dict[str, str] = {}
        self.fixed: dict[str, tuple[float, int]] = {}

    def plan(self) -> ActivationPlan:
        for name in self.flow.inputs:
            if name in self.wanted:
                self._add(name)
        sites = [self._site(call) for call in self.flow.calls]
        roots = {name: self._root(name) for name in self.parents}
        for site in sites:
            for field in _GROUPS:
                name = getattr(site, field)
                setattr(site, field, roots.get(name))
            site.inputs = {i: roots[name] for i, name in site.inputs.items()}
        groups = dict.fromkeys(roots.values())
        return ActivationPlan(
            sites=sites,
            inputs=tuple(roots.get(name) for name in self.flow.inputs),
            outputs=tuple(roots.get(name) for name in self.flow.outputs),
            groups=tuple(name for name in groups if name not in self.fixed),
            fixed=self.fixed,
            ends=self._ends(roots),
            in_float=self.reasons,
        )

    def _ends(self, roots: Mapping[str, str]) -> frozenset[str]:
        read = {
            roots[name]
            for call in self.flow.calls
            if self.kinds[call.source] is not Kind.SHARED
            for name in call.inputs
            if name in roots
        }
        given = {roots[name] for name in self.flow.outputs if name in roots}
        return frozenset(self.fixed) & given - read

    def _kind(self, call: Call) -> Kind:
        name = type(call.operation).__name__
        kind = kind_of(call.operation, len(call.inputs))
        reason = None
        if call.source not in self.flow.floating:
            reason = "it gives no floats"
        elif kind is Kind.FLOAT:
            reason = f"{name} has no integer kernel with trained ranges"
        elif self._masks(call):
            reason = "it masks scores, with numbers that no range should hold"
        elif name == "Softmax" and any(map(self._masks, self._before(call))):
            reason = "its scores are masked"
        elif name in WEIGHTED:
            weights = [w for w in call.operation.weights if len(w.shape) > 1]
            if not weights or any(id(w) not in self.quantized for w in weights):
                reason = "its weights are not quantized"
        if reason is not None:
            self.reasons[call.source] = reason
            return Kind.FLOAT
        return kind

    def _before(self, call: Call) -> list[Call]:
        """The calls that give the inputs of a call."""
        return [self.giving[name] for name in call.inputs if name in self.giving]

    def _masks(self, call: Call) -> bool:
        """Whether a call fills scores for a softmax, by a condition or by a sum.

        The fill is a constant, or a constant times the mask.
        """
        readers = self.consumers.get(call.source, [])
        if not readers or {type(r.operation).__name__ for r in readers} != {"Softmax"}:
            return False
        floats = [name for name in call.inputs if name in self.flow.floating]
        name = type(call.operation).__name__
        if name not in ("Where", "Add", "Subtract"):
            return False
        scaled = [before for before in self._before(call) if _is_scaling(before)]
        return len(floats) == 1 or (name != "Where" and bool(scaled))

    def _wanted(self) -> set[str]:
        """Tensors that an operation takes as integers."""
        wanted: set[str] = set()
        for call in reversed(self.flow.calls):
            kind = self.kinds[call.source]
            shared = kind is Kind.SHARED and call.source in wanted
            if kind in _INTEGER or shared:
                wanted.update(call.inputs)
        return wanted & self.flow.floating

    def _site(self, call: Call) -> Site:
        kind = self.kinds[call.source]
        site = Site(
            operation=call.operation,
            source=call.source,
            in_integers=kind is Kind.COMPUTED,
        )
        if kind in (Kind.SHARED, Kind.ROUNDED):
            if call.inputs[0] in self.parents:
                self._add(call.source)
                self._join(call.source, call.inputs[0])
                site.output = call.source if kind is Kind.ROUNDED else None
                name = type(call.operation).__name__
                site.halves_away = name.startswith("AveragePooling")
        elif kind is Kind.JOINED:
            self._joined(call, site)
        elif kind is Kind.FLOAT:
            if call.source in self.wanted:
                self._add(call.source)
                site.output = call.source
        else:
            self._computed(call, site)
        return site

    def _joined(self, call: Call, site: Site) -> None:
        self._add(call.source)
        for i, name in enumerate(call.inputs):
            if name not in self.flow.floating:
                continue  # the condition of `where`
            if self._root(name) in self.fixed:
                site.inputs[i] = call.source
            else:
                self._join(call.source, name)

    def _computed(self, call: Call, site: Site) -> None:
        operation = call.operation
        if type(operation).__name__.startswith("Separable"):
            site.between = f"{call.source}/between"
            self._add(site.between)
        activation = activation_of(operation) or "linear"
        if activation == "silu":
            site.gate = f"{call.source}/sigmoid"
            self._add(site.gate)
            self.fixed[site.gate] = FIXED_GRIDS["sigmoid"]
        weighted = type(operation).__name__ in WEIGHTED
        if weighted:
            site.bias_input = site.between or call.inputs[0]
        if weighted and activation not in FUSED:
            site.before_activation = f"{call.source}/before_activation"
            self._add(site.before_activation)
        if activation in FIXED_GRIDS:
            self.fixed[call.source] = FIXED_GRIDS[activation]
        elif (
            activation == "other"
            and call.source not in self.wanted
            or activation == "linear"
            and self._fuses(call)
        ):
            return
        self._add(call.source)
        site.output = call.source

    def _fuses(self, call: Call) -> bool:
        """Whether a rectifier after it becomes one operator with it."""
        readers = self.consumers.get(call.source, [])
        name = type(call.operation).__name__
        return (
            (name in WEIGHTED or name in ARITHMETIC)
            and len(readers) == 1
            and self.kinds[readers[0].source] is Kind.RECTIFIER
            and call.source not in self.flow.outputs
        )

    def _add(self, name: str) -> None:
        self.parents.setdefault(name, name)

    def _root(self, name: str) -> str:
        while self.parents[name] != name:
            name = self.parents[name]
        return name

    def _join(self, name: str, other: str) -> None:
        """Let two tensors share a range; its name is that of the earlier one."""
        ours, theirs = self._root(name), self._root(other)
        order = list(self.parents)
        first, last = sorted((ours, theirs), key=order.index)
        self.parents[last] = first
