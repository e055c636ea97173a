"""Small backbones of keras-hub with random weights, and inputs for them.

keras-hub is in a folder that is put on the path:
`pip install --no-deps --target FOLDER keras-hub==0.32.0 tokenizers regex`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_TEXT = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 32}
_HEADS = {**_TEXT, "num_heads": 2, "intermediate_dim": 64}
_PLACED = {**_HEADS, "max_sequence_length": 16}
_GROUPED = {
    **_TEXT,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_dim": 64,
}
IMAGE = (32, 32, 3)
_VISION = {
    "image_shape": IMAGE,
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 32,
}
RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 72],
    "stackwise_num_blocks": [2, 1],
    "stackwise_num_strides": [1, 2],
    "image_shape": IMAGE,
}
MOBILENET = {
    "stackwise_expansion": [[40, 56], [64, 144]],
    "stackwise_num_blocks": [2, 2],
    "stackwise_num_filters": [[16, 16], [24, 24]],
    "stackwise_kernel_size": [[3, 3], [5, 5]],
    "stackwise_num_strides": [[2, 1], [2, 1]],
    "stackwise_se_ratio": [[None, None], [0.25, 0.25]],
    "stackwise_activation": [["relu", "relu"], ["hard_swish", "hard_swish"]],
    "stackwise_padding": [[1, 1], [2, 2]],
    "output_num_filters": 64,
    "depthwise_filters": 8,
    "depthwise_stride": 2,
    "depthwise_residual": False,
    "last_layer_filter": 32,
    "image_shape": IMAGE,
}
_MOBILENET_V5 = {
    "stackwise_block_types": [["er"], ["uir", "mqa"]],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_filters": [[24], [48, 48]],
    "stackwise_strides": [[2], [2, 1]],
    "stackwise_act_layers": [["relu"], ["relu", "relu"]],
    "stackwise_exp_ratios": [[4.0], [4.0, 4.0]],
    "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
    "stackwise_dw_kernel_sizes": [[0], [5, 5]],
    "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
    "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
    "stackwise_exp_kernel_sizes": [[3], [0, 0]],
    "stackwise_pw_kernel_sizes": [[1], [0, 0]],
    "stackwise_num_heads": [[0], [0, 2]],
    "stackwise_key_dims": [[0], [0, 16]],
    "stackwise_value_dims": [[0], [0, 16]],
    "stackwise_kv_strides": [[0], [0, 1]],
    "stackwise_use_cpe": [[False], [False, False]],
    "use_msfa": False,
    "image_shape": IMAGE,
}
EFFICIENT = {
    "stackwise_kernel_sizes": [3, 3],
    "stackwise_num_repeats": [1, 2],
    "stackwise_input_filters": [16, 16],
    "stackwise_output_filters": [16, 24],
    "stackwise_expansion_ratios": [1, 4],
    "stackwise_strides": [1, 2],
    "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
    "stackwise_force_input_filters": [0, 0],
    "stackwise_nores_option": [False, False],
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "image_shape": IMAGE,
}
_MIX = {
    "layerwise_depths": [1, 1],
    "num_layers": 2,
    "layerwise_num_heads": [1, 2],
    "layerwise_sr_ratios": [2, 1],
    "max_drop_path_rate": 0.1,
    "layerwise_patch_sizes": [7, 3],
    "layerwise_strides": [4, 2],
    "image_shape": IMAGE,
    "hidden_dims": [16, 32],
}
_CSP = {
    "stem_filters": 16,
    "stem_kernel_size": 3,
    "stem_strides": 1,
    "stackwise_depth": [1, 2],
    "stackwise_strides": [2, 2],
    "stackwise_num_filters": [16, 32],
    "block_type": "dark_block",
    "stage_type": "dark",
    "bottle_ratio": [0.5],
    "image_shape": IMAGE,
}
_HGNET = {
    "depths": [1, 1],
    "embedding_size": 16,
    "hidden_sizes": [32, 48],
    "stem_channels": [3, 8, 16],
    "hidden_act": "relu",
    "use_learnable_affine_block": False,
    "stackwise_stage_filters": [[16, 16, 32, 1, 2, 3], [32, 16, 48, 1, 2, 3]],
    "apply_downsample": [False, True],
    "use_lightweight_conv_block": [False, False],
    "image_shape": IMAGE,
}
_SWIN = {
    "image_shape": IMAGE,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
_SAM = {
    "hidden_size": 32,
    "num_layers": 2,
    "intermediate_dim": 64,
    "num_heads": 2,
    "global_attention_layer_indices": [1],
    "image_shape": IMAGE,
    "patch_size": 8,
    "num_output_channels": 16,
    "window_size": 2,
}
_WHISPER = {
    **_HEADS,
    "num_mels": 16,
    "max_encoder_sequence_length": 64,
    "max_decoder_sequence_length": 16,
}
_MOONSHINE = {
    "vocabulary_size": 50,
    "filter_dim": 32,
    "encoder_num_layers": 2,
    "decoder_num_layers": 2,
    "hidden_dim": 32,
    "intermediate_dim": 64,
    "encoder_num_heads": 2,
    "decoder_num_heads": 2,
}

# Title -> class in `keras_hub.models`, its arguments.
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("BertBackbone", _PLACED),
    "ALBERT": ("AlbertBackbone", {**_PLACED, "embedding_dim": 16}),
    "DistilBERT": ("DistilBertBackbone", _PLACED),
    "RoBERTa": ("RobertaBackbone", _PLACED),
    "DeBERTa V3": ("DebertaV3Backbone", {**_PLACED, "bucket_size": 8}),
    "ELECTRA": (
        "ElectraBackbone",
        {
            **{key: value for key, value in _PLACED.items() if "vocab" not in key},
            "vocab_size": 50,
            "embedding_dim": 16,
        },
    ),
    "F-Net": (
        "FNetBackbone",
        {key: value for key, value in _PLACED.items() if key != "num_heads"},
    ),
    "RoFormer V2": ("RoformerV2Backbone", {**_HEADS, "head_size": 16}),
    "ESM": ("ESMBackbone", _PLACED),
    "XLNet": ("XLNetBackbone", _HEADS),
    "BART": ("BartBackbone", _PLACED),
    "T5": ("T5Backbone", _HEADS),
    "GPT-2": ("GPT2Backbone", _PLACED),
    "OPT": ("OPTBackbone", _PLACED),
    "BLOOM": ("BloomBackbone", _HEADS),
    "GPT-NeoX": ("GPTNeoXBackbone", _PLACED),
    "Falcon": (
        "FalconBackbone",
        {**_TEXT, "num_attention_heads": 2, "intermediate_dim": 64},
    ),
    "Llama": ("LlamaBackbone", _GROUPED),
    "Mistral": ("MistralBackbone", {**_GROUPED, "sliding_window": 8}),
    "Mixtral": (
        "MixtralBackbone",
        {**_GROUPED, "num_experts": 2, "sliding_window": 8},
    ),
    "Gemma": ("GemmaBackbone", {**_GROUPED, "head_dim": 8}),
    "Gemma 3": ("Gemma3Backbone", {**_GROUPED, "head_dim": 8, "image_size": 16}),
    "Phi-3": ("Phi3Backbone", _GROUPED),
    "Qwen 2.5": ("QwenBackbone", _GROUPED),
    "Qwen 3": ("Qwen3Backbone", {**_GROUPED, "head_dim": 8}),
    "ResNet": ("ResNetBackbone", {**RESNET, "block_type": "basic_block"}),
    "ResNet V2": (
        "ResNetBackbone",
        {**RESNET, "block_type": "bottleneck_block", "use_pre_activation": True},
    ),
    "DenseNet": (
        "DenseNetBackbone",
        {"stackwise_num_repeats": [2, 2], "growth_rate": 16, "image_shape": IMAGE},
    ),
    "VGG": (
        "VGGBackbone",
        {
            "stackwise_num_repeats": [1, 2],
            "stackwise_num_filters": [16, 32],
            "image_shape": IMAGE,
        },
    ),
    "Xception": (
        "XceptionBackbone",
        {
            "stackwise_conv_filters": [[16, 32], [32, 48], [48, 48]],
            "stackwise_pooling": [True, True, False],
            "image_shape": IMAGE,
        },
    ),
    "EfficientNet": (
        "EfficientNetBackbone",
        {**EFFICIENT, "stackwise_block_types": ["v1", "v1"]},
    ),
    "EfficientNet V2": (
        "EfficientNetBackbone",
        {**EFFICIENT, "stackwise_block_types": ["fused", "unfused"]},
    ),
    "MobileNet": ("MobileNetBackbone", MOBILENET),
    "MobileNet V5": ("MobileNetV5Backbone", _MOBILENET_V5),
    "CSPDarkNet": ("CSPNetBackbone", _CSP),
    "HGNet V2": ("HGNetV2Backbone", _HGNET),
    "MiT": ("MiTBackbone", _MIX),
    "ViT": ("ViTBackbone", {**_VISION, "mlp_dim": 64}),
    "DeiT": ("DeiTBackbone", {**_VISION, "intermediate_dim": 64}),
    "DINOv2": (
        "DINOV2Backbone",
        {**_VISION, "intermediate_dim": 64, "position_embedding_shape": IMAGE},
    ),
    "Swin": ("SwinTransformerBackbone", _SWIN),
    "SAM's image encoder": ("ViTDetBackbone", _SAM),
    "Whisper": ("WhisperBackbone", _WHISPER),
    "Moonshine": ("MoonshineBackbone", _MOONSHINE),
}
SAMPLES, _SEED, _TOKENS = 32, 0, 16
# Of an axis of free size, by the name of the input.
_SOUND = 2048
_LENGTHS = {
    "encoder_features": 32,
    "encoder_input_values": _SOUND,
    "encoder_padding_mask": _SOUND,
}


def build(name: str):
    """A backbone with weights from which no shortcut gives the right outputs."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(_SEED)
    kind, config = BACKBONES[name]
    model = getattr(keras_hub.models, kind)(**config)
    disturb(model)
    return model


