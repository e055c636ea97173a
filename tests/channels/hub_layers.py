"""Blocks with the names, weights and configs of those of keras-hub, in few lines."""

from __future__ import annotations

import keras
from keras import layers, ops


class _Block(layers.Layer):
    """A layer whose config is what its constructor took."""

    def __init__(self, name=None, dtype=None, **config):
        super().__init__(name=name, dtype=dtype)
        self._config = config
        for key, value in config.items():
            setattr(self, key, value)

    def get_config(self):
        return {**super().get_config(), **self._config}

    @classmethod
    def from_config(cls, config):
        config.pop("trainable", None)
        return cls(**config)


class PositionEmbedding(_Block):
    def build(self, shape):
        self.position_embeddings = self.add_weight(
            name="embeddings", shape=(self.sequence_length, shape[-1])
        )

    def call(self, x):
        return ops.broadcast_to(self.position_embeddings[: x.shape[1]], ops.shape(x))


class TokenAndPositionEmbedding(_Block):
    def build(self, shape):
        self.token_embedding = layers.ReversibleEmbedding(
            self.vocabulary_size, self.embedding_dim, self.tie_weights, name="token"
        )
        self.token_embedding.build(shape)
        self.position_embedding = PositionEmbedding(
            sequence_length=self.sequence_length, name="position"
        )
        self.position_embedding.build((*shape, self.embedding_dim))

    def call(self, x):
        x = self.token_embedding(x)
        return x + self.position_embedding(x)

    def compute_output_shape(self, shape):
        return (*shape, self.embedding_dim)


def _dense(units, shape, name, **options):
    layer = layers.Dense(units, name=name, **options)
    layer.build(shape)
    return layer


class TransformerEncoder(_Block):
    def build(self, shape):
        self._self_attention_layer = layers.MultiHeadAttention(
            self.num_heads, shape[-1] // self.num_heads, name="attention"
        )
        self._self_attention_layer.build(shape, shape)
        self._feedforward_intermediate_dense = _dense(
            self.intermediate_dim, shape, "intermediate", activation="gelu"
        )
        self._feedforward_output_dense = _dense(
            shape[-1], (*shape[:-1], self.intermediate_dim), "output"
        )

    def call(self, x):
        x = x + self._self_attention_layer(x, x)
        return x + self._feedforward_output_dense(
            self._feedforward_intermediate_dense(x)
        )


class LlamaTransformerDecoder(_Block):
    def build(self, shape):
        for name in ("intermediate", "gate"):
            dense = _dense(self.intermediate_dim, shape, name, use_bias=False)
            setattr(self, f"_feedforward_{name}_dense", dense)
        self._feedforward_output_dense = _dense(
            shape[-1], (*shape[:-1], self.intermediate_dim), "output", use_bias=False
        )

    def call(self, x):
        gate = ops.silu(self._feedforward_gate_dense(x))
        return x + self._feedforward_output_dense(
            gate * self._feedforward_intermediate_dense(x)
        )


class _GemmaAttention(_Block):
    def build(self, shape):
        def einsum(equation, output, given, name):
            layer = layers.EinsumDense(equation, output, name=name)
            layer.build(given)
            return layer

        queries = (None, self.num_query_heads, self.head_dim)
        keys = (None, self.num_key_value_heads, self.head_dim)
        self.query_dense = einsum("btd,ndh->btnh", queries, shape, "query")
        self.key_dense = einsum("bsd,kdh->bskh", keys, shape, "key")
        self.value_dense = einsum("bsd,kdh->bskh", keys, shape, "value")
        self.output_dense = einsum(
            "btnh,nhd->btd", (None, shape[-1]), (None, *queries), "attention_output"
        )

    def call(self, x):
        query, readers = self.query_dense(x), self.num_query_heads
        readers //= self.num_key_value_heads
        key, value = self.key_dense(x), self.value_dense(x)
        key, value = (ops.repeat(part, readers, axis=2) for part in (key, value))
        scores = ops.softmax(ops.einsum("btnh,bsnh->bnts", query, key))
        return self.output_dense(ops.einsum("bnts,bsnh->btnh", scores, value))


class GemmaDecoderBlock(_Block):
    reduction = 2

    def build(self, shape):
        self.attention = _GemmaAttention(
            name="attention",
            num_query_heads=self.num_query_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
        )
        self.attention.build(shape)
        width = self.intermediate_dim // self.reduction
        for name in ("gating_ffw", "gating_ffw_2"):
            layer = layers.EinsumDense("btd,df->btf", (None, width), name=name)
            layer.build(shape)
            setattr(self, name, layer)
        self.ffw_linear = layers.EinsumDense(
            "btf,fd->btd", (None, shape[-1]), name="ffw_linear"
        )
        self.ffw_linear.build((*shape[:-1], width))

    def call(self, x):
        x = x + self.attention(x)
        return x + self.ffw_linear(ops.gelu(self.gating_ffw(x)) * self.gating_ffw_2(x))


class Gemma3DecoderBlock(GemmaDecoderBlock):
    @property
    def reduction(self):
        return self.gate_dim_reduction


class _Qwen3Attention(_GemmaAttention):
    def build(self, shape):
        def einsum(equation, output, given, name):
            layer = layers.EinsumDense(equation, output, name=name)
            layer.build(given)
            setattr(self, f"_{name}_dense", layer)

        queries = (None, self.num_query_heads, self.head_dim)
        keys = (None, self.num_key_value_heads, self.head_dim)
        einsum("bqm,muh->bquh", queries, shape, "query")
        einsum("bkm,mvh->bkvh", keys, shape, "key")
        einsum("bkm,mvh->bkvh", keys, shape, "value")
        einsum("bquh,uhm->bqm", (None, shape[-1]), (None, *queries), "output")
        self.query_dense, self.key_dense = self._query_dense, self._key_dense
        self.value_dense, self.output_dense = self._value_dense, self._output_dense


