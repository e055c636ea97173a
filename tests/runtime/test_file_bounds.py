"""Bounds grow with a file and the user's data, not with what a small file declares."""

from __future__ import annotations

import pytest

from penjing.errors import FileFormatError
from penjing.runtime import file_bounds
from penjing.runtime.file_bounds import bounds_for
from penjing.runtime.worker_process import WorkerEndError

pytestmark = pytest.mark.once
KB, MB = 10**3, 10**6


def test_a_small_file_gets_less_than_two_gigabytes_and_half_a_minute():
    declared = 4 * 2**23  # the most that is made up
    for bounds in (bounds_for(10 * KB), bounds_for(10 * KB, declared=declared)):
        assert bounds.memory < 2.2e9
        assert bounds.seconds < 30


def test_real_networks_get_the_time_of_a_slow_core():
    """In multiply-accumulates, at 5e9 in a second."""
    text = bounds_for(66 * MB, inputs=4 * 128 * 512)  # DistilBERT in int8, 128 texts
    assert text.seconds > 128 * 512 * 43e6 / 5e9
    image = bounds_for(4 * MB, inputs=128 * 4 * 3 * 224**2)  # MobileNetV2, 128 images
    assert image.seconds > 128 * 300e6 / 5e9
    tried = bounds_for(3 * MB, declared=4 * 4 * 3 * 512**2)  # 10e9 for an image
    assert tried.seconds > 26 * 10e9 / 5e9


def test_the_variable_and_threads_raise_them(monkeypatch):
    before = bounds_for(MB)
    monkeypatch.setenv("PENJING_LIMITS", "4")
    assert bounds_for(MB).memory == 4 * before.memory
    assert bounds_for(MB).seconds == 4 * before.seconds
    assert bounds_for(MB, threads=8).memory > bounds_for(MB).memory
    assert file_bounds.most_output(0) == 4 * 2**29


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (WorkerEndError(-9, 30, ""), "runs it for more than 30 seconds at once. The"),
        (WorkerEndError(-11, None, ""), r"crashes on it \(exit code -11\). The file"),
    ],
)
def test_the_end_of_a_process_is_told_with_the_way_out(error, message):
    said = file_bounds.ended("it", error, advice="Use a smaller one. ")
    assert isinstance(said, FileFormatError)
    with pytest.raises(FileFormatError, match=f"{message}.*Use a smaller one. For"):
        raise said
