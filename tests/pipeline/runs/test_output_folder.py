"""The folder of a run: made, held alone, and nothing of anybody else's written over."""

import json
import os
import subprocess
import sys

import pytest

from penjing.errors import CompressionError
from penjing.pipeline.runs.output_folder import (
    check_outputs,
    claim_outputs,
    make_folder,
    output_folder,
)

pytestmark = pytest.mark.once
NAMES = ["model.keras", "report.json"]


def test_a_folder_is_made_with_those_above_it(tmp_path):
    path = tmp_path / "a" / "b"
    assert make_folder(str(path)) == path and path.is_dir()
    assert make_folder(path) == path, "one that is there is taken"


def test_what_can_be_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CompressionError, match="Cannot make the output folder"):
            make_folder(path)
    with pytest.raises(CompressionError, match="got an object of type int"):
        make_folder(7)


def test_a_relative_folder_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with output_folder("out", NAMES) as folder:
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert folder == tmp_path / "out"


def test_files_of_somebody_else_stop_the_run(tmp_path):
    (tmp_path / "model.keras").write_text("mine")
    refused = pytest.raises(CompressionError, match=r"over: model.keras.*`overwrite")
    with refused, output_folder(tmp_path, NAMES):
        pass
    assert (tmp_path / "model.keras").read_text() == "mine"
    with output_folder(tmp_path, NAMES, overwrite=True) as folder:
        claim_outputs(folder, ["model.keras"])
        (tmp_path / "model.keras").write_text("ours")
    with output_folder(tmp_path, NAMES):  # ours by now
        (tmp_path / "report.json").write_text("mine")  # which no run wrote
    with pytest.raises(CompressionError, match=r"over: report\.json\."):
        check_outputs(tmp_path, NAMES)


def test_nothing_is_made_where_a_run_is_refused_early(tmp_path):
    check_outputs(tmp_path / "new", NAMES)
    (tmp_path / "report.json").touch()
    with pytest.raises(CompressionError, match=r"report\.json"):
        check_outputs(tmp_path, NAMES)
    assert os.listdir(tmp_path) == ["report.json"]


@pytest.mark.parametrize("given", ["./model.keras", "link.keras", "hard.keras"])
def test_inputs_are_never_written_over(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.keras").write_text("input")
    os.symlink("model.keras", "link.keras")
    os.link("model.keras", "hard.keras")
    with output_folder(tmp_path, ["other"]):
        pass
    for overwrite in (False, True):
        settings = {"inputs": [3, "m:f", None, given], "overwrite": overwrite}
        refused = pytest.raises(CompressionError, match="it is an input of this run")
        with refused, output_folder(".", NAMES, **settings):
            pass
    assert (tmp_path / "model.keras").read_text() == "input"


def test_the_outputs_of_the_first_version_are_known(tmp_path):
    state = tmp_path / ".state" / "compression"
    state.mkdir(parents=True)
    (state / "manifest.json").write_text("{}")
    (tmp_path / "model.keras").touch()
    with output_folder(tmp_path, NAMES):
        pass


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path):
    left = [".model-0123abcd.keras", ".model-00000000.float32.tflite"]
    left += [".-01234567.model-0123abcd.keras", ".report-ffffffff.json"]
    kept = [".model-short.keras", ".other-0123abcd.keras", "model-0123abcd.keras"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    with output_folder(tmp_path, NAMES):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".state"])


# What another run holds; it loads no backend.
HOLDER = """
import filelock, sys, time
with filelock.FileLock(sys.argv[1] + "/.state/lock"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_runs_in_a_folder_are_told_of_each_other(tmp_path):
    with output_folder(tmp_path, NAMES):
        owner = json.loads((tmp_path / ".state" / "run.json").read_text())
    assert owner["process"] == os.getpid()
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            refused = pytest.raises(CompressionError)
            with refused as caught, output_folder(tmp_path, NAMES):
                pass
        finally:
            other.kill()
    assert f"process {os.getpid()} on " in str(caught.value)
    assert f"since {owner['since']}" in str(caught.value)
    # The lock of a killed process is free, and a run within a run needs none.
    with output_folder(tmp_path, NAMES), output_folder(tmp_path, ["more"]):
        pass
