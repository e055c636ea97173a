"""Every class of penjing that Keras must know to load a model which holds one.

`import penjing` imports this as soon as Keras is loaded, and `penjing.tfmot`, which
registers its own classes.
"""

from penjing.engine.activations.activation_config import ActivationConfig
from penjing.engine.activations.activation_grids import ActivationGrids
from penjing.engine.compressed_layer import CompressedLayer
from penjing.engine.compression_model import CompressionModel
from penjing.engine.fractional_schedule import FractionalSchedule
from penjing.engine.schedules import (
    ConstantSparsity,
    CosineDecay,
    OneShot,
    PolynomialDecay,
)
from penjing.engine.transforms.clustering_config import ClusteringConfig
from penjing.engine.transforms.clustering_transform import Cluster
from penjing.engine.transforms.pruning_config import PruningConfig
from penjing.engine.transforms.pruning_transform import Prune
from penjing.engine.transforms.quantization_config import QuantizationConfig
from penjing.engine.transforms.quantization_transform import FakeQuantize
from penjing.models.output_metrics import CentredR2, OutputCosine
from penjing.numerics.grids import Grid
from penjing.numerics.patterns import NM, Block, Unstructured

__all__ = [
    "NM",
    "ActivationConfig",
    "ActivationGrids",
    "Block",
    "CentredR2",
    "Cluster",
    "ClusteringConfig",
    "CompressedLayer",
    "CompressionModel",
    "ConstantSparsity",
    "CosineDecay",
    "FakeQuantize",
    "FractionalSchedule",
    "Grid",
    "OneShot",
    "OutputCosine",
    "PolynomialDecay",
    "Prune",
    "PruningConfig",
    "QuantizationConfig",
    "Unstructured",
]
