"""Files of strangers, run where a crash or a hang harms nobody."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from penjing.errors import DataError, FileFormatError
from penjing.runtime import litert_worker
from penjing.runtime.file_bounds import bounds_for, ended, refuse_packed, unrunnable
from penjing.runtime.kept_worker import KeptWorker
from penjing.runtime.sample_inputs import encode_rounds, make_rounds
from penjing.runtime.worker_process import OrderError, WorkerEndError, WorkerProcess

# The kernels that a file runs with: LiteRT's fastest, and the plain ones that it falls
# back on, which are also nearest to those of microcontrollers.
_KERNELS = ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")
_ADVICE = "Use `verify=False` if you trust it. "
_UNRUN = "verify=False: only steps that cannot change the outputs are taken then."

Round = list[np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a file gave.

    The description tells of its inputs, outputs and signatures, as the runtime sees
    them, the inputs and outputs of each part that a delegate took over, and the
    operators that none took. `outputs` hold for each kind of kernels and each round of
    inputs one array for each output; a text where the file refused the inputs.
    """

    description: dict[str, Any]
    outputs: list[list[list[np.ndarray] | str]]

    @property
    def ran(self) -> bool:
        """Whether it gave outputs for some inputs."""
        return any(isinstance(r, list) for kernels in self.outputs for r in kernels)


def _made(inputs: Sequence[dict[str, Any]], free: bool) -> list[Round]:
    """Samples for a file, or what to do where there can be none."""
    try:
        return make_rounds(inputs, free=free)
    except DataError as error:
        raise DataError(f"{error} Use {_UNRUN}") from error


def _bytes(arrays: Round) -> int:
    return sum(array.nbytes for array in arrays)


class _EndlessError(FileFormatError):
    """A file that was ended at the limit of time: on other inputs it would be too."""


class FileRunner(KeptWorker):
    """Runs `.tflite` files in a process of its own, one after the other.

    It is a context manager: the process ends with the block. Files that crash it, or
    take too long, are run once more in a new one, which no other file has touched.
    """

    source = litert_worker.__file__

    def run(
        self, content: bytes, rounds: Sequence[Round], where: str, *, own: int = 0
    ) -> Outcome:
        """Load a file, and run it on inputs; `where` is what messages call it.

        `rounds` has for each run one array for each input, in the stored type; with
        none the file is only loaded; `own` of their bytes are the user's. A file that
        LiteRT cannot load, crashes on, or that takes too long or too much memory is a
        FileFormatError.
        """
        refuse_packed(content, where)
        self._make_room(content)
        try:
            if self._worker is not None:
                try:
                    return self._asked(self._worker, content, rounds, own)
                except WorkerEndError as error:
                    if error.seconds is not None:
                        raise
                self.close()
            return self._asked(self.start(), content, rounds, own)
        except OrderError as error:
            raise unrunnable(where, error) from error
        except WorkerEndError as error:
            self.close()
            late = error.seconds is not None
            refused = ended(where, error, advice=_ADVICE if late else "")
            raise (_EndlessError(str(refused)) if late else refused) from error

    def _asked(
        self,
        worker: WorkerProcess,
        content: bytes,
        rounds: Sequence[Round],
        own: int,
    ) -> Outcome:
        declared = max((_bytes(arrays) for arrays in rounds), default=0)
        answer = worker.ask(
            "try_out",
            bounds=bounds_for(self._largest, inputs=own, declared=declared),
            file=self._stored(worker, content),
            kernels=_KERNELS,
            rounds=rounds,
        )
        return Outcome(**answer)


