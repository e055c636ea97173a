"""What the demo trains and compresses; known before Keras is loaded."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penjing.pipeline import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """One run of the demo.

    Args:
        dataset: `"fashion-mnist-small"` (bundled) or `"fashion-mnist"`.
        data_dir: Folder of the full data set.
        model: `"article"`, `"lenet-300-100"`, `"lenet-5"` or `"cnn"`.
        recipe: How to compress.
        seed: Seed of everything random.
        out: Folder for models and reports; created where it is missing.
        baseline_epochs: Epochs of the baseline; None: the default of what is trained.
        epochs: Epochs of the compression, in place of the recipe's.
        restart: Begin anew, whatever an earlier run has finished.
        overwrite: Write over files in `out` that no run of penjing wrote.
    """

    dataset: str = "fashion-mnist-small"
    data_dir: str | os.PathLike[str] | None = None
    model: str = "article"
    recipe: str | os.PathLike[str] | Recipe = "default"
    seed: int = 0
    out: str | os.PathLike[str] = "penjing-demo"
    baseline_epochs: int | None = None
    epochs: int | None = None
    restart: bool = False
    overwrite: bool = False
