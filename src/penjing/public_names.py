"""What `penjing` offers to programs; importing it loads Keras."""

from penjing.arm.arm_instructions import (
    FileInstructions,
    InstructionReport,
    count_instructions,
)
from penjing.budget.bounds.quantities import Drop
from penjing.budget.budget import Budget
from penjing.channels.channel_pruning import prune_channels
from penjing.channels.channel_report import ChannelReport, ChannelRow, channel_report
from penjing.channels.group_lasso import GroupLasso
from penjing.channels.groups import ChannelGroup, GroupMember
from penjing.channels.removal import remove_channels, silence_channels
from penjing.channels.rules.rule_table import register_channel_rule
from penjing.channels.tracing import ChannelGraph, trace_channels
from penjing.engine.activations.activation_config import ActivationConfig
from penjing.engine.batch_statistics import reestimate_batch_normalization
from penjing.engine.batchnorm_folding import fold_batch_normalization
from penjing.engine.clustering import cluster
from penjing.engine.compressed_layer import CompressedLayer
from penjing.engine.compression_model import CompressionModel
from penjing.engine.fractional_schedule import FractionalSchedule
from penjing.engine.log_metrics import LogMetrics
from penjing.engine.pruning import prune, prune_layer
from penjing.engine.quantization import quantize_aware
from penjing.engine.schedules import (
    ConstantSparsity,
    CosineDecay,
    OneShot,
    PolynomialDecay,
    Schedule,
    schedule_from_json,
)
from penjing.engine.stripping import is_compressed, strip, strip_layer
from penjing.engine.transforms.clustering_config import ClusteringConfig
from penjing.engine.transforms.pruning_config import PruningConfig
from penjing.engine.transforms.quantization_config import QuantizationConfig
from penjing.errors import (
    CompressionError,
    CompressionWarning,
    DataError,
    ExportError,
    FileFormatError,
    MissingDependencyError,
    RecipeError,
    UnsupportedModelError,
)
from penjing.export.integers.compared_tensors import ComparedTensor
from penjing.export.litert import export_litert
from penjing.export.packed_files import pack_litert
from penjing.file_verification import verify
from penjing.firmware.c_export import CExport, export_c
from penjing.layer_sensitivity.sensitivity import sensitivity
from penjing.measurement.accuracy import evaluate
from penjing.measurement.inspection import InspectedTensor, Inspection, inspect_file
from penjing.measurement.latency import measure_latency
from penjing.measurement.latency_model import (
    KernelTimes,
    LatencyModel,
    build_latency_model,
)
from penjing.measurement.latency_report import (
    FileLatency,
    LatencyConditions,
    LatencyReport,
)
from penjing.measurement.machine import Environment
from penjing.measurement.macs import MacsReport, MacsRow, count_macs
from penjing.measurement.sensitivity_table import SensitivityRow, SensitivityTable
from penjing.measurement.size import Size, measure_size
from penjing.measurement.sparse_report import SparsityExplanation, explain_sparsity
from penjing.measurement.weight_report import SparsityReport, WeightRow, sparsity_report
from penjing.models.layer_specs import WeightSpec, register_layer_spec
from penjing.numerics.grids import Grid
from penjing.numerics.patterns import NM, Block, Pattern, Unstructured
from penjing.one_shot.layer_error_report import LayerErrorReport, LayerErrors
from penjing.one_shot.one_shot_pruning import prune_one_shot
from penjing.one_shot.one_shot_quantization import quantize_weights
from penjing.one_shot.one_shot_report import OneShotReport, OneShotRow
from penjing.packing.flash_explanation import FlashExplanation, LayerFlash
from penjing.packing.pack_report import PackedWeight, PackReport
from penjing.progress import Progress
from penjing.proof.layer_comparison import LayerComparison, compare_layers
from penjing.proof.verify_report import VerifyReport
from penjing.rebuilding.litert_loading import load_litert
from penjing.report.card.model_card import model_card
from penjing.report.documents import (
    DataSummary,
    FileRow,
    RefusedFile,
    Report,
)
from penjing.report.evidence_rows import (
    ConfusionRow,
    Evidence,
    ExampleRow,
    LayerRow,
    TimeRow,
    WeightPicture,
)
from penjing.report.score_rows import ScoreRow
from penjing.report.search_rows import BudgetRow, ControlRow, FrontRow, StairRow
from penjing.runtime.ethos_u import VelaEstimate
from penjing.runtime.interpreter import LiteRTModel, TensorSpec
from penjing.runtime.tflm import Arena, OperatorDifference, TflmComparison
from penjing.runtime.timing import OperatorTime
from penjing.shrinking.shrink_report import ShrinkReport, ShrinkStep
from penjing.shrinking.shrinking import shrink_litert
from penjing.sparse.ethos_estimate import EthosExplanation
from penjing.sparse.model_changes import (
    SparseLayout,
    prepare_for_sparse_inference,
    sparse_layout,
)
from penjing.sparse.sparse_kernels import LayerSparsity
from penjing.version import __version__
from penjing.web.wasm_latency import measure_wasm_latency

