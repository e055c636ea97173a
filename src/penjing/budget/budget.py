"""What a search may spend, and what its file may cost."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from penjing.arguments import check_choice, check_integer
from penjing.budget.bounds.quantities import (
    Drop,
    parse_bytes,
    parse_count,
    parse_latency,
    parse_time,
)

RUNTIMES = ("x86", "arm", "wasm", "micro")
OBJECTIVES = ("bytes", "latency", "arena")
PARTS = ("train", "test")
DEFAULT_TIME = "15min"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """The bounds within which `penjing.compress` looks for a file.

    With none of them it is the smallest file that costs at most half a point (1 % of an
    error or a loss), looked for in 15 minutes.

    Args:
        max_drop: How much worse the score may be than that of the better of the model
            and the dense control, on validation data: points (hundredths) of a metric
            that goes from 0 to 1, or a text such as `"1%"`, which is relative, for
            errors and losses. None: half a point or 1 %, but any drop where bytes,
            latency, arena or multiply-accumulates are bounded: the best file within
            those is looked for then. Without labels it is 2 points.
        max_bytes: Bytes of the file that is deployed; a number, or a text such as
            `"20KB"` (1,024 bytes each).
        compressed: Bytes count as gzip leaves them, as in a download or an app's
            package; else as they lie in flash or memory. None: compressed, where
            neither `max_bytes` is given nor the runtime is `"micro"`.
        max_latency: Time of one inference, such as `"2ms"`, on this machine, one
            thread, a batch of 1, with warm caches. For `"x86"` alone.
        max_arena: Bytes of RAM that TensorFlow Lite Micro's arena takes. For `"micro"`
            alone.
        max_macs: Multiply-accumulates of one inference, such as `"5M"`.
        runtime: Where the file is to run: `"x86"`, `"arm"`, `"wasm"` or `"micro"`.
            Every file is verified there before it gets its name.
        minimize: What is made small within the bounds: `"bytes"`, `"latency"` or
            `"arena"`.
        time: How long the search may take, such as `"30min"`; what runs then is
            finished. None: 15 minutes, or as long as it takes where `trials` is given.
        trials: Trainings that are tried at most, beside the dense control's.
        metric: Name of the metric that decides. None: the first that is measured.
        validation_from: Where the data brings no validation part, what is held out to
            decide by: a third of the test data (`"test"`), at most 5,000 samples, of
            which the rest is scored at the end; or a tenth of the training data
            (`"train"`), for models that were not trained on all of it. None: the test
            data, where it has 300 samples.

    Raises:
        ValueError: If a bound is no such quantity, or two contradict each other.

    Example:
        >>> Budget(max_drop=0.5, max_bytes="20KB", runtime="micro").bounds["max_bytes"]
        20480
    """

    max_drop: float | str | None = None
    max_bytes: int | str | None = None
    compressed: bool | None = None
    max_latency: str | None = None
    max_arena: int | str | None = None
    max_macs: int | str | None = None
    runtime: str = "x86"
    minimize: str | None = None
    time: str | None = None
    trials: int | None = None
    metric: str | None = None
    validation_from: str | None = None

    def __post_init__(self) -> None:
        check_choice("runtime", self.runtime, RUNTIMES)
        if self.minimize is not None:
            check_choice("minimize", self.minimize, OBJECTIVES)
        if self.validation_from is not None:
            check_choice("validation_from", self.validation_from, PARTS)
        if self.compressed is not None and not isinstance(self.compressed, bool):
            raise ValueError(
                f"`compressed` must be True or False, got {self.compressed!r}."
            )
        if self.trials is not None:
            check_integer("trials", self.trials, least=1)
        _ = self.drop, self.bounds, self.seconds  # refuse what they cannot read
        self._check_runtime()

    def _check_runtime(self) -> None:
        if self.max_arena is not None and self.runtime != "micro":
            raise _only_there("max_arena", self.max_arena, "micro", self.runtime)
        if self.minimize == "arena" and self.runtime != "micro":
            raise _only_there("minimize", "arena", "micro", self.runtime)
        timed = self.max_latency is not None or self.minimize == "latency"
        if timed and self.runtime != "x86":
            name, value = (
                ("max_latency", self.max_latency)
                if self.max_latency is not None
                else ("minimize", "latency")
            )
            raise ValueError(
                f"`{name}`={value!r} needs a clock, and there is one for "
                f"runtime='x86' alone, got runtime={self.runtime!r}: what is emulated "
                "or in another machine's hands cannot be timed here. Bound `max_macs` "
                "in its place, which is the same everywhere."
            )
        if self.compressed and self.runtime == "micro":
            raise ValueError(
                "`compressed` bytes are what nobody unzips on a microcontroller: leave "
                "`compressed` out, and the bytes in flash count."
            )

    @property
    def drop(self) -> Drop | None:
        """The bound on the score; None where it is the default one or there is none."""
        return None if self.max_drop is None else Drop.parse(self.max_drop)

    @property
    def bounds(self) -> dict[str, float]:
        """What the file may cost at most, by the argument's name, in its basic unit."""
        readers: dict[str, Any] = {
            "max_bytes": parse_bytes,
            "max_latency": parse_latency,
            "max_arena": parse_bytes,
            "max_macs": parse_count,
        }
        given = {name: getattr(self, name) for name in readers}
        return {
            name: readers[name](name, value)
            for name, value in given.items()
            if value is not None
        }

    @property
    def seconds(self) -> float | None:
        """How long the search may take; None: as long as its trials take."""
        if self.time is not None:
            return parse_time("time", self.time)
        return None if self.trials is not None else parse_time("time", DEFAULT_TIME)

    @property
    def objective(self) -> str:
        """What is minimized: "gzip" or "raw" bytes, "latency", "arena"."""
        wanted = self.minimize
        if wanted is None:
            first = ("max_bytes", "max_latency", "max_arena")
            given = [name for name in first if name in self.bounds]
            wanted = given[0].removeprefix("max_") if len(given) == 1 else "bytes"
        return self.bytes_kind if wanted == "bytes" else wanted

    @property
    def bytes_kind(self) -> str:
        """Which bytes count: "gzip" or "raw"."""
        compressed = self.compressed
        if compressed is None:
            compressed = self.max_bytes is None and self.runtime != "micro"
        return "gzip" if compressed else "raw"

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it another search, by what it means; time and trials do not.

        Example:
            >>> Budget(max_bytes="20KB").identity == Budget(max_bytes=20480).identity
            True
        """
        table = {
            **self.bounds,
            "max_drop": None if self.drop is None else str(self.drop),
            "bytes_kind": self.bytes_kind,
            "objective": self.objective,
            "runtime": self.runtime,
            "metric": self.metric,
            "validation_from": self.validation_from,
        }
        return {name: value for name, value in table.items() if value is not None}

    @property
    def sentence(self) -> str:
        """What is looked for, for people.

        Example:
            >>> print(Budget(max_drop=0.5, max_bytes="20KB", time="5min").sentence)
            Looking for the smallest file for x86: at most 0.5 points worse, at most
            20,480 bytes; for 300 s.
        """
        return self.describe()

    def describe(self, *, training: bool = True, labels: bool = True) -> str:
        """What is looked for, where nothing is trained or labels are left out, too."""
        minimized = {
            "gzip": "smallest file, gzipped,",
            "raw": "smallest file",
            "latency": "fastest file",
            "arena": "file with the smallest arena",
        }
        best = minimized[self.objective]
        texts = [f"at most {self.drop} worse"] if self.drop else []
        texts += [self._text(name) for name in self.bounds]
        if not texts:
            texts = [_usual_bound(training, labels)]
        if self.drop is None and self.bounds:
            best = "best file"
        seconds = self.seconds
        ends = [f"{seconds:.0f} s"] if seconds is not None else []
        if self.trials:
            plural = "" if self.trials == 1 else "s"
            ends.append(f"{self.trials} training{plural} at most")
        if not training:
            ends.append("nothing is trained")
        return textwrap.fill(
            f"Looking for the {best} for {self.runtime}: {', '.join(texts)}; for "
            f"{', '.join(ends)}.",
            88,
        )

    def _text(self, name: str) -> str:
        what = name.removeprefix("max_").replace("macs", "multiply-accumulates")
        if what == "bytes":
            return f"at most {self.bounds[name]:,.0f} bytes"
        return f"{what} at most {getattr(self, name)}"

    def to_dict(self) -> dict[str, Any]:
        """Give what was given."""
        table = dataclasses.asdict(self)
        return {name: value for name, value in table.items() if value is not None}


def _usual_bound(training: bool, labels: bool) -> str:
    worse = "at most half a point (1 % of an error or a loss) worse"
    apart = "at most 2 points from what the model itself gives"
    if not labels:
        return apart
    return worse if training else f"{worse}; without labels {apart}"


def _only_there(name: str, value: Any, runtime: str, got: str) -> ValueError:
    return ValueError(
        f"`{name}`={value!r} is for runtime={runtime!r}, whose RAM is one arena, got "
        f"runtime={got!r}."
    )