def output_difference(
    actual: Outcome, expected: Outcome, order: Sequence[int], *, exact: bool = True
) -> float:
    """Measure how far the outputs of a changed file are from the original's.

    It is 0.0 where all are the same, bit by bit. Else the largest difference over the
    largest magnitude of the output; infinity where shapes, types, refusals, integers
    (if `exact`) or not-a-numbers differ. `order` has for each output of the changed
    file its place in the original.
    """
    worst = 0.0
    for kernels in zip(actual.outputs, expected.outputs, strict=True):
        for mine, other in zip(*kernels, strict=True):
            if isinstance(mine, str) or isinstance(other, str):
                worst = max(worst, 0.0 if type(mine) is type(other) else float("inf"))
                continue
            pairs = zip(mine, (other[n] for n in order), strict=True)
            worst = max([worst, *(_difference(*pair, exact) for pair in pairs)])
    return worst


def as_fast(actual: Outcome, expected: Outcome) -> bool:
    """Whether delegates take over the same parts of a changed file, or more.

    The parts have as many inputs and outputs as before; or there are no more parts, and
    none but operators that were left over before still are.
    """
    parts, parts_before = (o.description["delegated"] for o in (actual, expected))
    if parts == parts_before:
        return True
    left, left_before = (
        Counter(o.description["left_over"]) for o in (actual, expected)
    )
    return len(parts) <= len(parts_before) and left <= left_before


def _difference(mine: np.ndarray, other: np.ndarray, exact: bool) -> float:
    if mine.shape != other.shape or mine.dtype != other.dtype:
        return float("inf")
    if mine.tobytes() == other.tobytes():
        return 0.0
    if mine.dtype.kind != "f" and (exact or mine.dtype.kind not in "iu"):
        return float("inf")
    a, b = mine.astype("f8"), other.astype("f8")
    special = ~(np.isfinite(a) & np.isfinite(b))
    if not np.array_equal(a[special], b[special], equal_nan=True):
        return float("inf")
    a, b = a[~special], b[~special]
    scale = float(np.abs(b).max(initial=0.0))
    largest = float(np.abs(a - b).max(initial=0.0))
    return largest / scale if scale else (float("inf") if largest else 0.0)


class Trial:
    """The original file's outcome, to which changed files are compared.

    It is a context manager: the process that runs the files ends with the block. The
    data are the user's real inputs. A FileFormatError says that the file does not run,
    a DataError that no samples can be made, or that the data does not fit.
    """

    def __init__(self, content: bytes, where: str, data: Any = None) -> None:
        self._where = where
        with contextlib.ExitStack() as stack:
            self._runner = stack.enter_context(FileRunner())
            self._rounds, self._expected = self._first(content, data)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _first(self, content: bytes, data: Any) -> tuple[list[Round], Outcome]:
        """Inputs on which the original runs, and what it gives for them."""
        described = self._runner.run(content, [], self._where).description
        inputs = described["inputs"]
        real = [] if data is None else encode_rounds(inputs, data, self._where)
        self._own = sum(map(_bytes, real))
        for free in (True, False):
            rounds = [*_made(inputs, free), *real]
            try:
                outcome = self._runner.run(content, rounds, self._where, own=self._own)
            except _EndlessError as error:
                raise FileFormatError(str(error)) from error
            except FileFormatError:
                if not free:
                    raise
                continue
            if outcome.ran:
                return rounds, outcome
        raise FileFormatError(
            f"{self._where} does not run on any of the samples made for it, so changes "
            f"cannot be checked. Pass `representative_data` that it takes, or {_UNRUN}"
        )

    def difference(
        self,
        content: bytes,
        order: Sequence[int] | None = None,
        *,
        same_speed: bool = True,
    ) -> float:
        """How far the outputs of a changed file are from the original's, or infinity.

        `output_difference` says how it is measured, and `order`, where it is None, is
        the same; a file that does not run is infinitely far. `same_speed`: delegates
        must take over the same parts. Without it integers that differ count as numbers:
        kernels round differently.
        """
        try:
            actual = self._runner.run(content, self._rounds, self._where, own=self._own)
        except FileFormatError:
            return float("inf")
        count = len(self._expected.description["outputs"])
        if same_speed and not as_fast(actual, self._expected):
            return float("inf")
        return output_difference(
            actual, self._expected, order or range(count), exact=same_speed
        )
