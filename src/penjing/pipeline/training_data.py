"""Training data cut into segments whose order depends on seed and epoch alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from penjing.data.batches import check_trainable, loader_length
from penjing.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """Batches `start` to before `stop` of an epoch; the state can be saved after it."""

    epoch: int
    start: int
    stop: int


class ArrayBatches(keras.utils.PyDataset):
    """Batches of arrays in an order that depends on the seed and the epoch alone.

    `arrays` is `(x, y)` or `(x, y, sample_weight)`, each a tree of arrays with the
    samples along the first axis. The last batch of an epoch may be smaller. Where
    Keras spreads batches over devices, each gives as many samples to each of them, and
    the few that are left over are others in every epoch.
    """

    def __init__(
        self, arrays: Any, batch_size: int, segment: Segment, seed: int
    ) -> None:
        super().__init__()
        self._arrays = arrays
        self._batch_size = batch_size
        self._segment = segment
        self._seed = seed
        self._epoch = segment.epoch
        self._shuffle()

    def _shuffle(self) -> None:
        generator = np.random.default_rng((self._seed, self._epoch))
        self._order = generator.permutation(count_samples(self._arrays))

    def on_epoch_end(self) -> None:
        """Take the order of the next epoch."""
        self._epoch += 1
        self._shuffle()

    def release(self) -> None:
        """Let the arrays go: TensorFlow keeps all that it ever got batches from."""
        self._arrays, self._order = (), np.empty(0, int)

    def __len__(self) -> int:
        return self._segment.stop - self._segment.start

    def __getitem__(self, index: int) -> Any:
        begin = (self._segment.start + index) * self._batch_size
        chosen = self._order[begin : begin + self._batch_size]
        chosen = chosen[: len(chosen) // replicas() * replicas()]
        return keras.tree.map_structure(lambda array: array[chosen], self._arrays)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Arrays or a loader, as training wants them.

    The source is `(x, y)`, `(x, y, sample_weight)`, or a loader that Keras' `fit`
    takes; loaders bring their own batch size. A loader's own order repeats after a kill
    only where it depends on nothing but the global seeds of Python, NumPy and the
    backend, which are set anew for each segment.
    """

    source: Any
    batch_size: int
    seed: int

    def with_whole_batches(self) -> TrainingData:
        """The arrays in batches that are all of one size; a loader has its own."""
        if not self.is_arrays:
            return self
        count = count_samples(self.source)
        size = min(self.batch_size, count)
        return WholeBatches(source=self.source, batch_size=size, seed=self.seed)

    @property
    def is_arrays(self) -> bool:
        """Whether the source is arrays and not a loader."""
        return isinstance(self.source, (tuple, list))

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        if self.is_arrays:
            whole, rest = divmod(count_samples(self.source), self.batch_size)
            return whole + (rest >= replicas())
        return count_batches(self.source)

    def segments(self, epochs: int, longest: int) -> Iterator[Segment]:
        """Cut the training into segments of at most `longest` batches of an epoch.

        An epoch of a loader is never cut: it can only be read from its start.
        """
        steps = self.steps_per_epoch
        longest = longest if self.is_arrays else steps
        for epoch in range(epochs):
            for start in range(0, steps, longest):
                stop = min(start + longest, steps)
                yield Segment(epoch=epoch, start=start, stop=stop)

    def ends_epoch(self, segment: Segment) -> bool:
        """Whether an epoch is finished with a segment."""
        return segment.stop == self.steps_per_epoch

    def together(self, segments: Sequence[Segment], longest: int) -> Sequence[Segment]:
        """Give the first segments, as many as one call of `fit` takes.

        Short epochs of arrays go together, up to `longest` batches: `fit` takes as long
        to begin as to train on a hundred. A loader's order depends on the seeds that
        are set before it is read.
        """
        steps = self.steps_per_epoch
        whole = self.is_arrays and segments[0].stop - segments[0].start == steps
        return segments[: max(longest // steps, 1) if whole else 1]

    def segment_seed(self, segment: Segment) -> int:
        """Give the global seed of a segment."""
        seeds = np.random.SeedSequence((self.seed, segment.epoch, segment.start))
        return int(seeds.generate_state(1)[0])

    def batches(self, segment: Segment) -> Any:
        """Give the batches of a segment and of epochs after it, as `fit` takes them."""
        if self.is_arrays:
            return ArrayBatches(tuple(self.source), self.batch_size, segment, self.seed)
        return self.source


def replicas() -> int:
    """How many devices get a part of each batch, by Keras' own distribution."""
    return int(getattr(keras.distribution.distribution(), "num_model_replicas", 1))


class WholeBatches(TrainingData):
    """Arrays, without the batch at the end of an epoch that would be smaller."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return count_samples(self.source) // self.batch_size


def count_samples(arrays: Any) -> int:
    """Count the samples in a tree of arrays."""
    return len(keras.tree.flatten(arrays)[0])


def count_batches(loader: Any) -> int:
    """Count the batches of a loader, which must have a finite length."""
    loader_length(loader)
    try:
        count = len(loader)
    except (TypeError, NotImplementedError) as error:
        raise DataError(
            f"The training data, of type {type(loader).__name__}, has no length: "
            f"{error}. A tf.data.Dataset gets one by "
            "`.apply(tf.data.experimental.assert_cardinality(batches))`; other "
            "loaders by `__len__`."
        ) from error
    if count < 1:
        raise DataError("The training data has no batches. Check its split and paths.")
    check_trainable(loader, "The training data")
    return count
