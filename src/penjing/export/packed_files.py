"""The public function: a plain `.tflite` file in, a packed one for TFLM out."""

from __future__ import annotations

import os
from pathlib import Path

from penjing.errors import CompressionError, ExportError, MissingDependencyError
from penjing.files import as_path, check_target, write_bytes
from penjing.packing.pack_report import PackReport
from penjing.packing.packing import Packed, pack
from penjing.progress import Listener, Progress, listening
from penjing.runtime.tflm import compare_in_tflm
from penjing.specializing.specializing import specialize_file
from penjing.tflite.decode_records import is_packed
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.loading import read_litert

SUFFIX = ".packed.tflite"


def pack_litert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    max_arena: int | None = None,
    overwrite: bool = False,
    progress: Listener | bool = True,
) -> PackReport:
    """Write a `.tflite` file for microcontrollers with weights that take less flash.

    TensorFlow Lite Micro (TFLM) decodes each weight right before the operator that
    reads it. A weight gets the form with which the finished file is smallest,
    operators, descriptions and alignment included: indices of 1 to 7 bits into a table
    of its levels, or into one for each channel; a bit mask with the values that are not
    zero; a Huffman code, which several weights may share; or it stays plain. What TFLM
    does not read is left out: names but those of several inputs or outputs, signatures,
    metadata, and scales that follow from others. Zeros, few levels, and one scale for
    each weight are what pays.

    The price is RAM: a decoded weight lies in the arena while it is read, so the
    largest layer decides. LiteRT does not run packed files; keep the plain one for
    everything else.

    Where TFLM is installed, `pip install "penjing[micro]"`, both files run in it and
    their outputs are compared, bit for bit; the plain one is compared with LiteRT too,
    as by `penjing.verify(path, "micro")`, for TFLM runs some files wrong. Constants
    are decoded in Python and compared in any case. If anything differs, no file is
    written.

    Args:
        path: A plain file, as of `penjing.export_litert(..., runtime="micro")`: int8
            weights gain most; float32 weights with few levels can be packed too. A free
            batch becomes 1.
        out: File to write. Default: beside `path`, as NAME.packed.tflite.
        max_arena: Bytes of RAM that the packed file's arena may take. Layers whose
            decoded weight does not fit stay plain. None: as many as it takes.
        overwrite: Whether `out` may replace a file.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told of every weight.

    Returns:
        Flash saved and RAM added, in all and for each weight.

    Raises:
        FileFormatError: If the file is missing, corrupt or hostile, is packed already,
            leaves sizes free besides the batch, or TFLM refuses it.
        UnsupportedModelError: If no weight gets smaller, or none fits in the arena;
            the message says by how many bytes.
        ExportError: If outputs would differ, or the plain file runs wrong in TFLM.
        CompressionError: If `out` exists, or is `path`.

    Example:
        >>> print(pack_litert("model.tflite").totals)  # doctest: +SKIP
        flash: 60,688 -> 10,528 bytes (5.76x smaller)
        arena: 17,328 -> 56,204 bytes (+38,876, measured in TFLM)
    """
    source = as_path(path)
    target = packed_path(source, out, overwrite=overwrite)
    check_target(target)
    with listening(progress) as listen:

        def tick(done: int, total: int) -> None:
            listen(Progress(stage=f"packing {source.name}", done=done, total=total))

        content = read_litert(source)
        plain = _fixed(content, source)
        packed = pack(plain, max_arena=max_arena, where=str(source), tick=tick)
        is_right = bool(packed.compared) and _is_right(plain, str(source))
    write_bytes(target, packed.content)
    return report_of(packed, target, len(content), plain_is_right=is_right)


def _fixed(content: bytes, source: Path) -> bytes:
    """The file with a batch of 1; a packed one, which is refused next, as it is."""
    file = EditedFile(content, str(source))
    if not is_packed(file.model):
        specialize_file(file)
    return file.content


def _is_right(plain: bytes, where: str) -> bool:
    """Whether a file gives in TFLM what it gives in LiteRT; an ExportError if not.

    False where it cannot be known, as LiteRT is not installed.
    """
    try:
        compare_in_tflm(plain, where=where)
    except MissingDependencyError:
        return False
    except ExportError as error:
        raise ExportError(
            f"{error} It was not packed. penjing.export_litert(model, path, "
            "quantization, runtime='micro') replaces what runs wrong there."
        ) from error
    return True


def packed_path(
    source: Path, out: str | os.PathLike[str] | None, *, overwrite: bool
) -> Path:
    """The file to write, which is not the plain one, nor anybody else's."""
    target = source.with_name(source.stem + SUFFIX) if out is None else as_path(out)
    if target.exists() and source.exists() and target.samefile(source):
        raise CompressionError(
            f"{target} is the file to pack, and LiteRT does not run packed files. Give "
            "another `out`, and keep the plain file."
        )
    if os.path.lexists(target) and not overwrite:
        raise CompressionError(
            f"There is a file {target} already. Give another `out`, or overwrite=True "
            "to write over it."
        )
    return target


def report_of(
    packed: Packed, path: Path, flash_before: int, *, plain_is_right: bool
) -> PackReport:
    """The report of a packed file, beside a plain one of so many bytes."""
    return PackReport(
        path=str(path),
        flash_before=flash_before,
        flash_after=len(packed.content),
        arena_before=packed.arena_before,
        arena_after=packed.arena_before + packed.arena_added,
        arena_is_measured=packed.arena_is_measured,
        compared=packed.compared,
        plain_is_right=plain_is_right,
        weights=packed.rows,
    )
