from html.parser import HTMLParser

import pytest

from penjing.measurement.sensitivity_table import SensitivityRow, SensitivityTable
from penjing.report.pages import render_sensitivity, write_sensitivity

pytestmark = pytest.mark.once


def table(**changes):
    rows = [
        SensitivityRow(
            name=name, ratio=ratio, removed=1, size=4, scores={"accuracy": score}
        )
        for name, ratio, score in (
            ("<i>a</i>", 0.25, 0.75),
            ("<i>a</i>", 0.5, 0.5),
            ("b", 0.5, 0.9),
        )
    ]
    values = {
        "model": "<b>net</b>",
        "method": "channels",
        "baseline": {"accuracy": 0.9},
        "rows": tuple(rows),
        "skipped": {"head": "it is an output & such"},
    }
    return SensitivityTable(**{**values, **changes})


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.points, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        if tag == "polyline":
            self.points.append(dict(attributes)["points"])

    def handle_data(self, data):
        self.text += data


def test_every_layer_has_a_line_and_a_row():
    parsed = Tags()
    parsed.feed(render_sensitivity(table()))
    # From the whole model at the left top down to the worst score at the bottom.
    assert parsed.points[0].startswith("56.0,8.0 ")
    assert parsed.points[0].endswith(",264.0")
    assert len(parsed.points) == 2
    for part in ("0.7500", "50 % gone", "it is an output & such", "<i>a</i>"):
        assert part in parsed.text


def test_everything_is_escaped_and_written(tmp_path):
    page = write_sensitivity(table(), tmp_path / "s.html").read_text("utf-8")
    assert "<b>net</b>" not in page and "<i>a</i>" not in page
    assert page == render_sensitivity(table())


@pytest.mark.parametrize("changes", [{"rows": ()}, {"skipped": {}}])
def test_missing_parts_leave_a_whole_page(changes):
    assert "</html>" in render_sensitivity(table(**changes))


def test_a_score_that_is_no_number_is_in_the_table_and_not_in_the_plot():
    rows = [
        SensitivityRow(name="a", ratio=ratio, removed=1, size=4, scores={"loss": score})
        for ratio, score in ((0.25, float("nan")), (0.5, 2.0), (0.75, float("inf")))
    ]
    page = render_sensitivity(table(baseline={"loss": 1.0}, rows=tuple(rows)))
    parsed = Tags()
    parsed.feed(page)
    assert parsed.points == ["56.0,264.0 384.0,8.0"]
    assert page.count("nan") == page.count("inf<") == 1
    assert page.count("/ 0.60)") == 3
