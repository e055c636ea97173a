"""Chance in a run: all of it follows from seeds, nothing from what ran before."""

from __future__ import annotations

import random
import sys
import zlib

import keras
import numpy as np

from penjing.models.keras_private import (
    all_layers,
    generators_of,
    given_seed,
    global_generator,
    keep_global_generator,
)

_SEEDS = 10**9  # as large as those that Keras draws itself


def set_global_seeds(seed: int, *, tensorflow: bool = True) -> None:
    """Seed Python, NumPy, Keras' own generator, and the backend that is in use.

    It is `keras.utils.set_random_seed`, which loads TensorFlow wherever it is
    installed, for one backend alone. TensorFlow drops its compiled functions when its
    seed is set: `tensorflow=False` leaves it. Compiled functions hold Keras' generator,
    so that stays and gets a new state, where Keras would make another one.
    """
    generator = global_generator()
    if tensorflow and "tensorflow" in sys.modules:
        keras.utils.set_random_seed(seed)
        keep_global_generator(generator)
    else:
        random.seed(seed)
        np.random.seed(seed)
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(seed)
    generator.state.assign([seed % _SEEDS, 0])


def stage_seed(seed: int, stage: str) -> int:
    """Give the global seed of a stage of a run."""
    seeds = np.random.SeedSequence((seed, zlib.crc32(stage.encode())))
    return int(seeds.generate_state(1)[0])


def set_layer_seeds(model: keras.Model, seed: int) -> None:
    """Let the layers that draw, such as dropout, begin at what follows from a seed.

    Keras saves no such state with a model, and draws a new one where it is loaded. A
    layer with a seed of its own begins at that.
    """
    for number, layer in enumerate(all_layers(model)):
        for place, generator in enumerate(generators_of(layer)):
            own = given_seed(generator)
            derived = np.random.SeedSequence((seed, number, place)).generate_state(1)
            begin = int(derived[0]) % _SEEDS if own is None else own
            generator.state.assign([begin, 0])
