import json

import pytest

from penjing.measurement.latency_cache import TimeCache

pytestmark = pytest.mark.once


def test_the_folder_of_kept_times_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.delenv("PENJING_CACHE", raising=False)
    assert TimeCache().path.parent == tmp_path / "x" / "penjing"
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "p"))
    cache = TimeCache()
    assert cache.path.parent == tmp_path / "p"
    other = TimeCache()
    cache.add([({"a": 1}, 2.0)])
    other.add([({"b": 1}, 3.0)])
    assert TimeCache().get({"a": 1}) == 2.0, "another process's times stay"
    cache.path.write_text(json.dumps({"key": -1, "other": "text"}))
    assert TimeCache().get({"a": 1}) is None


def test_a_time_is_found_by_its_description_in_any_order(tmp_path):
    TimeCache(tmp_path).add([({"kind": "dense", "size": [8, 8]}, 0.5)])
    cache = TimeCache(tmp_path)
    assert cache.get({"size": [8, 8], "kind": "dense"}) == 0.5
    assert cache.get({"kind": "dense", "size": [8, 9]}) is None


@pytest.mark.parametrize("content", ["{ half", "[1]", "7"])
def test_a_damaged_file_is_measured_again(tmp_path, content):
    cache = TimeCache(tmp_path)
    cache.path.write_text(content)
    assert TimeCache(tmp_path).get({"a": 1}) is None
    cache.add([({"a": 1}, 2)])
    assert TimeCache(tmp_path).get({"a": 1}) == 2.0
