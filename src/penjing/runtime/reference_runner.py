"""What a `.tflite` file computes by LiteRT's own kernels, tensor by tensor.

The reference kernels are the plain ones, which those of other runtimes are written
after and measured against. They are not right everywhere: SUM of int8 is off by dozens
of steps in LiteRT 2.3. So there is a second opinion, the kernels for this machine.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.errors import require_extra
from penjing.runtime import litert_worker
from penjing.runtime.file_bounds import bounds_for, ended, refuse_packed, unrunnable
from penjing.runtime.kept_worker import KeptWorker
from penjing.runtime.worker_process import OrderError, WorkerEndError

REFERENCE = "BUILTIN_REF"
OPTIMIZED = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceRun:
    """What a file gave: for each sample its outputs, and the tensors of those kept.

    A tensor of None is a state that its operator keeps to itself. `kernels` ran it.
    """

    outputs: list[list[Array]]
    tensors: list[list[Array | None]]
    kernels: str = REFERENCE


class ReferenceRunner(KeptWorker):
    """Runs `.tflite` files with reference kernels, in a process of its own.

    It is a context manager: the process ends with the block. Where LiteRT is not
    installed, it is a MissingDependencyError.
    """

    source = litert_worker.__file__

    def __init__(self) -> None:
        super().__init__()
        if importlib.util.find_spec("ai_edge_litert") is None:  # loading it takes time
            require_extra("ai_edge_litert.interpreter", "litert")

    def run(
        self,
        content: bytes,
        inputs: Sequence[Sequence[Array]],
        *,
        where: str,
        kernels: str = REFERENCE,
        tensors: Sequence[int] = (),
        kept: int = 0,
    ) -> ReferenceRun:
        """Run a file on samples: for each one array for each input, as it is stored.

        `tensors` are numbers of the main graph, whose values are wanted for the first
        `kept` samples, and `where` is what messages call the file. One that LiteRT
        refuses, or that crashes it, is a FileFormatError. Where the kernels lack a
        version of an operator, those for this machine run it.
        """
        refuse_packed(content, where)
        self._make_room(content)
        watched: dict[str, Any] = {"tensors": list(map(int, tensors)), "kept": kept}
        try:
            answer = self._asked(content, inputs, kernels, **watched)
            return ReferenceRun(**answer, kernels=kernels)
        except OrderError as error:
            if kernels == OPTIMIZED:
                raise unrunnable(where, error) from error
        except WorkerEndError as error:
            self.close()
            raise ended(where, error) from error
        return self.run(content, inputs, where=where, kernels=OPTIMIZED, **watched)

    def _asked(
        self,
        content: bytes,
        inputs: Sequence[Sequence[Array]],
        kernels: str,
        **watched: Any,
    ) -> dict[str, Any]:
        worker = self.start()
        declared = sum(array.nbytes for arrays in inputs for array in arrays)
        return worker.ask(
            "keep",
            bounds=bounds_for(self._largest, declared=declared),
            file=self._stored(worker, content),
            kernels=kernels,
            rounds=[list(arrays) for arrays in inputs],
            **watched,
        )
