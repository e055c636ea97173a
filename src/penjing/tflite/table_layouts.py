"""The layout of every table in a `.tflite` file.

One line says a table's fields in the order of their slots, as `name:type=default`. A
type is a code of `struct`, `s` for a string, the name of a table, `[...]` for a vector,
or `<...>` for a union, which takes two slots; `-` is a slot that is out of use. An `@`
says what a number points to: a tensor of the graph, or a buffer, an operator code or a
graph of the model; with a `?` it may be -1, for none. Names alone are tables without
fields. Behind `<...>` come the tables of a union in the order of their numbers; behind
`<>` those of none.

Reference:
    https://github.com/google-ai-edge/LiteRT, `tflite/schema/schema.fbs`
"""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Iterator, Mapping

_LAYOUTS = """
<QuantizationDetails>
CustomQuantization custom:[B]
BlockwiseQuantization scales:i@tensor zero_points:i@tensor? block_size:i block_shape:[i]
MultiAxisQuantization scales:i@tensor zero_points:i@tensor? block_size:i
  quantized_dimensions:[i]
<SparseIndexVector>
Int32Vector values:[i]
Uint16Vector values:[H]
Uint8Vector values:[B]
<BuiltinOptions>
Conv2DOptions padding:b stride_w:i stride_h:i fused_activation_function:b
  dilation_w_factor:i=1 dilation_h_factor:i=1 quantized_bias_type:b
DepthwiseConv2DOptions padding:b stride_w:i stride_h:i depth_multiplier:i
  fused_activation_function:b dilation_w_factor:i=1 dilation_h_factor:i=1
ConcatEmbeddingsOptions num_channels:i num_columns_per_channel:[i]
  embedding_dim_per_channel:[i]
LSHProjectionOptions type:b
Pool2DOptions padding:b stride_w:i stride_h:i filter_width:i filter_height:i
  fused_activation_function:b
SVDFOptions rank:i fused_activation_function:b asymmetric_quantize_inputs:?
RNNOptions fused_activation_function:b asymmetric_quantize_inputs:?
FullyConnectedOptions fused_activation_function:b weights_format:b keep_num_dims:?
  asymmetric_quantize_inputs:? quantized_bias_type:b quant_spec:[B]
SoftmaxOptions beta:f
ConcatenationOptions axis:i fused_activation_function:b
AddOptions fused_activation_function:b pot_scale_int16:?=1
L2NormOptions fused_activation_function:b
LocalResponseNormalizationOptions radius:i bias:f alpha:f beta:f
LSTMOptions fused_activation_function:b cell_clip:f proj_clip:f kernel_type:b
  asymmetric_quantize_inputs:?
ResizeBilinearOptions new_height:i new_width:i align_corners:? half_pixel_centers:?
CallOptions subgraph:I@graph
ReshapeOptions new_shape:[i]
SkipGramOptions ngram_size:i max_skip_size:i include_all_ngrams:?
SpaceToDepthOptions block_size:i
EmbeddingLookupSparseOptions combiner:b
MulOptions fused_activation_function:b
PadOptions
GatherOptions axis:i batch_dims:i
BatchToSpaceNDOptions SpaceToBatchNDOptions TransposeOptions
ReducerOptions keep_dims:?
SubOptions fused_activation_function:b pot_scale_int16:?=1
DivOptions fused_activation_function:b
SqueezeOptions squeeze_dims:[i]
SequenceRNNOptions time_major:? fused_activation_function:b asymmetric_quantize_inputs:?
StridedSliceOptions begin_mask:i end_mask:i ellipsis_mask:i new_axis_mask:i
  shrink_axis_mask:i offset:?
ExpOptions TopKV2Options
SplitOptions num_splits:i
LogSoftmaxOptions
CastOptions in_data_type:b out_data_type:b
DequantizeOptions MaximumMinimumOptions
ArgMaxOptions output_type:b
LessOptions NegOptions PadV2Options GreaterOptions GreaterEqualOptions LessEqualOptions
SelectOptions SliceOptions
TransposeConvOptions padding:b stride_w:i stride_h:i fused_activation_function:b
  quantized_bias_type:b
SparseToDenseOptions validate_indices:?
TileOptions ExpandDimsOptions EqualOptions NotEqualOptions
ShapeOptions out_type:b
PowOptions
ArgMinOptions output_type:b
FakeQuantOptions min:f max:f num_bits:i narrow_range:?
PackOptions values_count:i axis:i
LogicalOrOptions
OneHotOptions axis:i
LogicalAndOptions LogicalNotOptions
UnpackOptions num:i axis:i
FloorDivOptions SquareOptions ZerosLikeOptions FillOptions
BidirectionalSequenceLSTMOptions fused_activation_function:b cell_clip:f proj_clip:f
  merge_outputs:? time_major:?=1 asymmetric_quantize_inputs:?
BidirectionalSequenceRNNOptions time_major:? fused_activation_function:b merge_outputs:?
  asymmetric_quantize_inputs:?
UnidirectionalSequenceLSTMOptions fused_activation_function:b cell_clip:f proj_clip:f
  time_major:? asymmetric_quantize_inputs:? diagonal_recurrent_tensors:?
FloorModOptions RangeOptions
ResizeNearestNeighborOptions align_corners:? half_pixel_centers:?
LeakyReluOptions alpha:f
SquaredDifferenceOptions
MirrorPadOptions mode:b
AbsOptions
SplitVOptions num_splits:i
UniqueOptions idx_out_type:b=2
ReverseV2Options AddNOptions GatherNdOptions CosOptions WhereOptions RankOptions
ReverseSequenceOptions seq_dim:i batch_dim:i
MatrixDiagOptions QuantizeOptions MatrixSetDiagOptions HardSwishOptions
IfOptions then_subgraph_index:i@graph else_subgraph_index:i@graph
WhileOptions cond_subgraph_index:i@graph body_subgraph_index:i@graph
DepthToSpaceOptions block_size:i
NonMaxSuppressionV4Options NonMaxSuppressionV5Options ScatterNdOptions SelectV2Options
DensifyOptions SegmentSumOptions
BatchMatMulOptions adj_x:? adj_y:? asymmetric_quantize_inputs:?
CumsumOptions exclusive:? reverse:?
CallOnceOptions init_subgraph_index:i@graph
BroadcastToOptions Rfft2dOptions
Conv3DOptions padding:b stride_d:i stride_w:i stride_h:i fused_activation_function:b
  dilation_d_factor:i=1 dilation_w_factor:i=1 dilation_h_factor:i=1
HashtableOptions table_id:i key_dtype:b value_dtype:b
HashtableFindOptions HashtableImportOptions HashtableSizeOptions
VarHandleOptions container:s shared_name:s
ReadVariableOptions AssignVariableOptions
RandomOptions seed:q seed2:q
BucketizeOptions boundaries:[f]
GeluOptions approximate:?
DynamicUpdateSliceOptions UnsortedSegmentProdOptions UnsortedSegmentMaxOptions
UnsortedSegmentMinOptions UnsortedSegmentSumOptions ATan2Options SignOptions
BitcastOptions BitwiseXorOptions RightShiftOptions
<BuiltinOptions2>
StablehloConcatenateOptions dimension:q
StablehloBroadcastInDimOptions broadcast_dimensions:[q]
StablehloSliceOptions start_indices:[q] limit_indices:[q] strides:[q]
StablehloConvolutionOptions window_strides:[q] padding:[q] lhs_dilation:[q]
  rhs_dilation:[q] window_reversal:[?] input_batch_dimension:q input_feature_dimension:q
  input_spatial_dimensions:[q] kernel_input_feature_dimension:q
  kernel_output_feature_dimension:q kernel_spatial_dimensions:[q]
  output_batch_dimension:q output_feature_dimension:q output_spatial_dimensions:[q]
  feature_group_count:q batch_group_count:q precision_config:[I]
StablehloCustomCallOptions call_target_name:s has_side_effect:? backend_config:s
  api_version:i called_computations:[i]@graph custom_attributes:[B]
StablehloReduceOptions dimensions:[q] body_subgraph_index:i@graph
StablehloScatterOptions indices_are_sorted:? update_window_dims:[q]
  inserted_window_dims:[q] scatter_dims_to_operand_dims:[q] index_vector_dim:q
  unique_indices:? update_computation_subgraph_index:i@graph
StablehloCompareOptions comparison_direction:I compare_type:I
StablehloDynamicSliceOptions slice_sizes:[q]
StablehloPadOptions edge_padding_low:[q] edge_padding_high:[q] interior_padding:[q]
StablehloIotaOptions iota_dimension:q
StablehloDotGeneralOptions lhs_batching_dimensions:[q] rhs_batching_dimensions:[q]
  lhs_contracting_dimensions:[q] rhs_contracting_dimensions:[q] precision_config:[I]
StablehloReduceWindowOptions window_dimensions:[q] window_strides:[q] base_dilations:[q]
  window_dilations:[q] padding:[q] body_subgraph_index:i@graph
StablehloSortOptions dimension:q is_stable:? comparator_subgraph_index:i@graph
StablehloWhileOptions cond_subgraph_index:i@graph body_subgraph_index:i@graph
StablehloGatherOptions offset_dims:[q] collapsed_slice_dims:[q] start_index_map:[q]
  index_vector_dim:q slice_sizes:[q] indices_are_sorted:?
StablehloTransposeOptions permutation:[q]
DilateOptions
StablehloRngBitGeneratorOptions algorithm:b
ReduceWindowOptions reduce_function:i
StableHLOCompositeOptions name:s decomposition_subgraph_index:i@graph
  composite_attributes:[B] composite_attributes_format:b version:i
StablehloShiftLeftOptions
StablehloCaseOptions branch_subgraph_indices:[i]@graph
<>
QuantizationParameters min:[f] max:[f] scale:[f] zero_point:[q]
  details:<QuantizationDetails> quantized_dimension:i
DimensionMetadata format:b dense_size:i array_segments:<SparseIndexVector>
  array_indices:<SparseIndexVector>
SparsityParameters traversal_order:[i] block_map:[i] dim_metadata:[DimensionMetadata]
VariantSubType shape:[i] type:b has_rank:?
Tensor shape:[i] type:b buffer:I@buffer name:s quantization:QuantizationParameters
  is_variable:? sparsity:SparsityParameters shape_signature:[i] has_rank:?
  variant_tensors:[VariantSubType] external_buffer:I
OperatorCode deprecated_builtin_code:b custom_code:s version:i=1 builtin_code:i
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
SignatureDef inputs:[TensorMap] outputs:[TensorMap] signature_key:s deprecated_tag:s
  subgraph_index:I@graph
Model version:I operator_codes:[OperatorCode] subgraphs:[SubGraph] description:s
  buffers:[Buffer] metadata_buffer:[i]@buffer metadata:[Metadata]
  signature_defs:[SignatureDef] external_buffer_groups:[ExternalBufferGroup]
  external_buffers:[ExternalBuffer]
"""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a table.

    Attributes:
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


