"""What one pass over a model does to its weights: checked and frozen."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypedDict, cast

from penjing.arguments import check_choice, check_flag, check_integer
from penjing.engine.transforms.quantization_config import QuantizationConfig
from penjing.models.selection import Filter
from penjing.numerics.grids import Grid
from penjing.numerics.patterns import NM, Pattern, Unstructured
from penjing.progress import Listener

PRUNING_METHODS = ("sparsegpt", "wanda", "magnitude")
ROUNDING_METHODS = ("gptq", "rtn")
SCOPES = ("auto", "layer", "global")
MAX_MEMORY = 256 * 2**20
AUTO = "auto"
MOST_BITS = 8  # that a file stores a weight with
DAMPING = 0.05  # what is made up for on a few inputs is partly chance

BitsByLayer: TypeAlias = Mapping[str, int] | Literal["auto"] | None


class CommonSettings(TypedDict, total=False):
    """What both public functions take by name, for type checkers."""

    weights: Grid | int | None
    method: str
    bits_by_layer: BitsByLayer
    max_bytes: int | None
    compressed: bool
    include: Filter
    exclude: Filter
    sequential: bool
    damping: float
    max_memory: int
    progress: Listener | bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneShotConfig:
    """What is done to a model's weights, in checked values.

    The fields are the arguments of `prune_one_shot` and `quantize_weights`; `sparsity`
    is None where nothing is pruned, `weights` where nothing is rounded, `max_bytes`
    where bits are not looked for.
    """

    method: str
    sparsity: float | None = None
    pattern: Pattern = Unstructured()
    scope: str = "layer"
    weights: Grid | None = None
    grids_by_layer: Mapping[str, Grid] | None = None
    max_bytes: int | None = None
    compressed: bool = False
    include: Filter = None
    exclude: Filter = None
    sequential: bool = False
    damping: float = DAMPING
    max_memory: int = MAX_MEMORY

    def __post_init__(self) -> None:
        check_flag("sequential", self.sequential)
        check_flag("compressed", self.compressed)
        check_integer("max_memory", self.max_memory, least=1, hint=" It is in bytes.")
        number = isinstance(self.damping, int | float)
        if not number or isinstance(self.damping, bool) or not 0 < self.damping <= 1:
            raise ValueError(
                f"`damping` must be above 0 and at most 1, got {self.damping!r}. "
                f"{DAMPING} is the default."
            )
        QuantizationConfig(weights=self.weights, grids_by_layer=self.grids_by_layer)

    @property
    def prunes(self) -> bool:
        """Whether weights fall."""
        return self.sparsity is not None

    @property
    def needs_data(self) -> bool:
        """Whether it cannot be done without inputs of the model."""
        plain = self.method in ("magnitude", "rtn") and self.scope != "auto"
        return not plain or self.max_bytes is not None


def pruning_settings(
    sparsity: float | None, pattern: Pattern | None, method: str, scope: str
) -> dict[str, Any]:
    """Check what says which weights fall; gives fields of a `OneShotConfig`."""
    check_choice("method", method, PRUNING_METHODS)
    check_choice("scope", scope, SCOPES)
    pattern = Unstructured() if pattern is None else pattern
    if not isinstance(pattern, Pattern):
        raise ValueError(
            "`pattern` must be a penjing Pattern, such as penjing.NM(2, 4), got "
            f"{pattern!r} of type {type(pattern).__name__}."
        )
    if isinstance(pattern, NM):
        if scope == "global":
            raise ValueError(
                f"{pattern} gives every layer the same sparsity, so it goes with "
                'scope="auto" or "layer" only.'
            )
        scope = "layer"
        own = 1 - pattern.n / pattern.m
        if isinstance(sparsity, int | float) and abs(sparsity - own) > 1e-6:
            raise ValueError(
                f"{pattern} makes {own:g} of the weights zero, got `sparsity`="
                f"{sparsity!r}. Leave `sparsity` out, or choose another n and m."
            )
        sparsity = own if sparsity is None else sparsity
    sparsity = 0.5 if sparsity is None else sparsity
    is_number = isinstance(sparsity, int | float) and not isinstance(sparsity, bool)
    if not is_number or not 0 <= sparsity < 1:
        raise ValueError(
            f"`sparsity` must be a number in [0, 1), got {sparsity!r}. 0.5 makes half "
            "of the weights zero."
        )
    pattern.check_sparsity(float(sparsity))
    return {"sparsity": float(sparsity), "pattern": pattern, "scope": scope}


def as_grid(weights: Grid | int | None) -> Grid | None:
    """A grid, also of a number of levels; anything else is a ValueError."""
    if isinstance(weights, int) and not isinstance(weights, bool):
        if not 3 <= weights <= 255:
            raise ValueError(
                "`weights` must be a penjing.Grid or a number of levels from 3 to 255, "
                f"got {weights!r}. penjing.Grid(bits={min(max(weights, 2), 8)}) gives "
                "bits, from 2 to 8."
            )
        bits = max(math.ceil(math.log2(weights)), 2)
        return Grid(bits=bits, levels=weights)
    return cast("Grid | None", weights)  # what is no grid is refused later


def bits_settings(
    bits_by_layer: BitsByLayer,
    weights: Grid | None,
    max_bytes: int | None,
    compressed: bool,
) -> dict[str, Any]:
    """Check what says how many bits layers have; gives fields of a `OneShotConfig`."""
    if max_bytes is not None:
        check_integer("max_bytes", max_bytes, least=1, hint=" It is in bytes.")
    if (bits_by_layer == AUTO) != (max_bytes is not None):
        raise ValueError(
            '`bits_by_layer="auto"` and `max_bytes` go together: bits are looked for '
            f"within so many bytes. Got bits_by_layer={bits_by_layer!r} and "
            f"max_bytes={max_bytes!r}."
        )
    if compressed and max_bytes is None:
        raise ValueError("`compressed` says how `max_bytes` counts, which is missing.")
    if bits_by_layer == AUTO:
        return {"max_bytes": max_bytes, "compressed": compressed}
    return {"grids_by_layer": _grids_of_bits(bits_by_layer, weights)}


def _grids_of_bits(
    bits_by_layer: BitsByLayer, weights: Grid | None
) -> dict[str, Grid] | None:
    """Grids like `weights` with the bits that patterns give; checked."""
    if bits_by_layer is None:
        return None
    if not isinstance(bits_by_layer, Mapping):
        raise ValueError(
            "`bits_by_layer` must be 'auto' or a mapping such as {'dense*': 4}, got "
            f"{bits_by_layer!r} of type {type(bits_by_layer).__name__}."
        )
    for pattern, bits in bits_by_layer.items():
        if not isinstance(pattern, str):
            raise ValueError(
                "`bits_by_layer` takes patterns such as 'dense*' as its keys, got "
                f"{pattern!r} of type {type(pattern).__name__}."
            )
        number = isinstance(bits, numbers.Integral) and not isinstance(bits, bool)
        if not number or not 2 <= bits <= MOST_BITS:
            raise ValueError(
                f"`bits_by_layer[{pattern!r}]` must be an integer from 2 to "
                f"{MOST_BITS}, got {bits!r}."
            )
    granularity = "per_channel" if weights is None else weights.granularity
    return {
        pattern: Grid(bits=int(bits), granularity=granularity)
        for pattern, bits in bits_by_layer.items()
    }
