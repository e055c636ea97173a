"""The global seeds, which a resumed training sets as the first one did."""

from __future__ import annotations

import random
import sys

import keras
import numpy as np


def set_global_seeds(seed: int, *, tensorflow: bool = True) -> None:
    """Seed Python, NumPy, and the backend that is in use.

    It is `keras.utils.set_random_seed`, which loads TensorFlow wherever it is
    installed, for one backend alone.

    Args:
        seed: From 0 to 2**32 - 1.
        tensorflow: False leaves TensorFlow's seed, which drops its compiled functions.
    """
    if tensorflow and "tensorflow" in sys.modules:
        keras.utils.set_random_seed(seed)
        return
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
