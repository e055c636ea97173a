import keras
import numpy as np
import pytest

from penjing.errors import DataError
from penjing.pipeline.training_data import Segment, TrainingData, count_batches

pytestmark = pytest.mark.once


def arrays(count=10):
    return np.arange(count), np.arange(count) * 2


def epoch_order(source, epoch, longest):
    left, order = list(source.segments(3, longest)), []
    while left:
        together = source.together(left, longest)
        batches = source.batches(together[0])
        for segment in together:
            if segment.epoch == epoch:
                order += [batches[i][0] for i in range(len(batches))]
            batches.on_epoch_end()
        left = left[len(together) :]
    return np.concatenate(order)


def test_segments_cover_every_batch_once():
    source = TrainingData(source=arrays(), batch_size=3, seed=0)
    found = [(s.epoch, s.start, s.stop) for s in source.segments(2, 3)]
    assert found == [(0, 0, 3), (0, 3, 4), (1, 0, 3), (1, 3, 4)]


@pytest.mark.parametrize(("longest", "count"), [(3, 1), (4, 1), (9, 2), (100, 3)])
def test_short_epochs_go_together(longest, count):
    source = TrainingData(source=arrays(), batch_size=3, seed=0)
    segments = list(source.segments(3, longest))
    assert source.together(segments, longest) == segments[:count]
    assert source.together(segments[-1:], longest) == segments[-1:]


@pytest.mark.parametrize("longest", [1, 3, 4, 8, 100])
def test_the_order_does_not_depend_on_the_segments(longest):
    source = TrainingData(source=arrays(), batch_size=3, seed=7)
    order = epoch_order(source, 1, longest)
    np.testing.assert_array_equal(order, epoch_order(source, 1, 2))
    np.testing.assert_array_equal(np.sort(order), np.arange(10))


def test_every_epoch_and_seed_has_its_own_order():
    source = TrainingData(source=arrays(50), batch_size=8, seed=1)
    other = TrainingData(source=arrays(50), batch_size=8, seed=2)
    assert (epoch_order(source, 0, 9) != epoch_order(source, 1, 9)).any()
    assert (epoch_order(source, 0, 9) != epoch_order(other, 0, 9)).any()


def test_labels_follow_their_samples_in_trees_of_arrays():
    x, y = arrays()
    source = TrainingData(source=({"a": x, "b": x + 1}, y), batch_size=4, seed=0)
    inputs, labels = source.batches(Segment(epoch=0, start=0, stop=3))[2]
    assert len(labels) == 2
    np.testing.assert_array_equal(inputs["a"] * 2, labels)
    np.testing.assert_array_equal(inputs["b"], inputs["a"] + 1)


class Loader(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return np.ones((2, 3)), np.ones((2, 1))


def test_an_epoch_of_a_loader_is_never_cut():
    loader = Loader()
    source = TrainingData(source=loader, batch_size=4, seed=0)
    assert [(s.start, s.stop) for s in source.segments(2, 2)] == [(0, 5), (0, 5)]
    assert source.batches(Segment(epoch=0, start=0, stop=5)) is loader
    assert len(source.together(list(source.segments(2, 100)), 100)) == 1


def test_a_loader_without_a_length_is_refused_with_the_fix():
    with pytest.raises(DataError, match="generator, has no length.*assert_cardin"):
        count_batches(iter_batches())


def iter_batches():
    yield 1


def test_an_empty_loader_is_refused():
    with pytest.raises(DataError, match="has no batches"):
        count_batches([])
