"""Progress as lines and as bars."""

import io

import pytest

from halfmap.exec import screen
from halfmap.exec.screen import PlainScreen, TerminalScreen, screen_for


@pytest.fixture
def ticking(monkeypatch):
    """A clock that moves four seconds whenever it is read."""
    ticks = iter(range(0, 10_000, 4))
    monkeypatch.setattr(screen.time, "monotonic", lambda: float(next(ticks)))


def test_lines_have_rate_and_remaining_time(ticking):
    stream = io.StringIO()
    with PlainScreen(stream).progress("align", 10) as bar:
        for _ in range(10):
            bar.advance(1, note="1 failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4, "one line in ten seconds, and the last"
    assert lines[0] == "align: 3/10, 15.0/min, 28 s left, 1 failed"
    assert lines[-1] == "align: 10/10, 15.0/min, took 40 s, 1 failed"


def test_nothing_to_do_is_no_error():
    stream = io.StringIO()
    with PlainScreen(stream).progress("align", 0) as bar:
        bar.advance(0)
    assert "0/0" in stream.getvalue()


def test_stream_decides():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert isinstance(screen_for(Terminal()), TerminalScreen)
    assert isinstance(screen_for(io.StringIO()), PlainScreen)


def test_bars_within_bars_and_lines_between(capfd):
    terminal = TerminalScreen()
    with terminal.progress("outer", 2) as outer:
        with terminal.progress("inner", 1) as inner:
            inner.advance()
        terminal.say("a line [with] brackets")
        outer.advance(2, note="done")
    assert "a line [with] brackets" in capfd.readouterr().err
    assert terminal.bars is None
