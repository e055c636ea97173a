"""The public function: a `.tflite` file in, the same function in fewer bytes out.

`shrink_litert(path, ...)` reads and writes a file; `shrink_file(file, config)`
does the same to a file that is in hand as records.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

from penjing.arguments import check_counts
from penjing.errors import CompressionWarning, FileFormatError
from penjing.files import (
    as_path,
    check_content,
    check_target,
    gzip_bytes,
    write_bytes,
)
from penjing.runtime.file_bounds import refuse_packed
from penjing.runtime.trials import Trial
from penjing.shrinking.dead_units import dead_unit_edits
from penjing.shrinking.rounding import equal_scale_edits, round_biases
from penjing.shrinking.shrink_report import ShrinkReport, ShrinkStep
from penjing.shrinking.stepwise import Step, Stepwise
from penjing.shrinking.unit_order import reorder_units
from penjing.sparse import sparse_encoding
from penjing.sparse.sparse_graph import may_be_wrong
from penjing.specializing.specializing import leaves_sizes_free, specialize_file
from penjing.tflite import cleaning as plain_steps
from penjing.tflite import constant_shapes
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.loading import read_litert
from penjing.tflite.records import Record
from penjing.tflite.tensors import clear_negative_zeros

# What float arithmetic in another order may change, relative to the largest output.
REORDERING_TOLERANCE = 1e-4
# What other kernels may change that round integers differently.
KERNEL_TOLERANCE = 2e-2
_MANTISSA_BITS = 23


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
    batch: int | None = None,
    verify: bool = True,
) -> ShrinkReport:
    """Rewrite a `.tflite` file in fewer bytes, without changing what it computes.

    Works on any file that LiteRT runs, whoever wrote it. After every step the new file
    is run beside the original, with LiteRT's fastest and with its plain kernels, on
    random inputs and those at the bounds of their types; a step that changes outputs
    more than it may, or that wins nothing, is not taken. Files are run in a process of
    their own, which a hostile one may crash.

    Taken without changing a single bit of any output: texts, metadata and quantization
    ranges that nothing reads, unused and duplicate parts, scales that say nothing,
    and a tighter layout. Three steps keep outputs of integer models the same, bit by
    bit, and those of float models up to rounding (`REORDERING_TOLERANCE`):

    - Shapes that are computed become constants, and dense layers flatten by
      themselves.
    - Hidden units and channels that add nothing, as heavy pruning leaves them, are
      taken out: those that nobody reads, and those without weights, whose constant
      goes into biases. Memory and time shrink as well.
    - The others are reordered so that compressors find runs.

    Args:
        path: The file.
        out: File to write. Default: `path` is replaced, once the new file is proven.
        keep_names: Keep the names of tensors and graphs.
        keep_metadata: Keep metadata, description, and files that are packed behind the
            model. They may hold labels or normalisation values that an application
            reads.
        keep_signature: Keep the names of inputs and outputs. `LiteRTModel` and
            `penjing.evaluate` run a file without them, by position.
        bias_bits: Round float biases to this many mantissa bits, 0 to 23; "auto" finds
            the fewest with which outputs stay within `tolerance`. None leaves them.
        encoding: "sparse" leaves zeros out of float32 and int8 constants, in LiteRT's
            sparse encoding, where the file itself gets smaller; gzipped it may get
            larger. Where the fastest kernels do not take such constants, others work
            in their place: they may take longer, and round integers differently (up to
            `KERNEL_TOLERANCE`). Float networks that sparse constants would make
            silently wrong on phones and in browsers stay dense, see
            `penjing.explain_sparsity`. None: dense.
        tolerance: Largest difference of any output that rounding may make, over the
            output's largest magnitude.
        representative_data: Real inputs to compare on as well: an array, or a list of
            arrays in the order of the file's inputs.
        batch: Samples that the file takes at once from then on, where it leaves that
            free: 1 for browsers and microcontrollers, whose runtimes take no free
            sizes. None leaves it as it is.
        verify: Without it the file is never run, and only steps are taken that change
            no number: texts, unused and duplicate parts, layout.

    Returns:
        The bytes before and after, and what each step won.

    Raises:
        FileFormatError: If the file is missing, corrupt, too large, hostile, or cannot
            be run; if it plans the memory of its tensors; if it holds several networks
            and more is asked for than what changes no number; if `batch` is given and
            another size than the batch is free or depends on values, or the file has
            another batch. Nothing is written then.
        DataError: If no inputs can be made, or `representative_data` does not fit.
        ValueError: If an argument is out of range, or `batch` is given and nothing may
            be run.

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
    _check_batch(batch, verify)
    source = as_path(path)
    check_target(source if out is None else as_path(out))
    file = EditedFile(read_litert(source), str(source))
    refuse_packed(file.content, file.where)
    plain_steps.refuse_memory_plan(file.model, file.where)
    _check_networks(file, config, batch)
    original = file.content
    if batch is not None:
        _check_fixed_batch(file, batch)
        specialize_file(file, batch=batch)
    report = shrink_file(
        file, config, representative_data=representative_data, verify=verify
    )
    if batch is not None:
        report = _with_fixed_sizes(report, original)
    content = file.content
    if keep_metadata:
        content = _with_associated_files(content, original, file.where)
        report = dataclasses.replace(
            report,
            raw_after=len(content),
            gzip_after=gzip_bytes(content, report.gzip_level),
        )
    target = write_bytes(source if out is None else out, content)
    return dataclasses.replace(report, path=str(target))


