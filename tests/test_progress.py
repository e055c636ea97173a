"""Progress: a bar where there is a screen, a listener, or nothing."""

import io
import re
from contextlib import redirect_stderr

import pytest
from rich.console import Console
from rich.live import Live

from penjing import Progress
from penjing.progress import draw_progress, listening

pytestmark = pytest.mark.once


class Screen(io.StringIO):
    """An error stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "FORCE_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return Screen()


def test_a_bar_is_drawn_on_a_terminal(screen):
    with redirect_stderr(screen), listening(True) as listen:
        listen(Progress(stage="Training", done=3, total=8, detail="loss [0.5]"))
    text = screen.getvalue()
    assert "Training" in text and "3/8" in text and "loss [0.5]" in text


def test_false_draws_nothing(screen):
    with redirect_stderr(screen), listening(False) as listen:
        listen(Progress(stage="Training"))
    assert screen.getvalue() == ""


def test_nothing_is_drawn_where_there_is_no_terminal():
    stream = io.StringIO()
    with redirect_stderr(stream), listening(True) as listen:
        listen(Progress(stage="Training", notice=True))
    assert stream.getvalue() == ""


def test_work_within_work_draws_no_second_bar(screen):
    both = listening(True), listening(True)
    with redirect_stderr(screen), both[0] as outer, both[1] as inner:
        outer(Progress(stage="Outer"))
        inner(Progress(stage="Inner"))
    assert "Outer" in screen.getvalue() and "Inner" not in screen.getvalue()
    with redirect_stderr(screen), listening(True) as later:
        later(Progress(stage="Later"))
    assert "Later" in screen.getvalue()


def test_what_the_caller_draws_is_left_alone(screen):
    mine = Live("mine", console=Console(file=screen))
    with redirect_stderr(screen), mine, listening(True) as listen:
        listen(Progress(stage="Training"))
    assert "mine" in screen.getvalue()


def test_the_bar_goes_away_with_an_error(screen):
    failing = pytest.raises(KeyError)
    with failing, redirect_stderr(screen), listening(True) as listen:
        listen(Progress(stage="Training"))
        raise KeyError
    with redirect_stderr(screen), listening(True) as listen:
        listen(Progress(stage="Again"))
    assert "Again" in screen.getvalue()


def test_a_function_is_told_everything():
    heard = []
    with listening(heard.append) as listen:
        listen(Progress(stage="Training", notice=True))
    assert heard == [Progress(stage="Training", notice=True)]


def test_anything_else_is_refused():
    refused = pytest.raises(ValueError, match="`progress` must be True .*got 'loud'")
    with refused, listening("loud"):
        pass


def test_stages_and_notices_are_lines_where_nothing_can_be_redrawn():
    stream = io.StringIO()
    with draw_progress(Console(file=stream), "Loading") as listen:
        listen(Progress(stage="Training", done=1, total=2))
        listen(Progress(stage="Training", done=2, total=2))
        listen(Progress(stage="Going on", detail="in epoch 2", notice=True))
        listen(Progress(stage="Writing"))
    assert stream.getvalue().split("\n") == [
        "Training",
        "Going on in epoch 2",
        "Writing",
        "",
    ]


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "CI"])
def test_logs_hold_lines_and_nothing_that_moves_the_cursor(
    screen, monkeypatch, variable
):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(
        "penjing.progress.time.monotonic", iter(range(0, 99, 6)).__next__
    )
    stream = screen if variable == "CI" else io.StringIO()
    console = Console(file=stream, width=30)
    with draw_progress(console) as listen:
        for done in range(5):
            listen(Progress(stage="Training", done=done, total=5, detail="a" * 40))
    text = re.sub(r"\x1b\[\d*m", "", stream.getvalue())  # colors
    lines = ["Training", f"Training  1/5  {'a' * 40}", f"Training  3/5  {'a' * 40}", ""]
    assert text.split("\n") == lines
