"""What a report shows of layers, weights and examples, as values.

All of it is small, whatever the model and the data are: pictures are shrunk, and lists
are cut. What is not there is named in `Evidence.left_out`, with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from penjing.json_values import JsonValue


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRow(JsonValue):
    """What became of one layer; what nobody measured is None.

    Args:
        name: Keras path of the layer.
        kind: Its class.
        parameters: Numbers in its weights before.
        parameters_after: The same after.
        channels: Channels of its output before.
        channels_after: The same after.
        zeros: Zeros among its weights after.
        levels: Distinct values of its largest weight in the file.
        bits: Bits in which the file stores a value of its largest weight.
        bytes: Bytes of its matrices and kernels in the file.
        bytes_before: Bytes of these as float32, before.
        flash: Bytes of flash on a microcontroller, once the file is packed.
        macs: Multiply-accumulates for one sample, before.
        macs_after: The same after.
        seconds: What its operators take in the file.
        error: How far its outputs in the compressed Keras model lie from those of the
            baseline's layer, on the same samples: root mean square of the difference
            by that of the outputs.
        reason: Why nothing was done to it, where something might have been.
    """

    name: str
    kind: str
    parameters: int
    parameters_after: int | None = None
    channels: int | None = None
    channels_after: int | None = None
    zeros: int | None = None
    levels: int | None = None
    bits: float | None = None
    bytes: int | None = None
    bytes_before: int | None = None
    flash: int | None = None
    macs: int | None = None
    macs_after: int | None = None
    seconds: float | None = None
    error: float | None = None
    reason: str = ""

    @property
    def is_untouched(self) -> bool:
        """Whether it has no weights, so that nothing was to be done."""
        return not self.parameters and not self.parameters_after


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightPicture(JsonValue):
    """The values of one weight before and after.

    Zeros are counted apart: after pruning they would dwarf all others.

    Args:
        path: Keras path of the weight.
        shape: Its shape after.
        low: Left end of the histograms.
        high: Right end of the histograms.
        before: How many values other than zero fell in each bin, in the baseline; empty
            where it has no such weight. Of a large weight some are counted.
        after: The same in the compressed model.
        zeros_before: How many were zero.
        zeros_after: How many are zero.
        mask: A picture of what is left: one text for each row of the weight as a
            matrix, one digit for each place, 0 where all is zero to 9 where most is
            left. Large ones are averaged.
    """

    path: str
    shape: tuple[int, ...]
    low: float
    high: float
    before: tuple[int, ...] = ()
    after: tuple[int, ...]
    zeros_before: int | None = None
    zeros_after: int
    mask: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExampleRow(JsonValue):
    """A sample of the test data on which baseline and result differ.

    Args:
        index: Its place in the test data.
        label: What is right, as text.
        before: What the baseline says.
        after: What the compressed file says.
        change: `"better"` or `"worse"`.
        picture: The input as a PNG file in base64, where it is an image.
        series: The input as numbers, where it is a series; long ones are cut.
        text: The input as text, where it is neither.
    """

    index: int
    label: str
    before: str
    after: str
    change: str
    picture: str = ""
    series: tuple[float, ...] = ()
    text: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfusionRow(JsonValue):
    """How often one class was taken for another, before and after.

    Args:
        label: The class.
        taken_for: What it was taken for; the class itself where it was known.
        before: How often the baseline did so.
        after: How often the compressed file does.
    """

    label: str
    taken_for: str
    before: int
    after: int

    @property
    def change(self) -> str:
        """Whether it became `"better"`, `"worse"` or stayed the `"same"`."""
        if self.before == self.after:
            return "same"
        is_right = self.label == self.taken_for
        return "better" if (self.after > self.before) == is_right else "worse"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeRow(JsonValue):
    """What one file takes for one sample.

    Args:
        name: The file.
        runtime: What ran it, as "LiteRT 2.3.0, 1 thread".
        seconds: Median.
        speedup: Time of the baseline's float file over this one's: 2.0 is twice as
            fast.
        speedup_low: Lower end of its 95 % confidence interval, where that is known.
        speedup_high: Upper end.
    """

    name: str
    runtime: str
    seconds: float
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence(JsonValue):
    """What can be seen of a compression beside its totals.

    Args:
        layers: A row for each layer, in the model's order.
        weights: Pictures of the largest weights.
        examples: Samples that changed sides, those that became wrong first.
        confusion: Classes that were taken for another more often, or less.
        samples: How many test samples examples and confusion are of.
        turned_wrong: How many of these the baseline knows and the file does not.
        turned_right: How many the file knows and the baseline does not.
        times: What the files take.
        left_out: What is not here, and why.
    """

    layers: tuple[LayerRow, ...] = ()
    weights: tuple[WeightPicture, ...] = ()
    examples: tuple[ExampleRow, ...] = ()
    confusion: tuple[ConfusionRow, ...] = ()
    samples: int = 0
    turned_wrong: int | None = None
    turned_right: int | None = None
    times: tuple[TimeRow, ...] = ()
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