def _check_networks(file: EditedFile, config: ShrinkConfig, batch: int | None) -> None:
    """Refuse of a file of several networks what can be proven of one alone."""
    wanted = {
        "bias_bits": config.bias_bits is not None,
        "encoding": config.encoding is not None,
        "keep_signature": not config.keep_signature,
        "batch": batch is not None,
    }
    chosen = [name for name, is_set in wanted.items() if is_set]
    if chosen and _has_several_networks(file.model):
        raise FileFormatError(
            f"{file.where} holds several networks, and runs are compared for the first "
            f"alone. Leave out {', '.join(f'`{name}`' for name in chosen)}."
        )


def _has_several_networks(model: Record) -> bool:
    return any(row["subgraph_index"] for row in model["signature_defs"])


def _with_associated_files(content: bytes, original: bytes, where: str) -> bytes:
    """A file with what is packed behind the original, as files of labels are."""
    archives = [zipfile.is_zipfile(io.BytesIO(each)) for each in (original, content)]
    if archives != [True, False]:  # none, or the file is as it was
        return content
    made = io.BytesIO(content)
    try:
        with (
            zipfile.ZipFile(io.BytesIO(original)) as source,
            zipfile.ZipFile(made, "a") as target,
        ):
            members = source.infolist()
            check_content(sum(member.file_size for member in members), Path(where))
            for member in members:
                target.writestr(member, source.read(member))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:
        raise FileFormatError(
            f"The files that are packed behind {where} cannot be read: {error}. Leave "
            "out keep_metadata."
        ) from error
    return made.getvalue()


def _check_fixed_batch(file: EditedFile, batch: int) -> None:
    """Refuse a batch that a file without free sizes does not take."""
    if leaves_sizes_free(file.model):
        return
    graph = file.model["subgraphs"][0]
    shapes = [graph["tensors"][int(index)]["shape"] for index in graph["inputs"]]
    taken = {int(shape[0]) for shape in shapes if len(shape)}
    if taken and batch not in taken:
        raise FileFormatError(
            f"{file.where} takes {' or '.join(map(str, sorted(taken)))} samples at "
            f"once, which was fixed when it was converted, so batch={batch} cannot be "
            "had from it. Leave `batch` out, or convert the model again."
        )


def _with_fixed_sizes(report: ShrinkReport, original: bytes) -> ShrinkReport:
    """A report that begins before sizes were fixed."""
    gzip = gzip_bytes(original, report.gzip_level)
    step = ShrinkStep(
        name="fixed sizes",
        raw=len(original) - report.raw_before,
        gzip=gzip - report.gzip_before,
    )
    return dataclasses.replace(
        report,
        raw_before=len(original),
        gzip_before=gzip,
        steps=(step, *report.steps),
    )


