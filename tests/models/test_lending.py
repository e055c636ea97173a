"""What is lent is given back: after errors, in nested blocks, in the right order."""

import threading
import types
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import ops

from penjing.models.lending import all_lent, lent, method_of, watched_calls


class Owner:
    def name(self):
        return "class"


def test_the_method_of_the_class_is_back_behind_the_block():
    owner = Owner()
    with lent(owner, "name", lambda: "lent"):
        assert owner.name() == "lent"
        assert Owner().name() == "class"
    assert owner.name() == "class"
    assert not vars(owner)


def test_an_attribute_of_the_object_is_what_it_was():
    owner = types.SimpleNamespace(value=1)
    with lent(owner, "value", None), lent(owner, "other", 2):
        assert (owner.value, owner.other) == (None, 2)
    assert vars(owner) == {"value": 1}


def test_blocks_of_the_same_name_stand_in_one_another():
    owner = Owner()
    with lent(owner, "name", lambda: "outer"):
        with lent(owner, "name", lambda: "inner"):
            assert owner.name() == "inner"
        assert owner.name() == "outer"
    assert owner.name() == "class"


def test_one_block_that_lends_twice_gives_back_the_first():
    owner = types.SimpleNamespace(value=1)
    with all_lent([(owner, "value", 2), (owner, "value", 3)]):
        assert owner.value == 3
    assert owner.value == 1


def test_an_error_in_the_block_gives_back_too():
    owner = Owner()
    with pytest.raises(KeyError), lent(owner, "name", lambda: "lent"):
        raise KeyError
    assert owner.name() == "class"


def test_an_error_among_the_loans_gives_back_those_before():
    owner = Owner()

    def loans():
        yield owner, "name", lambda: "lent"
        raise KeyError("second")

    with pytest.raises(KeyError, match="second"), all_lent(loans()):
        pytest.fail("the block must not run")  # pragma: no cover
    assert owner.name() == "class"


def test_keras_does_not_track_what_is_lent():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    with lent(layer, "helper", keras.layers.Dense(4)):
        assert len(list(layer._flatten_layers())) == 1
    assert not hasattr(layer, "helper")


def test_calls_of_layers_are_told_with_what_went_in_and_came_out():
    dense = keras.layers.Dense(2, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((3,)), dense, keras.layers.ReLU()])
    told = []
    with watched_calls(
        [dense, dense], lambda layer, given, made: told.append((layer, given, made))
    ):
        model(np.ones((1, 3), "float32"))
    model(np.zeros((1, 3), "float32"))
    [(layer, given, made)] = told
    assert layer is dense
    assert ops.convert_to_numpy(given).tolist() == [[1, 1, 1]]
    assert ops.convert_to_numpy(made).tolist() == [[3, 3]]


def test_a_method_is_lent_to_one_thread_alone():
    owner = Owner()
    with ThreadPoolExecutor(1) as other, lent(owner, "name", lambda: "lent"):
        assert other.submit(owner.name).result() == "class"
        assert owner.name() == "lent"
    assert not vars(owner)


def test_blocks_of_many_threads_overlap_and_leave_nothing_behind():
    owner, together = Owner(), threading.Barrier(8)

    def run(number):
        for _ in range(200):
            with lent(owner, "name", lambda: (number, method_of(owner, "name"))):
                assert owner.name()[0] == number
        together.wait()
        with lent(owner, "name", lambda: number):
            together.wait()
            assert owner.name() == number
        return owner.name()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(run, range(8))) == {"class"}
    assert not vars(owner)


def test_what_is_lent_can_call_what_it_stands_for_while_others_lend_it_too():
    owner, ready, done = Owner(), threading.Event(), threading.Event()

    def hold():
        with lent(owner, "name", lambda: "other"):
            ready.set()
            assert done.wait(10)

    with ThreadPoolExecutor(1) as other:
        held = other.submit(hold)
        assert ready.wait(10)
        before = method_of(owner, "name")
        with lent(owner, "name", lambda: f"around {before()}"):
            assert owner.name() == "around class"
        done.set()
        held.result()
    assert not vars(owner)