def disturb(model) -> None:
    """Give every weight that starts with one value many."""
    from keras import ops

    generator = np.random.default_rng(_SEED)
    for variable in model.weights:
        value = ops.convert_to_numpy(variable.value)
        if "variance" in variable.path:
            value = generator.uniform(0.5, 1.5, value.shape)
        elif "seed_generator" in variable.path:
            continue
        else:
            value = value + 0.2 * generator.normal(size=value.shape)
        variable.assign(value.astype(variable.dtype))


def cut_at_random(model, ratio: float) -> tuple[Any, Any, Any]:
    """Units removed at random: the graph, a smaller model, one that silences them."""
    import penjing

    graph = penjing.trace_channels(model)
    generator = np.random.default_rng(_SEED)
    kept = {}
    for group in graph.groups:
        if group.reason is None:
            kept[group.name] = generator.random(group.size) >= ratio
            kept[group.name][0] = True
    small = penjing.remove_channels(model, graph, kept)
    return graph, small, penjing.silence_channels(model, graph, kept)


def make_inputs(model, count: int = SAMPLES) -> dict[str, np.ndarray]:
    """Random inputs by name; a quarter of the samples is padded to three quarters."""
    import keras

    generator = np.random.default_rng(_SEED)
    names = [tensor.name for tensor in keras.tree.flatten(model.inputs)]
    sounds = not {"encoder_features", "encoder_input_values"}.isdisjoint(names)
    found = {}
    for tensor in keras.tree.flatten(model.inputs):
        length = _LENGTHS.get(tensor.name, _TOKENS) if sounds else _TOKENS
        shape = (count, *(size or length for size in tensor.shape[1:]))
        if "mask" in tensor.name:
            given = np.ones(shape)
            given[::4, 3 * shape[1] // 4 :] = 0
        elif "segment" in tensor.name:
            given = generator.integers(0, 2, shape)
        elif "int" in tensor.dtype:
            given = generator.integers(1, 50, shape)
        else:
            given = generator.normal(size=shape)
        dtype = "int32" if tensor.dtype == "bool" else tensor.dtype
        found[tensor.name] = given.astype(dtype)
        if tensor.dtype == "bool":
            found[tensor.name] = found[tensor.name].astype(bool)
    return found
