"""The public function: a `.tflite` file in, the same function in fewer bytes out."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penjing.errors import FileFormatError
from penjing.export.finishing import plain_steps, scale_steps
from penjing.export.finishing.bias_rounding import round_biases
from penjing.export.finishing.flat_buffer_writer import MAX_FILE_BYTES, write_records
from penjing.export.finishing.loading import load_records
from penjing.export.finishing.records import Record
from penjing.export.finishing.report import ShrinkReport, ShrinkStep
from penjing.export.finishing.trials import Trial
from penjing.export.finishing.unit_order import reorder_units
from penjing.files import write_bytes
from penjing.model_files import check_file

# What float arithmetic in another order may change, relative to the largest output.
REORDERING_TOLERANCE = 1e-4
_MOST_TRIALS = 40  # of single edits, where they do not work all together
_MANTISSA_BITS = 23
_NOT_SMALLER = "no bytes to win"


def shrink_litert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    keep_names: bool = False,
    keep_metadata: bool = False,
    keep_signature: bool = True,
    bias_bits: int | str | None = None,
    encoding: str | None = None,
    tolerance: float = 1e-2,
    representative_data: Any = None,
    verify: bool = True,
) -> ShrinkReport:
    """Rewrite a `.tflite` file in fewer bytes, without changing what it computes.

    Works on any file that LiteRT runs, whoever wrote it. After every step the new file
    is run beside the original, with LiteRT's fastest and with its plain kernels, on
    random inputs and those at the bounds of their types; a step that changes outputs
    more than it may, or that wins nothing, is not taken. Files are run in a process of
    their own, which a hostile one may crash.

    Taken without changing a single bit of any output: texts, metadata and quantization
    ranges that nothing reads, unused and duplicate parts, scales that say nothing, and
    a tighter layout. Hidden units and channels are reordered so that compressors find
    runs: outputs of integer models stay the same, bit by bit; those of float models up
    to rounding (`REORDERING_TOLERANCE`).

    Args:
        path: The file.
        out: File to write. Default: `path` is replaced, once the new file is proven.
        keep_names: Keep the names of tensors and graphs.
        keep_metadata: Keep metadata and description. Metadata may hold labels or
            normalisation values that an application reads.
        keep_signature: Keep the names of inputs and outputs. `LiteRTModel` and
            `penjing.evaluate` run a file without them, by position.
        bias_bits: Round float biases to this many mantissa bits, 0 to 23; "auto" finds
            the fewest with which outputs stay within `tolerance`. None leaves them.
        encoding: "sparse" stores constants in LiteRT's sparse encoding where the file
            gets smaller; the outputs stay the same, bit by bit. None leaves them.
        tolerance: Largest difference of any output that rounding may make, over the
            output's largest magnitude.
        representative_data: Real inputs to compare on as well: an array, or a list of
            arrays in the order of the file's inputs.
        verify: Without it the file is never run, and only steps are taken that change
            no number: texts, unused and duplicate parts, layout.

    Returns:
        The bytes before and after, and what each step won.

    Raises:
        FileFormatError: If the file is missing, corrupt, too large, hostile, or cannot
            be run; nothing is written then.
        DataError: If no inputs can be made, or `representative_data` does not fit.
        ValueError: If an argument is out of range.

    Example:
        >>> print(shrink_litert("model.tflite"))  # doctest: +SKIP
    """
    config = ShrinkConfig(
        keep_names=keep_names,
        keep_metadata=keep_metadata,
        keep_signature=keep_signature,
        bias_bits=bias_bits,
        encoding=encoding,
        tolerance=tolerance,
    )
    source = check_file(path, MAX_FILE_BYTES)
    content = _read(source)
    model = load_records(content, str(source))
    trial = Trial(content, str(source), representative_data) if verify else None
    shrinking = _Shrinking(content, model, trial)
    _take_steps(shrinking, config)
    target = write_bytes(source if out is None else out, shrinking.content)
    return ShrinkReport(
        path=str(target),
        raw_before=len(content),
        raw_after=len(shrinking.content),
        gzip_before=_gzip_bytes(content),
        gzip_after=_gzip_bytes(shrinking.content),
        steps=tuple(shrinking.steps),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShrinkConfig:
    """The choices of `shrink_litert`, checked."""

    keep_names: bool = False
    keep_metadata: bool = False
    keep_signature: bool = True
    keep_bias_scales: bool = False
    bias_bits: int | str | None = None
    encoding: str | None = None
    tolerance: float = 1e-2

    def __post_init__(self) -> None:
        bits = self.bias_bits
        is_count = isinstance(bits, int) and 0 <= bits <= _MANTISSA_BITS
        if not (bits in (None, "auto") or (is_count and not isinstance(bits, bool))):
            raise ValueError(
                f"`bias_bits` must be None, 'auto' or 0 to {_MANTISSA_BITS}, got "
                f"{bits!r}."
            )
        if self.encoding not in (None, "sparse"):
            raise ValueError(
                f"`encoding` must be None or 'sparse', got {self.encoding!r}."
            )
        if not 0 <= self.tolerance < 1:
            raise ValueError(
                f"`tolerance` must be from 0 to below 1, got {self.tolerance!r}. It is "
                "relative to the largest output."
            )


def _take_steps(shrinking: _Shrinking, config: ShrinkConfig) -> None:
    shrinking.take("layout", lambda model: None)
    if not config.keep_names:
        shrinking.take("names", plain_steps.drop_names)
    if not config.keep_metadata:
        shrinking.take("metadata", plain_steps.drop_metadata)
    if not config.keep_signature:
        shrinking.take("signature", plain_steps.drop_signatures)
    shrinking.take("unused and duplicates", plain_steps.drop_unused)
    shrinking.take("repeated shapes", plain_steps.drop_repeated_shapes)
    shrinking.take("quantization ranges", plain_steps.drop_ranges)
    if shrinking.trial is None:
        return
    shrinking.take_each("equal scales", scale_steps.equal_scale_edits)
    shrinking.take("unit order", reorder_units, REORDERING_TOLERANCE)
    if config.bias_bits is not None:
        _round(shrinking, config.bias_bits, config.tolerance)


def _round(shrinking: _Shrinking, bits: int | str, tolerance: float) -> None:
    count = _fewest_bits(shrinking, tolerance) if bits == "auto" else int(bits)
    shrinking.take(
        "bias bits", lambda m: round_biases(m, count), tolerance, f"{count} bits"
    )


def _fewest_bits(shrinking: _Shrinking, tolerance: float) -> int:
    low, high = 0, _MANTISSA_BITS
    while low < high:
        middle = (low + high) // 2
        edit = functools.partial(round_biases, bits=middle)
        if shrinking.difference(edit) <= tolerance:
            high = middle
        else:
            low = middle + 1
    return low


class _Shrinking:
    """The smallest file so far, and the steps that led to it.

    Args:
        content: The original file.
        model: Its records.
        trial: What changed files are compared with; None: they are not run.
    """

    def __init__(self, content: bytes, model: Record, trial: Trial | None) -> None:
        self.content = content
        self.trial = trial
        self.steps: list[ShrinkStep] = []
        self._model = model
        self._cost = _cost(content)
        self._order: list[int] | None = None

    def take(
        self,
        name: str,
        edit: Callable[[Record], Any],
        tolerance: float = 0.0,
        note: str = "",
    ) -> None:
        """Take a step if the file gets smaller and its outputs stay within bounds."""
        model = self._model.copy()
        result = edit(model)
        order = result if isinstance(result, list) else self._order
        content = _written(model)
        cost = _cost(content)
        if cost >= self._cost:
            self._skip(name, _NOT_SMALLER)
            return
        difference = None
        if self.trial is not None:
            difference = self.trial.difference(content, order)
            if difference > tolerance:
                self._skip(name, "would change the outputs")
                return
        won = self._cost[1] - cost[1], self._cost[0] - cost[0]
        self.steps.append(
            ShrinkStep(
                name=name, raw=won[0], gzip=won[1], difference=difference, note=note
            )
        )
        self._model, self.content, self._cost, self._order = model, content, cost, order

    def take_each(
        self,
        name: str,
        find: Callable[[Record], Sequence[scale_steps.Edit]],
        tolerance: float = 0.0,
    ) -> None:
        """Take as many of some edits as work together."""
        edits = list(find(self._model))
        kept, trials = [], 0
        waiting = [edits] if edits else []
        while waiting and trials < _MOST_TRIALS:
            part = waiting.pop()
            trials += 1
            if self.difference(_all_of([*kept, *part])) <= tolerance:
                kept += part
            elif len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
        note = "" if len(kept) == len(edits) else f"{len(kept)} of {len(edits)} tensors"
        self.take(name, _all_of(kept), tolerance, note)

    def difference(self, edit: Callable[[Record], Any]) -> float:
        """How far an edit would move the outputs."""
        model = self._model.copy()
        edit(model)
        if self.trial is None:
            return 0.0
        return self.trial.difference(_written(model), self._order)

    def _skip(self, name: str, note: str) -> None:
        self.steps.append(ShrinkStep(name=name, note=note))


def _all_of(edits: Sequence[scale_steps.Edit]) -> scale_steps.Edit:
    def edit(model: Record) -> None:
        for change in edits:
            change(model)

    return edit


def _written(model: Record) -> bytes:
    model = model.copy()
    plain_steps.share_buffers(model)
    return write_records(model)


def _cost(content: bytes) -> tuple[int, int]:
    """What is made smaller: gzip first, then the file itself."""
    return _gzip_bytes(content), len(content)


def _gzip_bytes(content: bytes) -> int:
    return len(gzip.compress(content, 9, mtime=0))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"Cannot read {path}: {error.strerror}.") from error
