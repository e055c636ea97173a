"""Attention loses whole heads."""

import keras
import pytest
from keras import layers, ops
from tests.channels.traced import groups_of, reasons, units

pytestmark = pytest.mark.once


def attended(layer, mask=None, width=5):
    inputs = keras.Input((6, 4))
    query = layers.Dense(8, name="query")(inputs)
    value = layers.Dense(width, name="value")(inputs)
    given = {} if mask is None else {"attention_mask": mask(inputs)}
    return keras.Model(inputs, layers.Dense(2)(layer(query, value, **given)))


def test_a_unit_is_a_head_in_every_projection():
    found = groups_of(attended(layers.MultiHeadAttention(3, 2, name="heads")))
    heads = found["heads"]
    assert (heads.size, heads.width, heads.reason) == (3, 2, None)
    for part in ("query", "key", "value"):
        assert units(heads, f"heads/{part}/kernel", 1) == [0, 1, 2]
        assert units(heads, f"heads/{part}/bias", 0) == [0, 1, 2]
    assert units(heads, "heads/attention_output/kernel", 0) == [0, 1, 2]
    assert found["heads/attention_output"].size == 8
    assert units(found["value"], "heads/key/kernel", 0) == list(range(5))


def test_a_key_head_falls_with_the_queries_that_read_it():
    layer = layers.GroupQueryAttention(2, 4, 2, name="heads")
    heads = groups_of(attended(layer, width=8))["heads"]
    assert (heads.size, heads.width) == (2, 4)
    assert units(heads, "heads/query/kernel", 1) == [0, 0, 1, 1]
    assert units(heads, "heads/key/kernel", 1) == [0, 1]


def test_what_grouped_queries_give_falls_with_what_asked():
    layer = layers.GroupQueryAttention(2, 4, 2, name="heads")
    group = groups_of(attended(layer, width=8))["query"]
    assert group.layers == ("query", "heads/attention_output")


@pytest.mark.parametrize(
    ("layer", "mask", "reason"),
    [
        (
            layers.MultiHeadAttention(3, 2, output_shape=(2, 3), name="heads"),
            None,
            "makes several axes at once",
        ),
        (
            layers.MultiHeadAttention(3, 2, name="heads"),
            lambda x: ops.repeat(
                (x @ ops.swapaxes(x, 1, 2) > 0.0)[:, :, :, None], 3, 3
            ),
            "takes a mask for each head",
        ),
    ],
)
def test_heads_stay_where_they_are_not_alike(layer, mask, reason):
    why = reasons(attended(layer, mask))
    assert reason in str(why["query"]) and reason in str(why["value"])