def _check_batch(batch: int | None, verify: bool) -> None:
    if batch is None:
        return
    check_counts(batch=batch)
    if not verify:
        raise ValueError(
            f"batch={batch} needs verify=True: sizes are found by running the file."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShrinkConfig:
    """The choices of `shrink_litert`, checked."""

    keep_names: bool = False
    keep_metadata: bool = False
    keep_signature: bool = True
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


def shrink_file(
    file: EditedFile,
    config: ShrinkConfig,
    *,
    representative_data: Any = None,
    verify: bool = True,
) -> ShrinkReport:
    """Do what `shrink_litert` does, and refuses, to a file in hand, in place."""
    with contextlib.ExitStack() as stack:
        trial = None
        if verify:
            trial = Trial(file.content, file.where, representative_data)
            stack.enter_context(trial)
        shrinking = Stepwise(file.content, file.model, trial)
        _take_steps(shrinking, config)
    file.replace(shrinking.model, shrinking.content)
    if shrinking.failures:
        warnings.warn(
            f"Steps that shrink {file.where} failed and were left out: "
            f"{'; '.join(shrinking.failures)}. The file is right, and may be larger "
            "than it could be. Please report it with the file.",
            CompressionWarning,
            stacklevel=3,
        )
    return shrinking.report(file.where)


def _take_steps(shrinking: Stepwise, config: ShrinkConfig) -> None:
    shrinking.take_all(
        [
            (Step(name), edit)
            for name, edit, is_wanted in (
                ("layout", lambda model: None, True),
                ("names", plain_steps.drop_names, not config.keep_names),
                ("metadata", plain_steps.drop_metadata, not config.keep_metadata),
                ("signature", plain_steps.drop_signatures, not config.keep_signature),
                ("unused parts", plain_steps.drop_unused, True),
                ("repeated shapes", plain_steps.drop_repeated_shapes, True),
                ("quantization ranges", plain_steps.drop_ranges, True),
            )
            if is_wanted
        ]
    )
    # What is run and compared is the first network alone.
    if shrinking.trial is not None and not _has_several_networks(shrinking.model):
        _take_proven_steps(shrinking, config)


def _take_proven_steps(shrinking: Stepwise, config: ShrinkConfig) -> None:
    shapes = Step("constant shapes", tolerance=REORDERING_TOLERANCE)
    shrinking.take(shapes, constant_shapes.fold_shapes)
    flat = Step("flattening", tolerance=REORDERING_TOLERANCE)
    shrinking.take_each(
        flat, constant_shapes.flattening_edits, after=plain_steps.drop_unused
    )
    shrinking.take_all(
        [
            (Step("repeated constants"), constant_shapes.share_constants),
            (Step("inner shapes"), constant_shapes.drop_inner_signatures),
            (Step("negative zeros"), clear_negative_zeros),
        ]
    )
    shrinking.take_each(Step("equal scales"), equal_scale_edits)
    dead = Step("dead units", tolerance=REORDERING_TOLERANCE, both=True)
    shrinking.take_first(dead, dead_unit_edits())
    order = Step("unit order", tolerance=REORDERING_TOLERANCE)
    shrinking.take(order, reorder_units)
    if config.bias_bits is not None:
        _round(shrinking, config.bias_bits, config.tolerance)
    orders = [
        functools.partial(plain_steps.sort_tensors, by=by)
        for by in ("type", "size", "falling size")
    ]
    shrinking.take_best(Step("tensor order"), orders)
    if config.encoding == "sparse":
        _encode_sparse(shrinking)  # last: the speed may differ after it


def _round(shrinking: Stepwise, bits: int | str, tolerance: float) -> None:
    count = _fewest_bits(shrinking, tolerance) if bits == "auto" else int(bits)
    step = Step("bias bits", tolerance=tolerance, note=f"{count} bits")
    shrinking.take(step, functools.partial(round_biases, bits=count))


def _fewest_bits(shrinking: Stepwise, tolerance: float) -> int:
    low, high = 0, _MANTISSA_BITS
    while low < high:
        middle = (low + high) // 2
        edit = functools.partial(round_biases, bits=middle)
        if shrinking.difference(edit) <= tolerance:
            high = middle
        else:
            low = middle + 1
    return low


def _encode_sparse(shrinking: Stepwise) -> None:
    direct = Step("sparse", tolerance=REORDERING_TOLERANCE, raw_first=True)
    if shrinking.ask(direct, may_be_wrong) is not False:
        return
    shrinking.take_each(direct, sparse_encoding.direct_edits)
    reshaped = Step(
        "sparse, reshaped",
        tolerance=KERNEL_TOLERANCE,
        same_speed=False,
        raw_first=True,
    )
    shrinking.take_each(reshaped, sparse_encoding.reshaped_edits)
