"""The recipe: an ordered, frozen description of one compression."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from penjing.arguments import check_flag, check_fraction
from penjing.engine.fractional_schedule import FractionalSchedule
from penjing.engine.schedules import Schedule
from penjing.engine.transforms.quantization_config import QuantizationSettings
from penjing.errors import RecipeError
from penjing.numerics.patterns import PATTERNS, Pattern
from penjing.tflite.modes import MODES, listed

if TYPE_CHECKING:
    Quantization = str
else:  # what recipe files are checked by
    Quantization = Literal[tuple(mode.name for mode in MODES)]

AUTO = "auto"
MAX_EPOCHS, MAX_COUNT = 100_000, 10**9


def check_least(recipe: Any, **least: int) -> None:
    """Refuse settings below the least that they may be."""
    for key, lowest in least.items():
        value = getattr(recipe, key)
        if value < lowest:
            raise RecipeError(f"`{key}` must be at least {lowest}, got {value}.")


def check_most(recipe: Any, **most: int) -> None:
    """Refuse settings above the most that they may be."""
    for key, highest in most.items():
        value = getattr(recipe, key)
        if value > highest:
            raise RecipeError(f"`{key}` must be at most {highest:,}, got {value:,}.")


def check_order(methods: Sequence[Any]) -> None:
    """Refuse what no model can take: channels cut late, or a method twice."""
    names = [getattr(type(method), "method", "") for method in methods]
    places = [place for place, name in enumerate(names) if name == "prune_channels"]
    if places and places != [0]:
        raise RecipeError(
            "`prune_channels` makes a new model, on which the other methods act: it "
            f"must be the first method and there once, got places {places}. Several "
            "cuts are `steps`."
        )
    places = [place for place, name in enumerate(names) if name == "one_shot"]
    first = int("prune_channels" in names)
    if places and places[0] != first:
        raise RecipeError(
            "`one_shot` makes a new model, on which the methods that train act: it "
            f"comes first, or right behind `prune_channels`, got place {places[0]}."
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RecipeError(
            f"The recipe has the method `{twice[0]}` {names.count(twice[0])} times, "
            "and a model takes each once. Keep one of them; `include` and `exclude` "
            "say for which layers."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """The fine-tuning that runs while the methods act.

    Args:
        epochs: Passes over the training data; 0, whatever `minimum_steps` is, for
            files of the model as it is, without methods that act in training.
        minimum_steps: Batches that are trained at least: small data sets get more
            epochs.
        batch_size: Samples in a batch; loaders bring their own batches.
        maximum_epochs: Passes that `minimum_steps` can ask for at most: more of them
            teach a small data set by heart. `epochs` may be more.
        optimizer: Name of a Keras optimizer.
        learning_rate: Peak of the learning rate. `"auto"`: the one that the model was
            compiled with, where its optimizer is of the same kind, and else one that a
            short range test finds.
        learning_rate_schedule: `"cosine"` falls to zero at the end of training,
            `"constant"` stays.
        warmup: Fraction of training in which the cosine's rate rises from zero.
        loss: Name of a Keras loss, or a table with `name` and the arguments of
            its class; None takes the loss that the model was compiled with.
        metrics: Names of Keras metrics; None takes those of the compiled model.
        validation_split: Share of the training arrays that is held out of training, of
            each class alike and chosen by the run's seed, where the data brings no
            validation part. Decisions are made on it: see `keep_best`.
        validation_from: `"test"`: the share is held out of the test arrays instead, of
            which the rest is the test part: no model that was trained before has seen
            those.
        keep_best: Keep the weights of the epoch that is best on the validation part, of
            those in which all methods acted in full. Otherwise those of the last epoch.
        keep_best_by: Name of the metric by which epochs are judged; None takes the
            first.
    """

    epochs: int = 8
    minimum_steps: int = 0
    batch_size: int = 128
    maximum_epochs: int = 50
    optimizer: Literal[
        "adam", "adamw", "nadam", "adamax", "sgd", "rmsprop", "lion", "adagrad"
    ] = "adam"
    learning_rate: Literal["auto"] | float = 3e-3
    learning_rate_schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    loss: str | dict[str, Any] | None = None
    metrics: tuple[str, ...] | None = None
    validation_split: float = 0.0
    validation_from: Literal["train", "test"] = "train"
    keep_best: bool = False
    keep_best_by: str | None = None

    def epochs_of(self, steps_per_epoch: int) -> int:
        """Epochs that are trained, given the batches in one.

        Example:
            >>> training = TrainingRecipe(epochs=10, minimum_steps=3000)
            >>> training.epochs_of(100), training.epochs_of(3)
            (30, 50)
        """
        if not self.epochs:
            return 0
        wanted = -(-self.minimum_steps // steps_per_epoch)
        return max(self.epochs, min(wanted, self.maximum_epochs))

    def __post_init__(self) -> None:
        check_least(self, epochs=0)
        if self.minimum_steps < 0:
            raise RecipeError(
                f"`minimum_steps` must not be negative, got {self.minimum_steps}."
            )
        check_least(self, batch_size=1, maximum_epochs=1)
        check_most(self, epochs=MAX_EPOCHS, maximum_epochs=MAX_EPOCHS)
        check_most(self, batch_size=MAX_COUNT, minimum_steps=MAX_COUNT)
        check_fraction("warmup", self.warmup, below_one=True)
        check_fraction("validation_split", self.validation_split, below_one=True)
        check_flag("keep_best", self.keep_best)
        self._check_rate()

    def _check_rate(self) -> None:
        rate = self.learning_rate
        if rate == AUTO:
            return
        if isinstance(rate, str) or not 0.0 < rate < math.inf:
            raise RecipeError(
                f"`learning_rate` must be a positive number, got {rate!r}. Typical "
                f'values lie between 1e-4 and 1e-2; "{AUTO}" finds one.'
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizeAwareRecipe(QuantizationSettings):
    """One `penjing.quantize_aware`: weights that train on evenly spaced values.

    A recipe says by numbers what `penjing.QuantizationConfig` says by grids; the other
    settings are the same.

    Args:
        bits: Width of the integers, 2 to 8.
        levels: How many integers are used, where that is fewer than `bits` allow: 15
            gives -7 to 7.
        granularity: One scale for a weight, or one for each of its channels; None
            takes one for a weight where the model is clustered.
        activations: `"int8"`: round what flows between the layers too; batch
            normalization is folded first, and files with int8 activations get exactly
            what was trained. None leaves it as it is.
        begin: Fraction of all training batches at which it begins.
        levels_by_layer: `levels` of single layers by path pattern.
    """

    bits: int = 8
    levels: int | None = None
    granularity: Literal["per_channel", "per_tensor"] | None = None
    activations: Literal["int8"] | None = None
    begin: float = 0.0
    levels_by_layer: dict[str, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("begin", self.begin, below_one=True)
        if not 2 <= self.bits <= 8:
            raise RecipeError(f"`bits` must be from 2 to 8, got {self.bits}.")
        most = 2**self.bits - 1
        by_key: dict[str, int | None] = {"levels": self.levels}
        for pattern, number in (self.levels_by_layer or {}).items():
            by_key[f"levels_by_layer.{pattern}"] = number
        for key, levels in by_key.items():
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
        runtime: `"micro"`: the compressed files are for TensorFlow Lite Micro;
            `"wasm"`: for LiteRT.js; both with a batch of 1. None: for LiteRT.
        encoding: `"packed"`: the first file comes packed too, in a file of its own;
            see `penjing.pack_litert`. With `runtime` "micro" alone.
        max_arena: Bytes of RAM that the packed file's arena may take; None: as many as
            it takes.
        float_layers: Names or patterns of layers that stay in float in `"int8"` and
            `"int8x4"` files of a model whose activations were not trained; `["auto"]`
            finds the fewest, see `penjing.export_litert`.
    """

    quantizations: tuple[Quantization, ...] = ("dynamic",)
    finish: Literal["smallest"] | None = None
    observer: Literal["min_max", "moving_average", "percentile", "mse"] = "min_max"
    runtime: Literal["micro", "wasm"] | None = None
    encoding: Literal["packed"] | None = None
    max_arena: int | None = None
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_runtime()
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
        if self.float_layers and not any(
            mode.name in self.quantizations for mode in observed
        ):
            raise RecipeError(
                f"`float_layers` needs {listed(observed)} among the `quantizations`, "
                f"got {list(self.quantizations)}."
            )

    def _check_runtime(self) -> None:
        if self.encoding and self.runtime != "micro":
            raise RecipeError(
                f'`encoding` = "{self.encoding}" is for TensorFlow Lite Micro alone: '
                'set `runtime` = "micro" too.'
            )
        if self.max_arena is not None and (self.max_arena < 1 or not self.encoding):
            raise RecipeError(
                "`max_arena` bounds the RAM of packed files, in bytes: a positive "
                f'number beside `encoding` = "packed", got {self.max_arena}.'
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """An ordered description of one compression: train, methods, export.

    Args:
        name: Name shown in the report.
        description: One line on what it is for.
        training: The fine-tuning.
        methods: Methods in the order in which they wrap the model. Without any it is
            trained on as it is, and its files are made.
        export: The files to write.

    Example:
        >>> from penjing import PruningConfig
        >>> schedule = FractionalSchedule(final_sparsity=0.8)
        >>> recipe = Recipe(name="mine", methods=(PruningConfig(schedule),))
        >>> recipe.training.epochs
        8
    """

    name: str
    description: str = ""
    training: TrainingRecipe = TrainingRecipe()
    methods: tuple[Any, ...]
    export: ExportRecipe = ExportRecipe()

    def __post_init__(self) -> None:
        if not self.training.epochs:
            names = [getattr(type(method), "method", "") for method in self.methods]
            untrained = ("prune_channels", "one_shot")
            trained = [f"`{name}`" for name in names if name not in untrained]
            if trained:
                raise RecipeError(
                    f"`epochs` must be at least 1, got 0: {', '.join(trained)} acts "
                    "in training. 0 is for recipes without methods (`methods = []`) "
                    "or with `prune_channels` and `one_shot` alone."
                )
        trained = [m for m in self.methods if getattr(m, "activations", None)]
        if trained and self.export.float_layers:
            raise RecipeError(
                "`float_layers` leaves layers in float whose activations were not "
                "trained, and `quantize_aware` with `activations` trains those of all. "
                "Leave layers out of it by its `exclude`."
            )
        self.to_dict()  # refuses what no recipe can hold

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as JSON and TOML can hold it, without unset keys."""
        return _plain_table(self)


# Version 0.1 wrote these at their defaults too, and a run that goes on is known by what
# is written. Settings that came later are left out there, so that no run begins anew.
_ALWAYS_WRITTEN = """
activations allocation batch_norm_batches batch_size begin bits description distillation
end epochs epochs_before export granularity group_lasso importance initial_sparsity
initialization kind l1 learn_scale learning_rate learning_rate_schedule min_channels
minimum_steps observer optimizer pattern power preserve_sparsity quantizations
recovery_epochs round_to scope steps temperature training warmup
"""


def _plain_table(config: Any) -> dict[str, Any]:
    method = getattr(type(config), "method", None)
    table: dict[str, Any] = {} if method is None else {"method": method}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        unset = field.name not in _ALWAYS_WRITTEN.split() and value == field.default
        if value is not None and not unset:
            table[field.name] = _plain(field.name, value)
    return table


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, Pattern):
        kinds = {pattern: kind for kind, pattern in PATTERNS.items()}
        return {"kind": kinds[type(value)], **_plain_table(value)}
    if callable(value) and not isinstance(value, FractionalSchedule):
        in_steps = isinstance(value, Schedule)
        hint = " Give it in fractions of training, as a penjing.FractionalSchedule."
        raise RecipeError(
            f"A recipe holds tables, lists, names and numbers, but `{key}` is "
            f"{value!r}.{hint if in_steps else ''}"
        )
    if dataclasses.is_dataclass(value):
        return _plain_table(value)
    if isinstance(value, (tuple, list)):
        return [_plain(key, item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(key, item) for name, item in value.items()}
    return value
