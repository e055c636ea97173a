"""What a table of cuts says: budgets, cells, JSON."""

import pytest

from penjing.errors import FileFormatError
from penjing.measurement.sensitivity_table import SensitivityRow, SensitivityTable

pytestmark = pytest.mark.once


def row(name, ratio, accuracy):
    scores = {"loss": 9.0, "accuracy": accuracy}
    return SensitivityRow(name=name, ratio=ratio, removed=1, size=8, scores=scores)


TABLE = SensitivityTable(
    model="net",
    method="channels",
    baseline={"loss": 0.1, "accuracy": 0.9},
    rows=(
        row("a", 0.25, 0.9),
        row("a", 0.5, 0.88),
        row("a", 0.75, 0.89),
        row("b", 0.25, 0.5),
    ),
)


def test_the_largest_ratio_is_the_last_before_the_first_that_costs_too_much():
    assert TABLE.metric == "accuracy"
    assert TABLE.largest_ratio("a", 0.05) == 0.75
    assert TABLE.largest_ratio("a", 0.015) == 0.25
    assert TABLE.largest_ratio("b", 0.05) == 0.0
    losses = SensitivityTable(
        model="net",
        method="channels",
        baseline={"loss": 0.1},
        rows=(
            SensitivityRow(
                name="a", ratio=0.5, removed=1, size=2, scores={"loss": 0.3}
            ),
        ),
    )
    assert losses.largest_ratio("a", 0.1) == 0.0
    assert losses.largest_ratio("a", 0.25) == 0.5
    with pytest.raises(KeyError):
        TABLE.largest_ratio("c", 0.1)


@pytest.mark.parametrize("metric", ["loss", "mean_absolute_percentage_error", "hinge"])
def test_metrics_that_fall_as_a_model_gets_better(metric):
    made = {
        score: SensitivityTable(
            model="net",
            method="channels",
            baseline={metric: 0.5},
            rows=(
                SensitivityRow(
                    name="a", ratio=0.5, removed=1, size=2, scores={metric: score}
                ),
            ),
        )
        for score in (0.4, 0.9, float("nan"))
    }
    found = [table.largest_ratio("a", 0.1) for table in made.values()]
    assert found == [0.5, 0.0, 0.0], "nobody knows what NaN costs"


def test_the_table_survives_json_and_prints(tmp_path):
    path = TABLE.to_json(tmp_path / "table.json")
    assert SensitivityTable.from_json(path) == TABLE
    lines = str(TABLE).splitlines()
    assert lines[0] == "accuracy of net: 0.9000 whole"
    assert lines[2].split() == ["a", "0.9000", "0.8800", "0.8900"]
    path.write_text("{}")
    with pytest.raises(FileFormatError, match="Cannot read the sensitivity table"):
        SensitivityTable.from_json(path)


def test_rows_are_found_by_name_and_rising_ratio():
    assert TABLE.names == ("a", "b")
    assert TABLE.ratios == (0.25, 0.5, 0.75)
    turned = SensitivityTable(
        model="net", method="channels", baseline={}, rows=TABLE.rows[::-1]
    )
    assert list(turned.rows_of("a")) == [0.25, 0.5, 0.75]
    assert turned.rows_of("c") == {}
    assert TABLE.cells("b") == ["0.5000", "", ""]


@pytest.mark.parametrize("content", ["[]", "7", '{"schema": "another"}', "{ half"])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(FileFormatError, match="Cannot read the sensitivity table"):
        SensitivityTable.from_json(path)
