import dataclasses
import inspect
import json
import typing

import keras
import pytest

import penjing
from penjing import (
    Block,
    ClusteringConfig,
    FractionalSchedule,
    Grid,
    OneShot,
    PruningConfig,
    QuantizationConfig,
    pipeline,
)
from penjing.engine.transforms.method_config import (
    MethodConfig,
    OfModel,
    takes_settings,
)

pytestmark = pytest.mark.once

METHODS = {
    PruningConfig: penjing.prune,
    ClusteringConfig: penjing.cluster,
    QuantizationConfig: penjing.quantize_aware,
}
SCHEDULE = FractionalSchedule(final_sparsity=0.5)
# A value of each setting that is not its default.
PRUNING = {
    "schedule": SCHEDULE,
    "scope": "global",
    "allocation": "erk",
    "pattern": Block(2, 1),
    "importance": "lamp",
    "include": ("one",),
    "exclude": ("two",),
    "sparsity_by_layer": {"one": 0.25},
    "keep_at_least": 9,
    "l1": 1e-4,
}
CLUSTERING = {
    "num_clusters": 5,
    "initialization": "linear",
    "granularity": "per_channel",
    "preserve_sparsity": False,
    "count_zero": True,
    "centroid_gradient": "sum",
    "include": ("one",),
    "exclude": ("two",),
    "seed": 3,
}
QUANTIZATION = {
    "learn_scale": False,
    "include": ("one",),
    "exclude": ("two",),
    "weights": Grid(bits=4),
    "begin_step": 7,
    "grids_by_layer": {"one": Grid(levels=3)},
}
SETTINGS = [
    (cls, needed, name, value)
    for cls, needed, values in (
        (PruningConfig, {"schedule": SCHEDULE}, PRUNING),
        (ClusteringConfig, {"num_clusters": 4}, CLUSTERING),
        (QuantizationConfig, {}, QUANTIZATION),
    )
    for name, value in values.items()
]


def test_every_setting_has_a_value_here():
    named = {(cls, name) for cls, _, name, _ in SETTINGS}
    fields = {(cls, field.name) for cls in METHODS for field in dataclasses.fields(cls)}
    assert named == fields


@pytest.mark.parametrize("cls", METHODS)
def test_every_setting_is_an_argument_with_its_default_and_its_text(cls):
    function = METHODS[cls]
    hints = typing.get_type_hints(cls)
    parameters = inspect.signature(function).parameters
    for field in dataclasses.fields(cls):
        parameter = parameters[field.name]
        assert parameter.annotation == hints[field.name]
        missing = field.default is dataclasses.MISSING
        assert parameter.default == (parameter.empty if missing else field.default)
        assert f"\n    {field.name}: " in inspect.getdoc(function)
    assert list(parameters)[0] == "model"
    assert list(parameters)[-1] == "copy"
    assert "        config: " not in function.__doc__


@pytest.mark.parametrize(("cls", "needed", "name", "value"), SETTINGS)
def test_every_setting_reaches_the_config_of_the_model(cls, needed, name, value):
    if name == "schedule":
        value = OneShot(0.25)
    needed = needed | {"schedule": OneShot(0.5)} if "schedule" in needed else needed
    model = keras.Sequential([keras.Input((12,))])
    model.add(keras.layers.Dense(8, name="one"))
    model.add(keras.layers.Dense(4, name="two"))
    given = {**needed, name: value}
    made = METHODS[cls](model, **given).transforms[0].config
    config = cls(**given)
    if name == "keep_at_least":  # 9 of 128 weights: more than half may go
        assert made == config
    elif cls is QuantizationConfig and name != "weights":
        assert made == dataclasses.replace(config, weights=Grid())
    else:
        assert made == config


@pytest.mark.parametrize(("cls", "needed", "name", "value"), SETTINGS)
def test_every_setting_survives_json(cls, needed, name, value):
    config = cls(**{**needed, name: value})
    text = json.dumps(keras.saving.serialize_keras_object(config))
    loaded = keras.saving.deserialize_keras_object(json.loads(text))
    if name in ("include", "exclude"):
        loaded = dataclasses.replace(loaded, **{name: tuple(getattr(loaded, name))})
    assert loaded == config
    assert getattr(loaded, name) != next(
        field.default for field in dataclasses.fields(cls) if field.name == name
    )


@pytest.mark.parametrize(
    ("cls", "needed", "name", "value"),
    [setting for setting in SETTINGS if setting[0] is not QuantizationConfig],
)
def test_every_setting_is_a_key_of_recipes(cls, needed, name, value):
    row = cls(**{**needed, name: value})
    recipe = pipeline.Recipe(name="mine", methods=(row,))
    table = recipe.to_dict()["methods"][0]
    assert table["method"] == cls.method
    assert name in table
    assert pipeline.recipe_from_dict(recipe.to_dict()) == recipe


def test_layers_are_saved_by_their_names():
    config = PruningConfig(OneShot(0.5), include=keras.layers.Dense(2, name="head"))
    assert config.get_config()["include"] == ["head"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(MethodConfig):
    """What to do.

    Args:
        first: The first of all,
            on two lines.
        second: The other.
    """

    first: int = dataclasses.field(kw_only=False)
    second: str = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Settings, OfModel):
    """The signature of `do`."""

    copy: bool = True


@takes_settings(Settings, Arguments)
def do(model, config: Settings, *, copy: bool = True) -> tuple[object, ...]:
    """Do it.

    Args:
        model: Whom to do it to.
        config: What to do: on
            two lines.
        copy: How.

    Returns:
        What was given.
    """
    return model, config, copy


def test_settings_are_gathered_in_a_config():
    assert do("m", 1) == ("m", Settings(1), True)
    given = do(model="m", first=1, second="x", copy=False)
    assert given == ("m", Settings(1, second="x"), False)


def test_the_docstring_names_the_settings_where_the_config_was():
    assert inspect.getdoc(do) == inspect.cleandoc(
        """Do it.

        Args:
            model: Whom to do it to.
            first: The first of all,
                on two lines.
            second: The other.
            copy: How.

        Returns:
            What was given.
        """
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "m"}, "do() missing a required argument: 'first'"),
        ({"model": "m", "first": 1, "third": 2}, "do() got an unexpected keyword"),
    ],
)
def test_other_arguments_are_refused_by_the_function_s_name(given, says):
    with pytest.raises(TypeError) as caught:
        do(**given)
    assert str(caught.value).startswith(says)
