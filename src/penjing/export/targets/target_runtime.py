"""Where a file is to run, and what that asks of it."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np

from penjing.arguments import check_integer, quoted
from penjing.errors import ExportError, FileFormatError
from penjing.export.targets.micro_layers import check_inputs, check_layers
from penjing.models.keras_private import all_layers
from penjing.models.signature import InputSignature
from penjing.packing.packing import ARENA_HINT, pack
from penjing.runtime.sample_inputs import encode_rounds
from penjing.runtime.tflm import compare_in_tflm, has_tflm
from penjing.runtime.tflm.file_in_tflm import FileInTflm
from penjing.sparse.sparse_export import SparseConfig
from penjing.sparse.sparse_rules import RUNTIMES as SPARSE_RUNTIMES
from penjing.specializing.micro_file import fit_for_tflm
from penjing.specializing.specializing import specialize_file
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.modes import MODES, find_mode

PACKED = "packed"
RUNTIMES = (*SPARSE_RUNTIMES, "micro")
# Runtimes that take no file with free sizes, as messages call them.
_FIXED = {"wasm": "LiteRT.js", "micro": "TensorFlow Lite Micro"}
_RANDOM, _REAL = 2, 4  # samples that a file is compared on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Where a file of a mode is to run, with dense weights or in an encoding.

    The runtime, one of `RUNTIMES`, may be None without an encoding. "sparse" is for all
    of them but "micro", "packed" for that alone, within an arena of `max_arena` bytes.
    """

    encoding: str | None = None
    runtime: str | None = None
    quantization: str | None = None
    max_arena: int | None = None

    def __post_init__(self) -> None:
        self._check_packed()
        if self.runtime is not None and self.runtime not in RUNTIMES:
            raise ValueError(
                f"`runtime` must be one of {quoted(RUNTIMES)}, got {self.runtime!r}: "
                "which operators and types a file may hold depends on it."
            )
        if not self.is_micro:
            self._sparse()
            return
        if self.encoding not in (None, PACKED):
            raise ValueError(
                f"encoding={self.encoding!r} does not go with runtime='micro': "
                "TensorFlow Lite Micro has no sparse kernels. Leave it out, or let "
                f"zeros pay in flash with encoding={PACKED!r}."
            )
        why = find_mode(self.quantization).no_micro
        if why:
            allowed = [mode.quantization for mode in MODES if not mode.no_micro]
            raise ValueError(
                f"quantization={self.quantization!r} does not go with runtime='micro': "
                f"TensorFlow Lite Micro does not run such files, for {why}. Use "
                f"{quoted(allowed)}."
            )

    @property
    def is_micro(self) -> bool:
        """Whether it is TensorFlow Lite Micro."""
        return self.runtime == "micro"

    def check_model(self, model: keras.Model, signature: InputSignature) -> list[str]:
        """Refuse, before it is converted, what will not run there.

        Gives what is to be said of the rest.
        """
        if self.runtime not in _FIXED:
            return []
        for item in signature.inputs:
            if any(size is None for size in item.shape[1:]):
                shape = tuple(-1 if size is None else size for size in item.shape)
                raise ExportError(
                    f"`{model.name}` is not exported for {self.runtime}: its input "
                    f"has the shape {shape}, and {_FIXED[self.runtime]} runs no file "
                    "with free sizes. Give keras.Input every size."
                )
        if self.is_micro:
            check_inputs(model, signature)
            check_layers(model, find_mode(self.quantization))
        return self._batch_notes(model, signature)

    def _batch_notes(self, model: keras.Model, signature: InputSignature) -> list[str]:
        """Batches that the model fixes, which other models get as 1."""
        fixed = [item for item in signature.inputs if item.shape[0] not in (None, 1)]
        return [
            f"The file of `{model.name}` takes {item.shape[0]} samples at once, as its "
            f"input `{item.name}` fixes that batch, and so much more RAM. Leave out "
            "`batch_size` of keras.Input to get a batch of 1"
            for item in fixed[:1]
        ]

    def fit(self, file: EditedFile, model: keras.Model) -> None:
        """Make a converted file what the runtime takes, in place."""
        if self.runtime not in _FIXED:
            return
        file.where = f"`{model.name}`"
        try:
            if self.is_micro:
                fit_for_tflm(file, _names(model))
            else:
                specialize_file(file)
        except FileFormatError as error:
            raise ExportError(
                f"`{model.name}` is not exported for {self.runtime}: {error}"
            ) from error

    def encode(self, file: EditedFile, where: str) -> None:
        """Leave zeros out where that was asked for, in place."""
        if self.encoding == "sparse":
            file.edit(functools.partial(self._sparse().finish, where=where))

    def prove(
        self, content: bytes, samples: Sequence[np.ndarray[Any, Any]] | None, name: str
    ) -> list[str]:
        """Compare a file there with LiteRT; gives what is to be said of it.

        `samples` has an array for each input. Outputs that differ are an ExportError.
        """
        if not self.is_micro:
            return []
        if not has_tflm():
            return [
                f"The file of `{name}` was not run in TensorFlow Lite Micro, which is "
                "not installed. Where there is a wheel of it (Linux on x86-64), pip "
                'install "penjing[micro]" lets each export prove its file'
            ]
        _prove_in_tflm(content, samples, f"the file of `{name}`")
        return []

    def packed(self, content: bytes, name: str) -> bytes:
        """The file in the form that it is written in, with its price told."""
        if self.encoding != PACKED:
            return content
        where = f"the file of `{name}`"
        packed = pack(content, max_arena=self.max_arena, where=where)
        print(
            f"The packed file of `{name}` takes {packed.flash_saved:,} bytes less "
            f"flash ({len(packed.content):,} in place of {len(content):,}) and "
            f"{packed.arena_added:,} more RAM "
            f"({'measured' if packed.arena_is_measured else 'estimated'}).",
            file=sys.stderr,
        )
        return packed.content

    def _check_packed(self) -> None:
        if self.encoding == PACKED and not self.is_micro:
            raise ValueError(
                f"encoding={PACKED!r} is for TensorFlow Lite Micro alone, which "
                f"decodes weights while it runs; got runtime={self.runtime!r}. Use "
                "runtime='micro'."
            )
        if self.max_arena is None:
            return
        if self.encoding != PACKED:
            raise ValueError(
                "`max_arena` bounds what decoded weights take: it goes with encoding="
                f"{PACKED!r}, got encoding={self.encoding!r}."
            )
        check_integer("max_arena", self.max_arena, least=1, hint=ARENA_HINT)

    def _sparse(self) -> SparseConfig:
        return SparseConfig(
            encoding=self.encoding, runtime=self.runtime, quantization=self.quantization
        )


def _names(model: keras.Model) -> Collection[str]:
    layers = all_layers(model)
    return {layer.name for layer in layers if not isinstance(layer, keras.Model)}


def _prove_in_tflm(
    content: bytes, samples: Sequence[np.ndarray[Any, Any]] | None, where: str
) -> None:
    file = FileInTflm(content, where)
    rounds, finite = file.rounds(_RANDOM), _RANDOM
    if samples is not None:  # of other inputs outputs need not be numbers
        described = [file.described(number) for number in file.inputs]
        real = encode_rounds(described, [a[:_REAL] for a in samples], where)
        rounds, finite = [*real, *rounds], len(real)
    try:
        compare_in_tflm(content, where=where, inputs=rounds, finite=finite)
    except FileFormatError as error:
        raise ExportError(f"The file was not written: {error}") from error