__all__ = [
    "ActivationConfig",
    "Arena",
    "Block",
    "Budget",
    "BudgetRow",
    "CExport",
    "ChannelGraph",
    "ChannelGroup",
    "ChannelReport",
    "ChannelRow",
    "ClusteringConfig",
    "ComparedTensor",
    "CompressedLayer",
    "CompressionError",
    "CompressionModel",
    "CompressionWarning",
    "ConfusionRow",
    "ConstantSparsity",
    "ControlRow",
    "CosineDecay",
    "DataError",
    "DataSummary",
    "Drop",
    "Environment",
    "EthosExplanation",
    "Evidence",
    "ExampleRow",
    "ExportError",
    "FileFormatError",
    "FileInstructions",
    "FileLatency",
    "FileRow",
    "FlashExplanation",
    "FractionalSchedule",
    "FrontRow",
    "Grid",
    "GroupLasso",
    "GroupMember",
    "InspectedTensor",
    "Inspection",
    "InstructionReport",
    "KernelTimes",
    "LatencyConditions",
    "LatencyModel",
    "LatencyReport",
    "LayerComparison",
    "LayerErrorReport",
    "LayerErrors",
    "LayerFlash",
    "LayerRow",
    "LayerSparsity",
    "LiteRTModel",
    "LogMetrics",
    "MacsReport",
    "MacsRow",
    "MissingDependencyError",
    "NM",
    "OneShot",
    "OneShotReport",
    "OneShotRow",
    "OperatorDifference",
    "OperatorTime",
    "PackReport",
    "PackedWeight",
    "Pattern",
    "PolynomialDecay",
    "Progress",
    "PruningConfig",
    "QuantizationConfig",
    "RecipeError",
    "RefusedFile",
    "Report",
    "Schedule",
    "ScoreRow",
    "SensitivityRow",
    "SensitivityTable",
    "ShrinkReport",
    "ShrinkStep",
    "Size",
    "SparseLayout",
    "SparsityExplanation",
    "SparsityReport",
    "StairRow",
    "TensorSpec",
    "TflmComparison",
    "TimeRow",
    "Unstructured",
    "UnsupportedModelError",
    "VelaEstimate",
    "VerifyReport",
    "WeightPicture",
    "WeightRow",
    "WeightSpec",
    "__version__",
    "build_latency_model",
    "channel_report",
    "cluster",
    "compare_layers",
    "count_instructions",
    "count_macs",
    "evaluate",
    "explain_sparsity",
    "export_c",
    "export_litert",
    "fold_batch_normalization",
    "inspect_file",
    "is_compressed",
    "load_litert",
    "measure_latency",
    "measure_size",
    "measure_wasm_latency",
    "model_card",
    "pack_litert",
    "prepare_for_sparse_inference",
    "prune",
    "prune_channels",
    "prune_layer",
    "prune_one_shot",
    "quantize_aware",
    "quantize_weights",
    "reestimate_batch_normalization",
    "register_channel_rule",
    "register_layer_spec",
    "remove_channels",
    "schedule_from_json",
    "sensitivity",
    "shrink_litert",
    "silence_channels",
    "sparse_layout",
    "sparsity_report",
    "strip",
    "strip_layer",
    "trace_channels",
    "verify",
]
