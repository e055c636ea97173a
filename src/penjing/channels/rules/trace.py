"""What tracing the channels of a graph finds out, and one call as a rule sees it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from penjing.channels.rules.units import Channels, Layout, UnitTable, Whole

_JOINS = "joins it with what stays whole: "


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TracedAxis:
    """An axis of a Keras variable that channels lie on, in a role of `GroupMember`.

    `also_read` says of one that makes channels that it sums them up as well, as a tied
    embedding does.
    """

    variable: Any
    axis: int
    ids: np.ndarray
    role: str
    also_read: bool = False


class ChannelTrace:
    """What the rules note down while they follow a graph.

    Attributes:
        units: Ids, ties and pins.
        axes: Axes of variables that channels lie on, by variable and axis.
        producers: Paths of layers that make channels, with the id of each channel.
        config_edits: Operation -> config key -> what it becomes. An array of ids
            stands for the number of them that are kept, within tuples too.
        argument_edits: The same for positional arguments of calls.
        skipped: Path of a layer that leaves channels whole -> why.
        layouts: `id` of a tensor that a call of the graph gives -> where its channels
            lie, at the last call.
    """

    def __init__(self) -> None:
        self.units = UnitTable()
        self.axes: dict[tuple[int, int], TracedAxis] = {}
        self.producers: list[tuple[str, np.ndarray]] = []
        self.config_edits: dict[int, dict[str, Any]] = {}
        self.argument_edits: dict[int, dict[int, Any]] = {}
        self.skipped: dict[str, str] = {}
        self.layouts: dict[int, Layout] = {}
        self._whole: dict[tuple[int, int], str] = {}
        self._made: dict[tuple[int, str], np.ndarray] = {}
        self._touched: set[int] = set()
        self._calls: dict[int, set[bool]] = {}

    def add_axis(self, variable: Any, axis: int, ids: np.ndarray, role: str) -> None:
        """Note that channels lie on an axis; a shared variable ties its readers."""
        key = id(variable), axis % len(variable.shape)
        known = self.axes.get(key)
        if known is not None:
            self.units.tie(known.ids, ids)
            if known.role != role and "input" in (known.role, role):
                both = known.role if role == "input" else role
                self.axes[key] = dataclasses.replace(known, role=both, also_read=True)
        else:
            self.axes[key] = TracedAxis(
                variable=variable, axis=key[1], ids=ids, role=role
            )
        if key in self._whole:
            self.units.pin(ids, self._whole[key])

    def keep_axis(self, variable: Any, axis: int, reason: str) -> None:
        """Note that an axis must stay whole, whoever else reads it; `None` has none."""
        if variable is None:
            return
        key = id(variable), axis % len(variable.shape)
        self._whole.setdefault(key, reason)
        if key in self.axes:
            self.units.pin(self.axes[key].ids, reason)

    def keep_axes(self, variable: Any, reason: str) -> None:
        """Note that all axes of a variable must stay whole."""
        for axis in range(len(variable.shape)):
            self.keep_axis(variable, axis, reason)

    def make(
        self, operation: Any, slot: str, size: int, path: str, width: int
    ) -> np.ndarray:
        """Ids of what an operation makes, the same in all calls."""
        key = id(operation), slot
        if key not in self._made:
            self._made[key] = self.units.new(size)
            self.producers.append((path, np.repeat(self._made[key], width)))
        return self._made[key]

    def edit(self, operation: Any, key: str, value: Any) -> None:
        """Note how a config changes; several calls must change it alike."""
        self._touched.add(id(operation))
        edits = self.config_edits.setdefault(id(operation), {})
        if key in edits:
            self._tie_values(edits[key], value)
        edits[key] = value

    def end_call(self, operation: Any) -> None:
        """Remember whether a call changes the config of its operation."""
        changed = id(operation) in self._touched
        self._calls.setdefault(id(operation), set()).add(changed)
        self._touched.clear()

    def keep_uneven(self) -> None:
        """Pin what one call changes in the config of a layer, and another does not."""
        for operation, changes in self._calls.items():
            if len(changes) > 1:
                for value in self.config_edits[operation].values():
                    for ids in _flat_ids(value):
                        self.units.pin(ids, "another call of a shared layer is whole")

    def _tie_values(self, one: Any, other: Any) -> None:
        for first, second in zip(_flat_ids(one), _flat_ids(other), strict=False):
            if first.shape == second.shape:
                self.units.tie(first, second)
            else:
                reason = "a shared layer has other channels in another call"
                self.units.pin(first, reason)
                self.units.pin(second, reason)


def _flat_ids(value: Any) -> list[np.ndarray]:
    values = value if isinstance(value, tuple | list) else (value,)
    return [entry for entry in values if isinstance(entry, np.ndarray)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ChannelStep:
    """One call of an operation, as a channel rule sees it.

    A rule notes what happens to the channels and returns the layout of the output,
    or a list of layouts where there are several outputs.

    Args:
        operation: The Keras layer or operation.
        path: Its path in the model.
        tensors: Symbolic input tensors, with `shape` and `dtype`.
        layouts: Layout of each of them.
        outputs: Symbolic output tensors.
        arguments: Positional and keyword arguments of the call.
        trace: Where the rule notes down what it finds.
    """

    operation: Any
    path: str
    tensors: Sequence[Any]
    layouts: Sequence[Layout]
    outputs: Sequence[Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    trace: ChannelTrace

    @property
    def layout(self) -> Layout:
        """Layout of the first input."""
        return self.layouts[0]

    @property
    def shapes(self) -> list[tuple[int | None, ...]]:
        """Shape of each input."""
        return [tuple(tensor.shape) for tensor in self.tensors]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the first input."""
        return self.shapes[0]

    @property
    def output_shapes(self) -> list[tuple[int | None, ...]]:
        """Shape of each output."""
        return [tuple(tensor.shape) for tensor in self.outputs]

    @property
    def rank(self) -> int:
        """Number of axes of the first input."""
        return len(self.shape)

    @property
    def reason(self) -> str:
        """Why the channels of the first input stay."""
        return self._reason_of(self.layout)

    def _reason_of(self, layout: Layout) -> str:
        if isinstance(layout, Whole):
            return layout.reason
        return f"{self.describe()} works along another axis than its channels'"

    @property
    def named_arguments(self) -> dict[str, Any]:
        """Arguments of the call by the names that the operation gives them."""
        positional, named = self.arguments
        names = inspect.signature(self.operation.call).parameters
        return {**dict(zip(names, positional, strict=False)), **named}

    def ids_on(self, axis: int) -> np.ndarray | None:
        """Ids of the first input's channels if they lie on an axis, else `None`."""
        layout = self.layout
        if isinstance(layout, Channels) and layout.axis == axis % self.rank:
            return layout.ids
        return None

    def read(self, variable: Any, axis: int, layout: Layout, at: int) -> None:
        """Note that a kernel's axis sums up the channels on axis `at` of an input."""
        if isinstance(layout, Channels) and layout.axis == at:
            self.trace.add_axis(variable, axis, layout.ids, "input")
            return
        reason = self._reason_of(layout)
        self.pin(layout, reason)
        self.trace.keep_axis(variable, axis, reason)

    def carry(self, variable: Any, axis: int, ids: np.ndarray, role: str) -> None:
        """Note that channels lie on an axis of a variable; `None` is ignored."""
        if variable is not None:
            self.trace.add_axis(variable, axis, ids, role)

    def produce(self, size: int, slot: str = "", width: int = 1) -> np.ndarray:
        """Ids of the channels that this operation makes, the same in all its calls.

        A slot is added to the path where one operation makes several kinds. An id
        stands for `width` channels: more than 1 for heads.
        """
        path = f"{self.path}/{slot}" if slot else self.path
        return self.trace.make(self.operation, slot, size, path, width)

    def edit(self, key: str, value: Any, operation: Any = None) -> None:
        """Note what a key of the config, this operation's or another's, becomes.

        An array of ids stands for the number of them that are kept.
        """
        self.trace.edit(operation or self.operation, key, value)

    def edit_argument(self, position: int, value: Any) -> None:
        """Note what a positional argument of this call becomes."""
        edits = self.trace.argument_edits.setdefault(id(self.operation), {})
        edits[position] = value

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        """Let the channels at the same places fall together."""
        self.trace.units.tie(first, second)

    def pin(self, layout: Layout, reason: str) -> None:
        """Let the channels of a tensor stay."""
        if isinstance(layout, Channels):
            self.trace.units.pin(layout.ids, reason)

    def joined(self, reason: str) -> str:
        """Why what is joined with a whole tensor stays, with the first cause alone."""
        return f"{self.describe()} {_JOINS}{reason.rpartition(_JOINS)[2]}"

    def leave(self, reason: str) -> list[Layout]:
        """Let all inputs and outputs stay whole; see `Whole` for the reason."""
        for layout in self.layouts:
            self.pin(layout, reason)
        if any(isinstance(layout, Channels) for layout in self.layouts):
            return self.stay(reason)
        return [Whole(reason) for _ in self.output_shapes]

    def stay(self, reason: str) -> list[Layout]:
        """Let all outputs stay whole, and say so; the reason is as in `leave`."""
        self.trace.skipped.setdefault(self.path, reason)
        return [Whole(reason) for _ in self.output_shapes]

    def constant(self, size: int, reason: str) -> np.ndarray:
        """Ids for channels that never go."""
        ids = self.trace.units.new(size)
        self.trace.units.pin(ids, reason)
        return ids

    def describe(self) -> str:
        """What a user knows this operation by."""
        kind = type(self.operation).__name__
        if isinstance(self.operation, keras.layers.Layer):
            return f"{self.operation.name!r} of class {kind}"
        return f"the operation {kind}"