_FIELD = re.compile(r"(\w+):([\[<]?)(\w+|\?)[\]>]?(?:=(-?\d+))?(?:@(\w+)(\?)?)?")
# The bracket before a type, and whether that is a table.
_KINDS = {
    ("", False): "scalar",
    ("", True): "table",
    ("[", False): "numbers",
    ("[", True): "tables",
    ("<", True): "union",
}
# What runs in place, or is loaded in wide words, starts at a multiple of 16 bytes.
_ALIGNMENTS = {("Buffer", "data"): 16}


def _fields(table: str, words: list[str]) -> tuple[Field, ...]:
    fields, slot = [], 0
    for match in map(_FIELD.fullmatch, words):
        if match:
            name, bracket, code, default, target, optional = match.groups()
            kind = "text" if code == "s" else _KINDS[bracket, len(code) > 1]
            width = struct.calcsize("<" + code) if kind == "numbers" else 1
            fields.append(
                Field(
                    name=name,
                    slot=slot,
                    kind=kind,
                    type=code,
                    default=float(default or 0),
                    alignment=_ALIGNMENTS.get((table, name), width),
                    target=target or "",
                    may_be_none=bool(optional),
                )
            )
            slot += kind == "union"
        slot += 1
    return tuple(fields)


def _parsed() -> Iterator[tuple[str, str, list[str]]]:
    """The union of each table, its name and its fields, as they stand above."""
    union, fields = "", []
    for word in _LAYOUTS.split():
        if word.startswith("<"):
            union = word.strip("<>")
        elif word == "-" or ":" in word:
            fields.append(word)
        else:
            fields = []
            yield union, word, fields


_TABLES = list(_parsed())
# The tables that a union may hold, the first one being of type 1.
UNIONS: Mapping[str, list[str]] = {
    union: [table for other, table, _ in _TABLES if other == union]
    for union in {union for union, *_ in _TABLES if union}
}
LAYOUTS: Mapping[str, tuple[Field, ...]] = {
    table: _fields(table, words) for _, table, words in _TABLES
}
