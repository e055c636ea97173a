"""Blocks of other packages lose what a number of their config counts."""

from __future__ import annotations

import functools

import keras
import pytest
from keras import layers
from tests.channels import hub_layers as hub
from tests.channels.channel_cases import cut, start_with_zeros
from tests.channels.traced import groups_of, reasons, units
from tests.jax_cases import few_on_jax

import penjing

reversible = pytest.mark.skipif(
    not hasattr(layers, "ReversibleEmbedding"), reason="came with Keras 3.13"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    start_with_zeros(monkeypatch)


def encoder(name="encoder", **options):
    return hub.TransformerEncoder(
        name=name, num_heads=2, intermediate_dim=12, **options
    )


def gemma():
    return hub.GemmaDecoderBlock(
        name="gemma",
        num_query_heads=6,
        num_key_value_heads=3,
        head_dim=4,
        intermediate_dim=20,
    )


def mobile(squeeze=None, expansion=40):
    return hub.InvertedResidualBlock(
        name="mobile", expansion=expansion, squeeze_excite_ratio=squeeze
    )


def llama():
    return hub.LlamaTransformerDecoder(name="llama", intermediate_dim=10)


def gemma3():
    return hub.Gemma3DecoderBlock(
        name="gemma3",
        num_query_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        intermediate_dim=10,
        gate_dim_reduction=1,
    )


def qwen3():
    return hub.Qwen3TransformerDecoder(
        name="qwen3",
        num_query_heads=6,
        num_key_value_heads=3,
        head_dim=4,
        intermediate_dim=10,
    )


def mixtral():
    return hub.MixtralTransformerDecoder(
        name="mixtral", num_experts=3, intermediate_dim=10
    )


def t5(gated):
    return hub.T5TransformerLayer(
        name="t5", intermediate_dim=10, use_gated_activation=gated
    )


def windowed():
    return hub.WindowedTransformerEncoder(
        name="windowed", intermediate_dim=10, activation="gelu"
    )


def vit():
    return hub.ViTEncoder(name="vit", num_layers=2, mlp_dim=9)


BLOCKS = {
    "encoder": ({"encoder/feedforward_intermediate_dense": 12}, encoder, (6, 8)),
    "llama": ({"llama/feedforward_intermediate_dense": 10}, llama, (6, 8)),
    "gemma": ({"gemma/attention": 3, "gemma/gating_ffw": 10}, gemma, (6, 8)),
    "gemma3": ({"gemma3/attention": 2, "gemma3/gating_ffw": 10}, gemma3, (6, 8)),
    "qwen3": (
        {"qwen3/attention": 3, "qwen3/feedforward_intermediate_dense": 10},
        qwen3,
        (6, 8),
    ),
    "mixtral": ({"mixtral/experts": 10}, mixtral, (6, 8)),
    "t5": ({"t5/input_projector": 10}, functools.partial(t5, True), (6, 8)),
    "windowed": ({"windowed/layers.0": 10}, windowed, (6, 8)),
    "vit": ({"vit/mlp.dense_1": 9}, vit, (6, 8)),
    "mobile": ({"mobile/expansion": 5}, mobile, (6, 6, 4)),
}


@pytest.mark.parametrize("name", few_on_jax(BLOCKS, "gemma", "vit"))
def test_a_block_without_units_is_the_silenced_one(name):
    sizes, make, shape = BLOCKS[name]
    model = hub.chain(make(), shape=shape)
    small, graph = cut(model)
    found = {group.name: group.size for group in graph.groups if group.reason is None}
    assert found == sizes
    assert small.count_params() < model.count_params()
    assert "adds its input to what" in dict(graph.skipped)[name]


@pytest.mark.once
def test_a_layer_that_a_block_does_not_have_is_none():
    small, graph = cut(hub.chain(t5(gated=False)))
    assert [group.size for group in graph.groups if group.reason is None] == [10]
    assert small.get_layer("t5").intermediate_dim < 10


def test_what_a_block_reads_and_gives_stays_whole():
    found = reasons(hub.chain(layers.Dense(8, name="made"), encoder()))
    wanted = "'encoder' of class TransformerEncoder adds its input to what heads of a"
    assert found["made"].startswith(wanted)


@reversible
def test_embeddings_fall_with_what_is_added_to_them():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.ReversibleEmbedding(20, 8, name="token")(tokens)
    x = x + hub.PositionEmbedding(name="position", sequence_length=7)(x)
    model = keras.Model(tokens, layers.Dense(3, name="read")(x))
    token = groups_of(model)["token"]
    assert token.size == 8 and token.reason is None
    assert units(token, "position/embeddings", 1) == list(range(8))
    small, _ = cut(model)
    assert small.get_layer("token").output_dim < 8


@reversible
@pytest.mark.parametrize("tied", [True, False])
def test_scores_for_each_entry_read_the_embedding(tied):
    tokens = keras.Input((5,), dtype="int32")
    embedding = layers.ReversibleEmbedding(20, 8, tie_weights=tied, name="token")
    x = layers.ReLU()(embedding(tokens))
    model = keras.Model(tokens, embedding(x, reverse=True))
    group = groups_of(model)["token"]
    if not tied:
        assert units(group, "token/reverse_embeddings", 0) == list(range(8))
    small, _ = cut(model)
    assert small.get_layer("token").output_dim < 8
    assert small.output_shape == (None, 5, 20)


@reversible
def test_an_embedding_whose_scores_are_read_of_another_tensor_stays():
    tokens = keras.Input((5,), dtype="int32")
    other = keras.Input((5, 8))
    embedding = layers.ReversibleEmbedding(20, 8, name="token")
    read = layers.Dense(2)(embedding(tokens))
    model = keras.Model([tokens, other], [read, embedding(other, reverse=True)])
    assert "input of the model" in reasons(model)["token"]


@reversible
@pytest.mark.parametrize("tied", [True, False])
def test_token_and_position_embedding(tied):
    layer = hub.TokenAndPositionEmbedding(
        name="embeddings",
        vocabulary_size=20,
        sequence_length=7,
        embedding_dim=8,
        tie_weights=tied,
    )
    small, graph = cut(hub.chain(layer, shape=(6,), dtype="int32"))
    assert [g.size for g in graph.groups if g.reason is None] == [8]
    assert small.get_layer("embeddings").embedding_dim < 8


@pytest.mark.once
@pytest.mark.parametrize("options", [{"squeeze": 0.25}, {"expansion": 40}])
def test_widths_that_follow_from_each_other_stay(options):
    found = reasons(hub.chain(mobile(**options), shape=(6, 6, 4)))
    assert ("mobile/expansion" in found) == ("squeeze" not in options)


@pytest.mark.once
def test_a_user_is_told_the_first_cause_alone():
    """Ten blocks, each of which adds to what could not be cut before it."""

    class Own(layers.Layer):
        def call(self, x):
            return x * 1.0

    x = inputs = keras.Input((4,))
    x = Own(name="own")(layers.Dense(8, name="first")(x))
    for _ in range(10):
        x = x + layers.Dense(8)(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    rows = penjing.channel_report(model).rows
    longest = max(rows, key=lambda row: len(row.reason)).reason
    assert longest.count("'own' of class Own is not in the table") == 1
    assert longest.count("joins it with what stays whole") == 1


@pytest.mark.once
def test_names_of_other_packages_say_nothing():
    class TransformerEncoder(layers.Layer):
        def call(self, x):
            return x + 1.0

    model = hub.chain(layers.Dense(8, name="made"), TransformerEncoder(name="mine"))
    assert "not in the table" in reasons(model)["made"]


@pytest.mark.once
def test_the_smaller_model_is_plain_and_prunes_by_target():
    model = hub.chain(encoder("one"), encoder("two"))
    small = penjing.prune_channels(model, ratio=0.5, round_to=2)
    assert small.get_layer("one").intermediate_dim < 12
    assert small.get_layer("one").name == "one"
