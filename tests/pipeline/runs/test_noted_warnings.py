"""What is warned of is shown and noted."""

import warnings

import pytest

from penjing.errors import CompressionWarning
from penjing.pipeline.inputs.run_data import without_folders
from penjing.pipeline.runs.noted_warnings import noted_warnings
from penjing.pipeline.runs.run_state import RunState

pytestmark = pytest.mark.once


def test_warnings_of_penjing_are_noted_once_and_shown():
    with pytest.warns() as shown, noted_warnings() as notes:
        for _ in range(2):
            warnings.warn("look", CompressionWarning, stacklevel=1)
        warnings.warn("other", UserWarning, stacklevel=1)
    assert notes == ["look"]
    assert {str(warning.message) for warning in shown} == {"look", "other"}


def test_a_stage_keeps_what_it_warned_of(tmp_path):
    def stage():
        warnings.warn("in a stage", CompressionWarning, stacklevel=1)

    with pytest.warns(CompressionWarning):
        RunState(tmp_path, "digest").run_stage("one", [], stage)
    again = RunState(tmp_path, "digest")
    again.run_stage("one", [], lambda: pytest.fail("ran twice"))
    assert again.warnings() == ["in a stage"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("file /home/me/a.npz", "file a.npz"),
        ("images in C:\\photos\\cats", "images in cats"),
        ("'/a/b c' and (~/x/y)", "'b c' and (y)"),
        ("net/dense/kernel keeps 1/2 of a/b", "net/dense/kernel keeps 1/2 of a/b"),
        ("file /data.npz", "file data.npz"),
        ("function m:f", "function m:f"),
    ],
)
def test_no_folder_is_published(text, kept):
    assert without_folders(text) == kept
