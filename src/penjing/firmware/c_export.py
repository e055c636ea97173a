"""`penjing.export_c`: a `.tflite` file as C++ for TensorFlow Lite Micro."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from penjing.errors import CompressionError
from penjing.files import as_path, atomic_path, check_folder, utf8_text
from penjing.firmware.c_names import c_name_of, check_c_name, comment
from penjing.firmware.c_values import byte_lines
from penjing.firmware.firmware_model import FirmwareModel, SelfTest
from penjing.json_values import JsonValue
from penjing.runtime.tflm import Arena
from penjing.tflite.loading import read_litert
from penjing.version import __version__

_FILES = {
    "{}.h": "model.h",
    "{}.cc": "model.cc",
    "{}_self_test.h": "self_test.h",
    "{}_self_test.cc": "self_test.cc",
    "{}_main.cc": "main.cc",
}
_ALIGNMENT = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class CExport(JsonValue):
    """What `export_c` wrote.

    Attributes:
        name: Namespace of the code, and start of the names of the files.
        files: The files.
        operators: The methods of the resolver that add the operators used.
        flash: Bytes of the model in flash.
        arena: RAM that TFLM works in; None where it is not installed.
        arena_size: `kArenaSize` in the header; 0 where it is left to the user.
    """

    name: str
    files: tuple[str, ...]
    operators: tuple[str, ...]
    flash: int
    arena: Arena | None
    arena_size: int

    def __str__(self) -> str:
        ram = (
            f"kArenaSize = {self.arena_size:,}: {self.arena}, and a tenth more"
            if self.arena is not None
            else "kArenaSize is yours to set, as penjing[micro] is not installed"
        )
        return (
            f"{', '.join(self.files)}: {self.flash:,} bytes of flash; {ram}. "
            f"{_counted(len(self.operators))}."
        )


def export_c(
    file: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    name: str | None = "model",
    *,
    overwrite: bool = False,
) -> CExport:
    """Write a `.tflite` file as C++ sources for TensorFlow Lite Micro.

    The folder gets, for the name "model":

    - `model.h` and `model.cc`: the file as an aligned array, a resolver of exactly the
      operators that it uses, the size of its arena, and how its inputs and outputs are
      stored;
    - `model_self_test.h` and `model_self_test.cc`: a sample and the outputs that it
      must give on the device;
    - `model_main.cc`: a program that runs the sample.

    Where the extra penjing[micro] is installed, the file is proven first, as by
    `penjing.verify(file, "micro")`, and the arena is measured; elsewhere its size is
    left to you, and the header says so.

    Args:
        file: A `.tflite` file without free sizes, as `export_litert(...,
            runtime="micro")` and `pack_litert` write them.
        folder: Where to; it is made if it is missing.
        name: A C identifier: the namespace, and the start of the names of files. None:
            made from the file's name.
        overwrite: Whether files of these names may be replaced.

    Returns:
        The files, operators, flash and arena.

    Raises:
        ExportError: If the file computes something else in TFLM, or gives values that
            are no finite numbers.
        FileFormatError: If the file is missing, corrupt, leaves sizes free, does not
            run, or uses an operator that TFLM does not have.
        CompressionError: If a file is there already, or cannot be written.
        MissingDependencyError: If neither TFLM nor LiteRT is installed.
        ValueError: If `name` is no C identifier.

    Example:
        >>> export_c("small.tflite", "firmware").arena_size  # doctest: +SKIP
        19072
    """
    path, target = as_path(file), as_path(folder)
    chosen = c_name_of(path.stem) if name is None else check_c_name(name)
    check_folder(target)
    targets = {target / form.format(chosen): t for form, t in _FILES.items()}
    for place in targets:
        _check_free(place, overwrite)
    content = read_litert(path)
    model = FirmwareModel(content, str(path))
    test = model.self_test()
    arena_size = _arena_size(test.arena)
    values = {
        **_names(chosen, path),
        **_sizes(content, test, arena_size),
        "content": byte_lines(content),
        "ends": model.ends(test),
        "methods": model.methods,
        "variables": model.variables,
    }
    texts = {place: _render(template, values) for place, template in targets.items()}
    target.mkdir(parents=True, exist_ok=True)
    _write_all(texts)
    return CExport(
        name=chosen,
        files=tuple(map(str, targets)),
        operators=tuple(model.methods),
        flash=len(content),
        arena=test.arena,
        arena_size=arena_size,
    )


def _counted(operators: int) -> str:
    return "1 operator" if operators == 1 else f"{operators} operators"


def _check_free(path: Path, overwrite: bool) -> None:
    if os.path.lexists(path) and not (overwrite and path.is_file()):
        raise CompressionError(
            f"There is a file {path} already. Give another `name` or folder, or "
            "overwrite=True to write over it."
        )


def _write_all(texts: dict[Path, str]) -> None:
    """Write files that belong together: none takes its name before all are written."""
    with contextlib.ExitStack() as stack:
        for place, text in texts.items():
            temporary = stack.enter_context(atomic_path(place))
            temporary.write_bytes(utf8_text(text).encode("utf-8"))


def _arena_size(arena: Arena | None) -> int:
    """A tenth more than what was measured, in whole units of 16 bytes."""
    if arena is None:
        return 0
    return -(-arena.total * 11 // (10 * _ALIGNMENT)) * _ALIGNMENT


def _names(name: str, path: Path) -> dict[str, str]:
    return {
        "name": name,
        "guard": f"{name}_MODEL",  # a name's case tells it apart
        "array": f"g_{name}_model_data",
        "origin": f"From {comment(path.name)}.",
        "version": __version__,
    }


def _sizes(content: bytes, test: SelfTest, arena_size: int) -> dict[str, Any]:
    return {
        "size": len(content),
        "arena": None if test.arena is None else test.arena.total,
        "arena_size": arena_size,
        "expected_by": test.expected_by,
    }


def _render(template: str, values: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("penjing.firmware", "templates"),
        autoescape=False,  # C++, whose names and comments are checked before
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)
