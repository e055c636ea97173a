"""The recipe: an ordered, frozen description of one compression."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from penjing.errors import RecipeError
from penjing.tflite.modes import MODES, listed

if TYPE_CHECKING:
    Quantization = str
else:  # what recipe files are checked by
    Quantization = Literal[tuple(mode.name for mode in MODES)]


def _check_fraction(key: str, value: float, *, below_one: bool = False) -> None:
    if not 0.0 <= value <= 1.0 or (below_one and value == 1.0):
        allowed = "[0, 1)" if below_one else "[0, 1]"
        raise RecipeError(f"`{key}` must be in {allowed}, got {value}.")


def _check_at_least_one(key: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise RecipeError(f"`{key}` must be at least 1, got {value}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """The fine-tuning that runs while the methods act.

    Args:
        epochs: Passes over the training data.
        minimum_steps: Batches that are trained at least: small data sets get more
            epochs.
        batch_size: Samples in a batch; loaders bring their own batches.
        optimizer: Name of a Keras optimizer.
        learning_rate: Peak of the learning rate.
        learning_rate_schedule: `"cosine"` falls to zero at the end of training,
            `"constant"` stays.
        warmup: Fraction of training in which the cosine's rate rises from zero.
        loss: Name of a Keras loss, or a table with `name` and the arguments of
            its class; None takes the loss that the model was compiled with.
        metrics: Names of Keras metrics; None takes those of the compiled model.
    """

    epochs: int = 8
    minimum_steps: int = 0
    batch_size: int = 128
    optimizer: Literal[
        "adam", "adamw", "nadam", "adamax", "sgd", "rmsprop", "lion", "adagrad"
    ] = "adam"
    learning_rate: float = 3e-3
    learning_rate_schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    loss: str | dict[str, Any] | None = None
    metrics: tuple[str, ...] | None = None

    def epochs_of(self, steps_per_epoch: int) -> int:
        """Epochs that are trained, given the batches in one.

        Example:
            >>> TrainingRecipe(epochs=10, minimum_steps=3000).epochs_of(100)
            30
        """
        return max(self.epochs, -(-self.minimum_steps // steps_per_epoch))

    def __post_init__(self) -> None:
        _check_at_least_one("epochs", self.epochs)
        if self.minimum_steps < 0:
            raise RecipeError(
                f"`minimum_steps` must not be negative, got {self.minimum_steps}."
            )
        _check_at_least_one("batch_size", self.batch_size)
        _check_fraction("warmup", self.warmup, below_one=True)
        if not 0.0 < self.learning_rate < math.inf:
            raise RecipeError(
                "`learning_rate` must be a positive number, got "
                f"{self.learning_rate}. Typical values lie between 1e-4 and 1e-2."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleRecipe:
    """A sparsity schedule in fractions of training.

    Args:
        kind: `"polynomial"`, `"cosine"`, `"constant"` or `"one_shot"`.
        initial_sparsity: Sparsity at `begin`; polynomial and cosine only.
        final_sparsity: Sparsity at `end` and from then on.
        begin: Fraction of all training batches at which pruning begins.
        end: Fraction at which the final sparsity is reached.
        power: Exponent of the polynomial.
        frequency: Batches between two updates of the masks; None takes about
            25 updates in the ramp and at most every 100 batches.
    """

    kind: Literal["polynomial", "cosine", "constant", "one_shot"] = "polynomial"
    initial_sparsity: float = 0.0
    final_sparsity: float
    begin: float = 0.0
    end: float = 0.5
    power: float = 3.0
    frequency: int | None = None

    def __post_init__(self) -> None:
        _check_fraction("initial_sparsity", self.initial_sparsity, below_one=True)
        _check_fraction("final_sparsity", self.final_sparsity, below_one=True)
        _check_fraction("begin", self.begin, below_one=True)
        _check_fraction("end", self.end)
        _check_at_least_one("frequency", self.frequency)
        if self.kind in ("polynomial", "cosine") and self.begin >= self.end:
            raise RecipeError(
                f"`end` must come after `begin`, got begin={self.begin} and "
                f"end={self.end}. Both are fractions of training."
            )
        if not self.power > 0.0:
            raise RecipeError(f"`power` must be above 0, got {self.power}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatternRecipe:
    """What falls together: single weights, blocks, or n of every m.

    Args:
        kind: `"unstructured"`, `"block"` or `"nm"`.
        rows: Rows of a block.
        columns: Columns of a block.
        pooling: `"mean"` or `"max"` importance of a block.
        n: Weights kept of every `m` along the input axis.
        m: Length of a run.
    """

    kind: Literal["unstructured", "block", "nm"] = "unstructured"
    rows: int | None = None
    columns: int | None = None
    pooling: Literal["mean", "max"] | None = None
    n: int | None = None
    m: int | None = None

    def __post_init__(self) -> None:
        needed = {"unstructured": (), "block": ("rows", "columns"), "nm": ("n", "m")}
        allowed = {*needed[self.kind], *(("pooling",) if self.kind == "block" else ())}
        for key in needed[self.kind]:
            if getattr(self, key) is None:
                raise RecipeError(f'The pattern "{self.kind}" needs the key `{key}`.')
            _check_at_least_one(key, getattr(self, key))
        for key in ("rows", "columns", "pooling", "n", "m"):
            if key not in allowed and getattr(self, key) is not None:
                raise RecipeError(
                    f'The pattern "{self.kind}" does not take the key `{key}`.'
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneRecipe:
    """One `penjing.prune` with its schedule in fractions of training.

    Args:
        schedule: When how much falls.
        scope: `"layer"` or `"global"`.
        allocation: `"uniform"` or `"erk"`.
        pattern: What falls together.
        importance: Which weights fall first.
        include: Patterns of weight paths to prune; None prunes all that can be.
        exclude: Patterns of weight paths to leave alone.
        sparsity_by_layer: Final sparsity of single layers by path pattern.
        keep_at_least: Weights that stay in the whole model, as far as the initial
            sparsity allows: small models have fewer to spare.
        l1: Penalty on the magnitudes of the kept weights.
    """

    name: ClassVar[str] = "prune"

    schedule: ScheduleRecipe
    scope: Literal["layer", "global"] = "layer"
    allocation: Literal["uniform", "erk"] = "uniform"
    pattern: PatternRecipe = PatternRecipe()
    importance: Literal["magnitude", "normalized_magnitude", "lamp", "random"] = (
        "magnitude"
    )
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    sparsity_by_layer: dict[str, float] | None = None
    keep_at_least: int | None = None
    l1: float = 0.0

    def __post_init__(self) -> None:
        _check_at_least_one("keep_at_least", self.keep_at_least)
        if not 0.0 <= self.l1 < math.inf:
            raise RecipeError(f"`l1` must be a number of at least 0, got {self.l1}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterRecipe:
    """One `penjing.cluster`: weights that share a few values, which are trained.

    Args:
        num_clusters: Values that a weight may share; zero comes in addition.
        initialization: Where k-means starts.
        granularity: One codebook for a weight, or one for each of its channels.
        preserve_sparsity: Weights that are exactly zero stay so.
        include: Patterns of weight paths to cluster; None clusters all that can be.
        exclude: Patterns of weight paths to leave alone.
    """

    name: ClassVar[str] = "cluster"

    num_clusters: int
    initialization: Literal["k-means++", "linear", "density", "random"] = "k-means++"
    granularity: Literal["per_tensor", "per_channel"] = "per_tensor"
    preserve_sparsity: bool = True
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_at_least_one("num_clusters", self.num_clusters)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizeAwareRecipe:
    """One `penjing.quantize_aware`: weights that train on evenly spaced values.

    Args:
        bits: Width of the integers, 2 to 8.
        levels: How many integers are used, where that is fewer than `bits` allow: 15
            gives -7 to 7.
        granularity: One scale for a weight, or one for each of its channels; None
            takes one for a weight where the model is clustered.
        activations: `"int8"`: round what flows between the layers too; batch
            normalization is folded first, and files with int8 activations get exactly
            what was trained. None leaves it as it is.
        learn_scale: Train the scales; else they follow the weights.
        begin: Fraction of all training batches at which it begins.
        levels_by_layer: `levels` of single layers by path pattern.
        include: Patterns of weight paths to quantize; None quantizes all that can be.
        exclude: Patterns of weight paths to leave alone.
    """

    name: ClassVar[str] = "quantize_aware"

    bits: int = 8
    levels: int | None = None
    granularity: Literal["per_channel", "per_tensor"] | None = None
    activations: Literal["int8"] | None = None
    learn_scale: bool = True
    begin: float = 0.0
    levels_by_layer: dict[str, int] | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_fraction("begin", self.begin, below_one=True)
        if not 2 <= self.bits <= 8:
            raise RecipeError(f"`bits` must be from 2 to 8, got {self.bits}.")
        for key, levels in (
            ("levels", self.levels),
            *(
                (f"levels_by_layer.{pattern}", levels)
                for pattern, levels in (self.levels_by_layer or {}).items()
            ),
        ):
            most = 2**self.bits - 1
            if levels is not None and not 3 <= levels <= most:
                raise RecipeError(
                    f"`{key}` must be from 3 to 2**bits - 1 = {most}, got {levels}."
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportRecipe:
    """The `.tflite` files to write.

    Args:
        quantizations: Modes; the first becomes `model.tflite`. A float32 file
            is always written too, for comparison.
        finish: `"smallest"` rewrites the compressed files in fewer bytes; see
            `penjing.shrink_litert`. None leaves them as converted.
        observer: How `"int8"` and `"int8x4"` find the ranges of activations that were
            not trained; see `penjing.export_litert`.
    """

    quantizations: tuple[Quantization, ...] = ("dynamic",)
    finish: Literal["smallest"] | None = None
    observer: Literal["min_max", "moving_average", "percentile", "mse"] = "min_max"

    def __post_init__(self) -> None:
        if not self.quantizations:
            raise RecipeError(
                '`quantizations` is empty. Name at least one mode, e.g. ["dynamic"].'
            )
        if len(set(self.quantizations)) != len(self.quantizations):
            raise RecipeError(
                f"`quantizations` names a mode twice: {list(self.quantizations)}."
            )
        observed = [mode for mode in MODES if mode.has_int8_activations]
        if self.observer != "min_max" and not any(
            mode.name in self.quantizations for mode in observed
        ):
            raise RecipeError(
                f'`observer` = "{self.observer}" needs {listed(observed)} among the '
                f"`quantizations`, got {list(self.quantizations)}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """An ordered description of one compression: train, methods, export.

    Args:
        name: Name shown in the report.
        description: One line on what it is for.
        training: The fine-tuning.
        methods: Methods in the order in which they wrap the model.
        export: The files to write.

    Example:
        >>> recipe = Recipe(
        ...     name="mine",
        ...     methods=(PruneRecipe(schedule=ScheduleRecipe(final_sparsity=0.8)),),
        ... )
        >>> recipe.training.epochs
        8
    """

    name: str
    description: str = ""
    training: TrainingRecipe = TrainingRecipe()
    methods: tuple[Any, ...]
    export: ExportRecipe = ExportRecipe()

    def __post_init__(self) -> None:
        if not self.methods:
            raise RecipeError(
                "The recipe has no methods. Add a [[methods]] table with "
                'method = "prune" and a schedule.'
            )

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as JSON and TOML can hold it, without unset keys."""
        return _plain_table(self)


def _plain_table(config: Any) -> dict[str, Any]:
    table: dict[str, Any] = {}
    if isinstance(getattr(type(config), "name", None), str):
        table["method"] = type(config).name
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is not None:
            table[field.name] = _plain(value)
    return table


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain_table(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