class Qwen3TransformerDecoder(LlamaTransformerDecoder):
    def build(self, shape):
        super().build(shape)
        self._self_attention_layer = _Qwen3Attention(
            name="attention",
            num_query_heads=self.num_query_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
        )
        self._self_attention_layer.build(shape)

    def call(self, x):
        return super().call(x + self._self_attention_layer(x))


class _Experts(_Block):
    def build(self, shape):
        self.activation = keras.activations.silu
        inner = (self.num_experts, shape[-1], self.intermediate_dim)
        for name in ("gate", "intermediate"):
            kernel = self.add_weight(name=name, shape=inner)
            setattr(self, f"_expert_feedforward_{name}_dense", kernel)
        self._expert_feedforward_output_dense = self.add_weight(
            name="output", shape=(inner[0], inner[2], inner[1])
        )

    def call(self, x):
        gate = ops.einsum("bth,ehm->betm", x, self._expert_feedforward_gate_dense)
        x = ops.einsum("bth,ehm->betm", x, self._expert_feedforward_intermediate_dense)
        x = x * self.activation(gate)
        return ops.einsum("betm,emh->bth", x, self._expert_feedforward_output_dense)


class _SparseBlock(_Block):
    def build(self, shape):
        self.expert_bank = _Experts(name="bank", **self._config)
        self.expert_bank.build(shape)

    def call(self, x):
        return self.expert_bank(x)


class MixtralTransformerDecoder(_Block):
    def build(self, shape):
        self._sparse_moe_block = _SparseBlock(name="moe", **self._config)
        self._sparse_moe_block.build(shape)

    def call(self, x):
        return x + self._sparse_moe_block(x)


class T5TransformerLayer(_Block):
    def build(self, shape):
        gated = ["gate_projector"] if self.use_gated_activation else []
        for name in ["input_projector", *gated]:
            setattr(self, name, _dense(self.intermediate_dim, shape, name))
        inner = (*shape[:-1], self.intermediate_dim)
        self.output_projector = _dense(shape[-1], inner, "output_projector")

    def call(self, x):
        inner = ops.relu(self.input_projector(x))
        if self.use_gated_activation:
            inner = inner * self.gate_projector(x)
        return x + self.output_projector(inner)


class _Windowed(_Block):
    def build(self, shape):
        self.dense_net = keras.Sequential(
            [
                layers.Dense(self.intermediate_dim, name="one"),
                layers.Activation(self.activation),
                layers.Dense(shape[-1], name="two"),
            ]
        )
        self.dense_net.build(shape)

    def call(self, x):
        return self.dense_net(x)


class WindowedTransformerEncoder(_Block):
    def build(self, shape):
        self.mlp_block = _Windowed(name="mlp", **self._config)
        self.mlp_block.build(shape)

    def call(self, x):
        return x + self.mlp_block(x)


class _MLP(_Block):
    def build(self, shape):
        self.dense_1 = _dense(self.mlp_dim, shape, "dense_1", activation="gelu")
        self.dense_2 = _dense(shape[-1], (*shape[:-1], self.mlp_dim), "dense_2")

    def call(self, x):
        return self.dense_2(self.dense_1(x))


class _ViTBlock(_Block):
    def build(self, shape):
        self.mlp = _MLP(mlp_dim=self.mlp_dim, name="mlp")
        self.mlp.build(shape)

    def call(self, x):
        return x + self.mlp(x)


class ViTEncoder(_Block):
    def build(self, shape):
        self.encoder_layers = [
            _ViTBlock(mlp_dim=self.mlp_dim, name=f"block_{n}")
            for n in range(self.num_layers)
        ]
        for layer in self.encoder_layers:
            layer.build(shape)

    def call(self, x):
        for layer in self.encoder_layers:
            x = layer(x)
        return x


class InvertedResidualBlock(_Block):
    def build(self, shape):
        self.squeeze_excite = object() if self.squeeze_excite_ratio else None
        count = max(8, (int(self.expansion) + 4) // 8 * 8)
        self.conv1 = layers.Conv2D(count, 1, use_bias=False, name="conv1")
        self.conv2 = layers.Conv2D(
            count, 3, padding="same", groups=count, use_bias=False, name="conv2"
        )
        self.conv3 = layers.Conv2D(shape[-1], 1, use_bias=False, name="conv3")
        self.batch_normalization1 = layers.BatchNormalization(name="bn1")
        self.batch_normalization2 = layers.BatchNormalization(name="bn2")
        inner = (*shape[:-1], count)
        self.conv1.build(shape)
        for layer in (
            self.batch_normalization1,
            self.conv2,
            self.batch_normalization2,
            self.conv3,
        ):
            layer.build(inner)

    def call(self, x):
        y = ops.relu(self.batch_normalization1(self.conv1(x)))
        y = ops.relu(self.batch_normalization2(self.conv2(y)))
        return x + self.conv3(y)


def _all_blocks(kind):
    for inner in kind.__subclasses__():
        yield inner
        yield from _all_blocks(inner)


for _kind in _all_blocks(_Block):
    _kind.__module__ = "keras_hub.of_these_tests"  # it need not be installed


def chain(*parts, shape=(6, 8), dtype=None) -> keras.Model:
    """One layer behind the other, then a dense one."""
    x = inputs = keras.Input(shape, dtype=dtype)
    for part in parts:
        x = part(x)
    x = layers.Dense(3, name="read")(layers.Flatten()(x))
    return keras.Model(inputs, x)
