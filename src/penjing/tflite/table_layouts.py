"""The layout of every table in a `.tflite` file.

One line says a table's fields in the order of their slots, as `name:type=default`. A
type is a code of `struct`, `s` for a string, the name of a table, `[...]` for a vector,
or `<...>` for a union, which takes two slots; `-` is a slot that is out of use. An `@`
says what a number points to: a tensor of the graph, or a buffer, an operator code or a
graph of the model; with a `?` it may be -1, for none. Tables that have no line have no
fields.

Reference:
    https://github.com/google-ai-edge/LiteRT, `tflite/schema/schema.fbs`
"""

from __future__ import annotations

import dataclasses
import struct
import textwrap
from collections.abc import Mapping

_LAYOUTS = """
CustomQuantization custom:[B]
BlockwiseQuantization scales:i@tensor zero_points:i@tensor? block_size:i block_shape:[i]
MultiAxisQuantization scales:i@tensor zero_points:i@tensor? block_size:i
  quantized_dimensions:[i]
QuantizationParameters min:[f] max:[f] scale:[f] zero_point:[q]
  details:<QuantizationDetails> quantized_dimension:i
Int32Vector values:[i]
Uint16Vector values:[H]
Uint8Vector values:[B]
DimensionMetadata format:b dense_size:i array_segments:<SparseIndexVector>
  array_indices:<SparseIndexVector>
SparsityParameters traversal_order:[i] block_map:[i] dim_metadata:[DimensionMetadata]
VariantSubType shape:[i] type:b has_rank:?
Tensor shape:[i] type:b buffer:I@buffer name:s quantization:QuantizationParameters
  is_variable:? sparsity:SparsityParameters shape_signature:[i] has_rank:?
  variant_tensors:[VariantSubType] external_buffer:I
StablehloGatherOptions offset_dims:[q] collapsed_slice_dims:[q] start_index_map:[q]
  index_vector_dim:q slice_sizes:[q] indices_are_sorted:?
StablehloTransposeOptions permutation:[q]
StablehloDotGeneralOptions lhs_batching_dimensions:[q] rhs_batching_dimensions:[q]
  lhs_contracting_dimensions:[q] rhs_contracting_dimensions:[q] precision_config:[I]
StablehloReduceWindowOptions window_dimensions:[q] window_strides:[q] base_dilations:[q]
  window_dilations:[q] padding:[q] body_subgraph_index:i@graph
StablehloWhileOptions cond_subgraph_index:i@graph body_subgraph_index:i@graph
StablehloSortOptions dimension:q is_stable:? comparator_subgraph_index:i@graph
StablehloConcatenateOptions dimension:q
StablehloBroadcastInDimOptions broadcast_dimensions:[q]
StablehloCompareOptions comparison_direction:I compare_type:I
StablehloDynamicSliceOptions slice_sizes:[q]
StablehloPadOptions edge_padding_low:[q] edge_padding_high:[q] interior_padding:[q]
StablehloIotaOptions iota_dimension:q
StablehloCustomCallOptions call_target_name:s has_side_effect:? backend_config:s
  api_version:i called_computations:[i]@graph custom_attributes:[B]
StablehloReduceOptions dimensions:[q] body_subgraph_index:i@graph
StablehloSliceOptions start_indices:[q] limit_indices:[q] strides:[q]
StablehloConvolutionOptions window_strides:[q] padding:[q] lhs_dilation:[q]
  rhs_dilation:[q] window_reversal:[?] input_batch_dimension:q input_feature_dimension:q
  input_spatial_dimensions:[q] kernel_input_feature_dimension:q
  kernel_output_feature_dimension:q kernel_spatial_dimensions:[q]
  output_batch_dimension:q output_feature_dimension:q output_spatial_dimensions:[q]
  feature_group_count:q batch_group_count:q precision_config:[I]
StablehloScatterOptions indices_are_sorted:? update_window_dims:[q]
  inserted_window_dims:[q] scatter_dims_to_operand_dims:[q] index_vector_dim:q
  unique_indices:? update_computation_subgraph_index:i@graph
StablehloCaseOptions branch_subgraph_indices:[i]@graph
StablehloRngBitGeneratorOptions algorithm:b
Conv2DOptions padding:b stride_w:i stride_h:i fused_activation_function:b
  dilation_w_factor:i=1 dilation_h_factor:i=1 quantized_bias_type:b
Conv3DOptions padding:b stride_d:i stride_w:i stride_h:i fused_activation_function:b
  dilation_d_factor:i=1 dilation_w_factor:i=1 dilation_h_factor:i=1
Pool2DOptions padding:b stride_w:i stride_h:i filter_width:i filter_height:i
  fused_activation_function:b
DepthwiseConv2DOptions padding:b stride_w:i stride_h:i depth_multiplier:i
  fused_activation_function:b dilation_w_factor:i=1 dilation_h_factor:i=1
ConcatEmbeddingsOptions num_channels:i num_columns_per_channel:[i]
  embedding_dim_per_channel:[i]
LSHProjectionOptions type:b
SVDFOptions rank:i fused_activation_function:b asymmetric_quantize_inputs:?
RNNOptions fused_activation_function:b asymmetric_quantize_inputs:?
SequenceRNNOptions time_major:? fused_activation_function:b asymmetric_quantize_inputs:?
BidirectionalSequenceRNNOptions time_major:? fused_activation_function:b merge_outputs:?
  asymmetric_quantize_inputs:?
FullyConnectedOptions fused_activation_function:b weights_format:b keep_num_dims:?
  asymmetric_quantize_inputs:? quantized_bias_type:b quant_spec:[B]
SoftmaxOptions beta:f
ConcatenationOptions axis:i fused_activation_function:b
AddOptions fused_activation_function:b pot_scale_int16:?=1
MulOptions fused_activation_function:b
L2NormOptions fused_activation_function:b
LocalResponseNormalizationOptions radius:i bias:f alpha:f beta:f
LSTMOptions fused_activation_function:b cell_clip:f proj_clip:f kernel_type:b
  asymmetric_quantize_inputs:?
UnidirectionalSequenceLSTMOptions fused_activation_function:b cell_clip:f proj_clip:f
  time_major:? asymmetric_quantize_inputs:? diagonal_recurrent_tensors:?
BidirectionalSequenceLSTMOptions fused_activation_function:b cell_clip:f proj_clip:f
  merge_outputs:? time_major:?=1 asymmetric_quantize_inputs:?
ResizeBilinearOptions - - align_corners:? half_pixel_centers:?
ResizeNearestNeighborOptions align_corners:? half_pixel_centers:?
CallOptions subgraph:I@graph
ReshapeOptions new_shape:[i]
SkipGramOptions ngram_size:i max_skip_size:i include_all_ngrams:?
SpaceToDepthOptions block_size:i
DepthToSpaceOptions block_size:i
SubOptions fused_activation_function:b pot_scale_int16:?=1
DivOptions fused_activation_function:b
EmbeddingLookupSparseOptions combiner:b
GatherOptions axis:i batch_dims:i
ReducerOptions keep_dims:?
SqueezeOptions squeeze_dims:[i]
SplitOptions num_splits:i
SplitVOptions num_splits:i
StridedSliceOptions begin_mask:i end_mask:i ellipsis_mask:i new_axis_mask:i
  shrink_axis_mask:i offset:?
CastOptions in_data_type:b out_data_type:b
ArgMaxOptions output_type:b
ArgMinOptions output_type:b
TransposeConvOptions padding:b stride_w:i stride_h:i fused_activation_function:b
  quantized_bias_type:b
SparseToDenseOptions validate_indices:?
ShapeOptions out_type:b
FakeQuantOptions min:f max:f num_bits:i narrow_range:?
PackOptions values_count:i axis:i
OneHotOptions axis:i
UnpackOptions num:i axis:i
LeakyReluOptions alpha:f
MirrorPadOptions mode:b
UniqueOptions idx_out_type:b=2
ReverseSequenceOptions seq_dim:i batch_dim:i
IfOptions then_subgraph_index:i@graph else_subgraph_index:i@graph
CallOnceOptions init_subgraph_index:i@graph
WhileOptions cond_subgraph_index:i@graph body_subgraph_index:i@graph
BatchMatMulOptions adj_x:? adj_y:? asymmetric_quantize_inputs:?
CumsumOptions exclusive:? reverse:?
HashtableOptions table_id:i key_dtype:b value_dtype:b
VarHandleOptions container:s shared_name:s
RandomOptions seed:q seed2:q
BucketizeOptions boundaries:[f]
GeluOptions approximate:?
ReduceWindowOptions reduce_function:i
OperatorCode deprecated_builtin_code:b custom_code:s version:i=1 builtin_code:i
StableHLOCompositeOptions name:s decomposition_subgraph_index:i@graph
  composite_attributes:[B] composite_attributes_format:b version:i
Operator opcode_index:I@code inputs:[i]@tensor? outputs:[i]@tensor?
  builtin_options:<BuiltinOptions> custom_options:[B] custom_options_format:b
  mutating_variable_inputs:[?] intermediates:[i]@tensor? large_custom_options_offset:Q
  large_custom_options_size:Q builtin_options2:<BuiltinOptions2>
  debug_metadata_index:i=-1
SubGraph tensors:[Tensor] inputs:[i]@tensor? outputs:[i]@tensor? operators:[Operator]
  name:s debug_metadata_index:i=-1
Buffer data:[B] offset:Q size:Q
ExternalBufferGroup name:s
ExternalBuffer id:I group:I offset:Q length:Q packing:s
Metadata name:s buffer:I@buffer
TensorMap name:s tensor_index:I@tensor
SignatureDef inputs:[TensorMap] outputs:[TensorMap] signature_key:s -
  subgraph_index:I@graph
Model version:I operator_codes:[OperatorCode] subgraphs:[SubGraph] description:s
  buffers:[Buffer] metadata_buffer:[i]@buffer metadata:[Metadata]
  signature_defs:[SignatureDef] external_buffer_groups:[ExternalBufferGroup]
  external_buffers:[ExternalBuffer]
"""

