"""Model cards: all that was measured, and no text that breaks out of its place."""

import json
import tomllib
from pathlib import Path

import pytest
from tests.report.example_report import (
    HOSTILE,
    make_regression,
    make_report,
    make_searched,
)

import penjing
from penjing import cli
from penjing.report.card.markdown import block, code, front_matter, plain, table
from penjing.report.documents import read_json, write_json

pytestmark = pytest.mark.once
FINISHED = Path(__file__).parents[2] / "data/saved_by_0_1/runs/finished"


def test_a_card_has_what_the_report_has():
    report = make_regression(commands=("penjing compress net.keras --out out",))
    card = penjing.model_card(report, license="mit")
    head, body = card.removeprefix("---\n").split("\n---\n")
    values = dict(line.split(": ", 1) for line in head.splitlines())
    assert values["license"] == '"mit"' and json.loads(values["metrics"]) == ["mae"]
    assert (
        "13.1 times smaller" in body and "43.2000 before, 48.6500 after (worse)" in body
    )
    rows = [line for line in body.splitlines() if line.startswith("| `model.tflite`")]
    sizes = "6,000 | 5,949 | 5,950"
    assert rows == [
        f"| `model.tflite` | compressed | {sizes} | 48.6500 | +5.4500 worse |"
    ]
    assert (
        "- data.npz: 90 samples to train, 9 samples to test" in body
        and "- Seed 3" in body
    )
    assert (
        "LiteRT: `model.tflite`" in body and "75.0% of the compressed weights" in body
    )
    assert "penjing compress net.keras --out out" in body


def test_the_recipe_is_the_one_that_can_be_given():
    card = penjing.model_card(make_report())
    recipe = card.split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(recipe) == make_report().recipe


def test_a_search_tells_its_control_its_steps_and_its_bounds():
    report = make_searched()
    card = penjing.model_card(report)
    assert f"{report.control_score:.4f}" in card
    assert all(f"{row.bytes:,}" in card for row in report.staircase)


def test_hostile_texts_stay_texts(tmp_path):
    recipe = {"name": "```\n# heading"}
    card = penjing.model_card(
        make_report(title=HOSTILE, warnings=("[a](javascript:b) | c",), recipe=recipe)
    )
    assert "<img" not in card and "</script>" not in card
    assert "\\[a\\](javascript:b) \\| c" in card
    assert "````toml" in card


def test_python_in_the_card_runs_the_file(tmp_path, monkeypatch):
    report = read_json(FINISHED / "report.json")
    source = penjing.model_card(report).split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(FINISHED)
    names = {}
    exec(source.replace("outputs =", "# outputs ="), names)
    given = names["run"].get_input_details()
    import numpy as np

    inputs = {
        name: np.zeros(spec["shape"], spec["dtype"]) for name, spec in given.items()
    }
    assert names["run"](**inputs)


def test_a_damaged_report_is_refused():
    broken = make_report(result="elsewhere.tflite")
    with pytest.raises(penjing.FileFormatError, match="does not fit together"):
        penjing.model_card(broken)


def test_pieces():
    assert plain("a|b\n<i>") == "a\\|b &lt;i&gt;"
    assert code("a`|b") == "`a'\\|b`"
    assert block("x```", "c") == "````c\nx```\n````"
    assert table(["a", ">b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
    assert front_matter({"a": ["b: c"]}) == '---\na: ["b: c"]\n---'


@pytest.fixture
def out(tmp_path):
    write_json(make_report(), tmp_path / "report.json")
    return tmp_path


def test_the_command_writes_a_card_and_never_over_one(out, capsys):
    assert cli.main(["card", str(out), "--license", "mit"]) == 0
    card = out / "README.md"
    assert card.read_text() == penjing.model_card(out, license="mit")
    assert str(card) in capsys.readouterr().out
    card.write_text("mine")
    assert cli.main(["card", str(out)]) == 1
    assert "--force" in capsys.readouterr().err and card.read_text() == "mine"
    assert cli.main(["card", str(out), "--force"]) == 0
    assert card.read_text() != "mine"
    assert cli.main(["card", str(out), "--out", str(out / "card.md")]) == 0
    assert (out / "card.md").is_file()


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert cli.main(["card", str(tmp_path)]) == 1
    assert "no run of penjing has finished there" in capsys.readouterr().err
