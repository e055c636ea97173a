"""What a browser makes of a report's page: drawn, opened, sorted, reached."""

import pytest
from tests.report.browser import needs_browser, started_browser
from tests.report.example_report import HOSTILE, front_row, layer_row, make_searched

from penjing.report.pages import write_html

pytestmark = [pytest.mark.once, needs_browser]
WIDE = {"viewport": {"width": 1100, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True}


@pytest.fixture(scope="module")
def opened():
    with started_browser() as open_page:
        yield open_page


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {
        layers: write_html(make_searched(layers), folder / f"{layers}.html")
        for layers in (3, 200)
    }


@pytest.fixture(scope="module")
def page(opened, files):
    """The page of three layers, on a wide screen; tests leave it as they find it."""
    page = opened(files[3], **WIDE)
    page.wait_for_selector("body[data-charts]")
    return page


def colors(page):
    """Color of the paper, and of the bars of the last file."""
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    bar = page.locator("#chart-staircase path[fill*=leaf]").first
    return paper, bar.evaluate("path => getComputedStyle(path).fill")


def test_all_charts_are_drawn_and_nothing_is_loaded_or_complained_of(page, files):
    assert page.get_attribute("body", "data-charts") == "3"
    for name in ("staircase", "front", "layers"):
        assert page.locator(f"#chart-{name} svg").count() == 1
    assert page.locator("#chart-front .mark-symbol path").count() == 6
    assert page.problems == []
    urls = [url for url in page.loaded if not url.startswith("data:image/png;base64,")]
    assert urls == [files[3].as_uri()]


def test_a_click_on_a_file_of_the_front_opens_its_details(page):
    details = page.locator("#file-2")
    assert not details.evaluate("element => element.open")
    page.locator("#chart-front .mark-symbol path").nth(2).click()
    page.wait_for_function("document.getElementById('file-2').open")
    assert "epochs = 3" in details.locator("pre").inner_text()
    details.locator("summary").click()


def test_the_recipe_is_shown_beside_the_pointer(page):
    page.locator("#chart-front .mark-symbol path").nth(1).hover()
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "epochs = 2" in tooltip.inner_text()
    page.mouse.move(0, 0)


def test_texts_stay_texts(page):
    assert HOSTILE in page.locator("#front").inner_text()
    assert HOSTILE in page.locator("#examples").inner_text()
    assert page.locator("img[src='x']").count() == 0


def test_layers_are_sorted_by_their_headings_and_back(page):
    names = "#layers tbody td.name"

    def order():
        return [text.split()[0] for text in page.locator(names).all_inner_texts()]

    first = order()
    heading = page.locator("#layers th", has_text="error")
    heading.locator("button").click()
    assert (order(), heading.get_attribute("aria-sort")) == (first[::-1], "descending")
    heading.locator("button").click()
    assert (order(), heading.get_attribute("aria-sort")) == (first, "ascending")


def test_what_is_not_known_is_sorted_last_and_numbers_as_numbers(opened, tmp_path):
    import dataclasses

    rows = [dataclasses.replace(layer_row(n), bytes=size) for n, size in SIZES.items()]
    report = make_searched()
    evidence = dataclasses.replace(report.evidence, layers=tuple(rows))
    path = write_html(make_searched(evidence=evidence), tmp_path / "report.html")
    page = opened(path, **WIDE)
    button = page.locator("#layers th button", has_text="bytes")
    for expected in ([1, 0, 2, 3], [2, 0, 1, 3]):
        button.click()
        texts = page.locator("#layers tbody td.name").all_inner_texts()
        assert [int(text.split("/")[0].split("_")[1]) for text in texts] == expected


SIZES = {0: 99, 1: 1000, 2: 9, 3: None}


def test_the_keyboard_reaches_files_headings_and_tables(page):
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        what = (
            "e => e.closest('details.file, th, pre, .tall, details')?.outerHTML ?? ''"
        )
        text = page.evaluate(f"({what})(document.activeElement)")
        reached.append(text[:60])
    assert sum('class="file' in text for text in reached) >= 6
    assert sum(text.startswith("<th") for text in reached) >= 10
    assert any(text.startswith("<pre") for text in reached)
    assert any("tall" in text for text in reached)
    summary = page.locator("#file-1 summary")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#file-1").evaluate("element => element.open")
    page.keyboard.press("Enter")


def test_each_chart_has_a_text_for_screen_readers(page):
    for name in ("staircase", "front", "layers"):
        place = page.locator(f"#chart-{name}")
        assert place.get_attribute("role") == "graphics-document"
        assert "the same numbers" in place.get_attribute("aria-label")
    for picture in page.locator("img").all():
        assert picture.get_attribute("alt")


def test_the_dark_page_is_dark_with_its_charts(opened, files, page):
    dark = opened(files[3], color_scheme="dark", **WIDE)
    dark.wait_for_selector("body[data-charts='3']")
    light_paper, light_bar = colors(page)
    dark_paper, dark_bar = colors(dark)
    assert light_paper == "rgb(247, 246, 242)" and dark_paper == "rgb(18, 22, 19)"
    assert light_bar == "rgb(47, 125, 79)" and dark_bar == "rgb(108, 192, 139)"
    assert dark.problems == []


def test_a_phone_shows_all_without_scrolling_sideways(opened, files):
    phone = opened(files[3], **PHONE)
    phone.wait_for_selector("body[data-charts='3']")
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    wide = "[...document.querySelectorAll('.chart svg')].map(e => e.clientWidth)"
    assert all(0 < width <= 390 for width in phone.evaluate(wide))
    phone.locator("#layers select").select_option("error")
    texts = phone.locator("#layers tbody td.name").all_inner_texts()
    assert texts[0].startswith("block_2")
    assert phone.problems == []


def test_two_hundred_layers_are_drawn(opened, files):
    assert files[200].stat().st_size < 3_000_000
    page = opened(files[200], **WIDE)
    page.wait_for_selector("body[data-charts='3']", timeout=20_000)
    assert page.locator("#chart-layers .mark-rect path").count() == 400
    assert page.locator("#layers tbody tr").count() == 200
    assert page.problems == []


def test_a_page_on_paper_shows_what_is_folded(opened, files):
    page = opened(files[3], color_scheme="dark", **WIDE)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#front pre").first.is_visible()
    assert colors(page)[0] == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.locator("#front pre").first.is_visible()


def test_a_chart_that_cannot_be_drawn_leaves_the_rest(opened, tmp_path):
    rows = (front_row(0, gzip=5, validation_score=None, test_score=float("nan")),)
    path = write_html(make_searched(front=rows), tmp_path / "report.html")
    page = opened(path, **WIDE)
    page.wait_for_selector("body[data-charts]")
    assert page.locator("#chart-staircase svg").count() == 1
    assert page.locator("#file-0").count() == 1
