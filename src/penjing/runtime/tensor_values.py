"""What the tensors of a file are once it has run: shapes and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.runtime import litert_worker
from penjing.runtime.file_bounds import bounds_for, ended, refuse_packed, unrunnable
from penjing.runtime.reference_runner import OPTIMIZED
from penjing.runtime.worker_process import OrderError, WorkerEndError, WorkerProcess

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TensorValues:
    """What one run gave.

    Attributes:
        outputs: Of the first graph, in its order.
        shapes: Of each tensor of each graph, None where it has none.
        values: Of those that were wanted, None where nothing computes them or they are
            too large.
    """

    outputs: list[Array]
    shapes: list[list[list[int] | None]]
    values: list[Array | None]


class FileExaminer:
    """Runs files without delegates, in a process that ends with the block.

    `size` is that of the largest file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._worker = WorkerProcess(
            litert_worker.__file__, memory=bounds_for(size).memory
        )

    def run(
        self,
        content: bytes,
        rounds: Sequence[Sequence[Array]],
        where: str,
        *,
        tensors: Sequence[int] = (),
        wanted: Sequence[tuple[int, int]] = (),
        most: int = 2**20,
        together: int | None = None,
        kernels: str = OPTIMIZED,
    ) -> list[TensorValues]:
        """Run a file on inputs; gives what each round gave.

        `rounds` have an array in the stored type for each input, `tensors` is how many
        each graph has, `wanted` are graph and number of tensors whose values are asked
        for, of `most` bytes each, at most `together` of all of them; `kernels` are
        LiteRT's for this machine, or its reference kernels. A file that does not run,
        or has more, is a FileFormatError, and `where` is what it calls the file.
        """
        refuse_packed(content, where)
        file = self._worker.folder / "model.tflite"
        file.write_bytes(content)
        declared = sum(array.nbytes for array in rounds[0])
        size = max(self._size, len(content))
        try:
            answer = self._worker.ask(
                "examine",
                bounds=bounds_for(size, declared=declared),
                file=str(file),
                kernels=kernels,
                rounds=[list(arrays) for arrays in rounds],
                tensors=list(tensors),
                wanted=[list(pair) for pair in wanted],
                most=most,
                together=together,
            )
        except OrderError as error:
            raise unrunnable(where, error) from error
        except WorkerEndError as error:
            raise ended(where, error) from error
        return [TensorValues(**found) for found in answer["rounds"]]

    def __enter__(self) -> FileExaminer:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
