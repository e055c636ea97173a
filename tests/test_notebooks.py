"""The notebooks run, each on the backend that it is for.

The cells run as one program in this process: to start a kernel for each notebook would
load TensorFlow ten times. So cells are plain Python, without magics, which is checked.
"""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path

import keras
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(notebook: Path) -> dict:
    return json.loads(notebook.read_text("utf-8"))


def code_of(notebook: Path) -> list[str]:
    cells = read(notebook)["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


def of_backend() -> list[Path]:
    backend = keras.backend.backend()
    return [
        p for p in NOTEBOOKS if read(p)["metadata"]["penjing"]["backend"] == backend
    ]


@pytest.mark.parametrize("notebook", of_backend(), ids=lambda path: path.stem)
def test_the_notebook_runs(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program = tmp_path / f"{notebook.stem}.py"
    program.write_text("\n\n".join(code_of(notebook)), "utf-8")
    runpy.run_path(str(program))
    out = capsys.readouterr().out
    print(out)
    assert out.strip()
    if notebook.stem != "10-budget":
        assert list(tmp_path.glob("*.tflite"))


@pytest.mark.once
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_kept_without_outputs(notebook):
    content = read(notebook)
    assert content["nbformat"] == 4
    cells = content["cells"]
    assert cells[0]["cell_type"] == "markdown"
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            ast.parse("".join(cell["source"]))


@pytest.mark.once
def test_there_are_ten_and_the_page_has_each():
    page = (FOLDER / "README.md").read_text("utf-8")
    assert len(NOTEBOOKS) == 10
    assert [p.name for p in NOTEBOOKS if f"({p.name})" not in page] == []