_UNIONS = {
    "BuiltinOptions": """
Conv2DOptions DepthwiseConv2DOptions ConcatEmbeddingsOptions LSHProjectionOptions
Pool2DOptions SVDFOptions RNNOptions FullyConnectedOptions SoftmaxOptions
ConcatenationOptions AddOptions L2NormOptions LocalResponseNormalizationOptions
LSTMOptions ResizeBilinearOptions CallOptions ReshapeOptions SkipGramOptions
SpaceToDepthOptions EmbeddingLookupSparseOptions MulOptions PadOptions GatherOptions
BatchToSpaceNDOptions SpaceToBatchNDOptions TransposeOptions ReducerOptions SubOptions
DivOptions SqueezeOptions SequenceRNNOptions StridedSliceOptions ExpOptions
TopKV2Options SplitOptions LogSoftmaxOptions CastOptions DequantizeOptions
MaximumMinimumOptions ArgMaxOptions LessOptions NegOptions PadV2Options GreaterOptions
GreaterEqualOptions LessEqualOptions SelectOptions SliceOptions TransposeConvOptions
SparseToDenseOptions TileOptions ExpandDimsOptions EqualOptions NotEqualOptions
ShapeOptions PowOptions ArgMinOptions FakeQuantOptions PackOptions LogicalOrOptions
OneHotOptions LogicalAndOptions LogicalNotOptions UnpackOptions FloorDivOptions
SquareOptions ZerosLikeOptions FillOptions BidirectionalSequenceLSTMOptions
BidirectionalSequenceRNNOptions UnidirectionalSequenceLSTMOptions FloorModOptions
RangeOptions ResizeNearestNeighborOptions LeakyReluOptions SquaredDifferenceOptions
MirrorPadOptions AbsOptions SplitVOptions UniqueOptions ReverseV2Options AddNOptions
GatherNdOptions CosOptions WhereOptions RankOptions ReverseSequenceOptions
MatrixDiagOptions QuantizeOptions MatrixSetDiagOptions HardSwishOptions IfOptions
WhileOptions DepthToSpaceOptions NonMaxSuppressionV4Options NonMaxSuppressionV5Options
ScatterNdOptions SelectV2Options DensifyOptions SegmentSumOptions BatchMatMulOptions
CumsumOptions CallOnceOptions BroadcastToOptions Rfft2dOptions Conv3DOptions
HashtableOptions HashtableFindOptions HashtableImportOptions HashtableSizeOptions
VarHandleOptions ReadVariableOptions AssignVariableOptions RandomOptions
BucketizeOptions GeluOptions DynamicUpdateSliceOptions UnsortedSegmentProdOptions
UnsortedSegmentMaxOptions UnsortedSegmentMinOptions UnsortedSegmentSumOptions
ATan2Options SignOptions BitcastOptions BitwiseXorOptions RightShiftOptions
""",
    "BuiltinOptions2": """
StablehloConcatenateOptions StablehloBroadcastInDimOptions StablehloSliceOptions
StablehloConvolutionOptions StablehloCustomCallOptions StablehloReduceOptions
StablehloScatterOptions StablehloCompareOptions StablehloDynamicSliceOptions
StablehloPadOptions StablehloIotaOptions StablehloDotGeneralOptions
StablehloReduceWindowOptions StablehloSortOptions StablehloWhileOptions
StablehloGatherOptions StablehloTransposeOptions DilateOptions
StablehloRngBitGeneratorOptions ReduceWindowOptions StableHLOCompositeOptions
StablehloShiftLeftOptions StablehloCaseOptions
""",
    "QuantizationDetails": """
CustomQuantization BlockwiseQuantization MultiAxisQuantization
""",
    "SparseIndexVector": """
Int32Vector Uint16Vector Uint8Vector
""",
}


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a table.

    Attributes:
        name: Its name.
        slot: Its place in the table's list of offsets. A union's value comes in the
            slot behind that of its type.
        kind: "scalar", "text", "table", "numbers", "tables" or "union".
        type: Code of `struct` for scalars and numbers, else a table or union.
        default: Value of a scalar that is absent.
        alignment: Of the elements of numbers.
        target: What the numbers are those of: "tensor", "buffer", "code" or "graph";
            empty for other fields.
        may_be_none: Whether -1 stands for no tensor.
    """

    name: str
    slot: int
    kind: str
    type: str
    default: float = 0
    alignment: int = 1
    target: str = ""
    may_be_none: bool = False


# What runs in place, or is loaded in wide words, starts at a multiple of 16 bytes.
_ALIGNMENTS = {("Buffer", "data"): 16}


def _fields(table: str, words: list[str]) -> tuple[Field, ...]:
    fields, slot = [], 0
    for word in words:
        if word != "-":
            word, _, target = word.partition("@")
            name, _, rest = word.partition(":")
            code, _, default = rest.partition("=")
            field = _field(table, name, slot, code, default)
            is_optional = target.endswith("?")
            fields.append(
                dataclasses.replace(
                    field, target=target.rstrip("?"), may_be_none=is_optional
                )
            )
            slot += field.kind == "union"
        slot += 1
    return tuple(fields)


def _field(table: str, name: str, slot: int, code: str, default: str) -> Field:
    inner = code.strip("[]<>")
    is_table = len(inner) > 1
    if code.startswith("<"):
        return Field(name, slot, "union", inner)
    if code.startswith("["):
        if is_table:
            return Field(name, slot, "tables", inner)
        alignment = _ALIGNMENTS.get((table, name), struct.calcsize("<" + inner))
        return Field(name, slot, "numbers", inner, alignment=alignment)
    if is_table:
        return Field(name, slot, "table", inner)
    return Field(
        name, slot, "text" if inner == "s" else "scalar", inner, float(default or 0)
    )


def _parsed() -> dict[str, tuple[Field, ...]]:
    layouts: dict[str, tuple[Field, ...]] = {
        name: () for names in UNIONS.values() for name in names
    }
    for line in textwrap.dedent(_LAYOUTS).replace("\n  ", " ").strip().splitlines():
        name, *words = line.split()
        layouts[name] = _fields(name, words)
    return layouts


# The tables that a union may hold, the first one being of type 1.
UNIONS: Mapping[str, tuple[str, ...]] = {
    name: tuple(words.split()) for name, words in _UNIONS.items()
}
LAYOUTS: Mapping[str, tuple[Field, ...]] = _parsed()
