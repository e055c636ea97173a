"""The architectures' sizes, seeds and refusals."""

import random

import keras
import numpy as np
import pytest
from tests.jax_cases import few_on_jax

from penjing.data.architectures import build_architecture

PARAMETERS = {
    "article": 20_410,
    "lenet-300-100": 266_610,
    "lenet-5": 431_080,
    "cnn": 421_642,
    "resnet-20": 273_754,
    "mobilenet": 278_922,
}

SMALLEST = {
    "article": 4,
    "lenet-300-100": 1,
    "lenet-5": 16,
    "cnn": 4,
    "resnet-20": 4,
    "mobilenet": 8,
}


def all_weights(model):
    return np.concatenate([np.ravel(weight) for weight in model.get_weights()])


@pytest.mark.parametrize("name", few_on_jax(PARAMETERS, "cnn"))
def test_it_has_the_published_number_of_parameters_and_gives_logits(name):
    model = build_architecture(name)
    assert model.count_params() == PARAMETERS[name]
    assert not model.compiled
    logits = keras.ops.convert_to_numpy(model(np.ones((3, 28, 28), np.float32)))
    assert logits.shape == (3, 10)
    assert np.abs(logits.sum(axis=-1) - 1).max() > 1e-3, "these look like probabilities"


@pytest.mark.parametrize("name", few_on_jax(PARAMETERS, "cnn"))
def test_the_same_seed_gives_the_same_weights_and_another_does_not(name):
    first = all_weights(build_architecture(name, seed=3))
    random.seed(99)
    np.testing.assert_array_equal(all_weights(build_architecture(name, seed=3)), first)
    other = all_weights(build_architecture(name, seed=4))
    assert (other != first).mean() > 0.9


def test_the_layers_of_one_model_do_not_share_their_draws():
    model = build_architecture("cnn", input_shape=(8, 8))
    kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
    assert len(kernels) == 4
    signs = [np.sign(np.ravel(keras.ops.convert_to_numpy(k))[:200]) for k in kernels]
    for position, left in enumerate(signs):
        for right in signs[position + 1 :]:
            assert 0.2 < (left == right).mean() < 0.8


def draw_after_seeding(build):
    random.seed(5)
    np.random.seed(5)
    keras.utils.clear_session(free_memory=False)
    build()
    drawn = keras.ops.convert_to_numpy(keras.random.uniform((4,)))
    return [*drawn, *np.random.uniform(size=4), random.random()]


def test_building_leaves_the_random_state_alone():
    untouched = draw_after_seeding(lambda: None)
    assert draw_after_seeding(lambda: build_architecture("cnn", seed=1)) == untouched


@pytest.mark.once
def test_the_article_model_is_sequential_with_the_article_layers():
    model = build_architecture("article")
    assert isinstance(model, keras.Sequential)
    assert [layer.name for layer in model.layers] == [
        "reshape",
        "conv2d",
        "max_pooling2d",
        "flatten",
        "dense",
    ]
    assert [tuple(layer.output.shape) for layer in model.layers] == [
        (None, 28, 28, 1),
        (None, 26, 26, 12),
        (None, 13, 13, 12),
        (None, 2028),
        (None, 10),
    ]


@pytest.mark.once
def test_paths_are_the_same_in_every_model():
    first, second = build_architecture("lenet-5"), build_architecture("lenet-5")
    assert [w.path for w in first.weights] == [w.path for w in second.weights]


@pytest.mark.once
@pytest.mark.parametrize("name", PARAMETERS)
def test_it_takes_images_with_channels_and_any_number_of_classes(name):
    model = build_architecture(name, input_shape=(20, 24, 3), classes=7)
    assert model.input_shape == (None, 20, 24, 3)
    assert model.output_shape == (None, 7)


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "lenet5"}, r"Unknown architecture 'lenet5'. Did you mean 'lenet-5'"),
        ({"name": "resnet"}, r"Allowed: 'article', 'lenet-300-100', 'lenet-5', 'cnn'"),
        ({"name": None}, r"Unknown architecture None"),
        ({"input_shape": (28,)}, r"\(height, width\).*got \(28,\)"),
        ({"input_shape": (28, 0)}, r"positive integers.*got \(28, 0\)"),
        ({"input_shape": (None, 28)}, r"positive integers.*got \(None, 28\)"),
        ({"name": "lenet-5", "input_shape": (15, 28)}, r"at least 16, got \(15, 28\)"),
        ({"classes": 1}, r"`classes` must be an integer of at least 2, got 1"),
        ({"classes": 2.5}, r"got 2\.5"),
        ({"seed": -1}, r"`seed` must be an integer of at least 0, got -1"),
    ],
)
def test_it_refuses_the_impossible_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_architecture(**{"name": "article", **arguments})


@pytest.mark.once
@pytest.mark.parametrize("name", PARAMETERS)
def test_the_smallest_allowed_image_works_and_the_next_smaller_does_not(name):
    smallest = SMALLEST[name]
    model = build_architecture(name, input_shape=(smallest, smallest))
    assert model.output_shape == (None, 10)
    with pytest.raises(ValueError, match="input_shape"):
        build_architecture(name, input_shape=(smallest - 1, smallest))
