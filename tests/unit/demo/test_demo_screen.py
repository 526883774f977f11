from __future__ import annotations

import io
import os
import pty
import re

from demo.screen import Screen, duration, is_terminal


def without_times(text: str) -> list[str]:
    return [re.sub(r"\s+\d+\.\d s\s+", " ", line).rstrip() for line in text.splitlines()]


def test_plain_lines_hold_no_control_codes_and_only_news() -> None:
    stream, log = io.StringIO(), io.StringIO()
    screen = Screen(stream, log)
    screen.announce(2)

    screen.begin("Model")
    for percent in range(101):
        screen.update("converting", percent / 100)
    screen.end("done")
    screen.begin("Resolving")
    screen.update("waiting")
    screen.update("waiting")
    screen.end()
    screen.begin("Loading", continued=True)
    screen.end()

    lines = without_times(stream.getvalue())
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    assert sum("converting" in line for line in lines) == 11
    assert lines[11] == "[1/2] Model ok  done"
    assert [line for line in lines if "waiting" in line] == ["[2/2] Resolving waiting"]
    assert lines[-1] == "      Loading ok"
    assert log.getvalue() == stream.getvalue()
    assert [title for title, _ in screen.timings] == ["Model", "Resolving", "Loading"]


def test_a_count_that_goes_up_is_no_news_for_plain_lines() -> None:
    stream = io.StringIO()
    screen = Screen(stream, io.StringIO())
    screen.begin("Binaries")
    for number in range(100):
        screen.update(f"downloading Go modules ({number})")
    for number in range(100):
        screen.update(f"compiling: {number} of 100 packages", number / 100)
    screen.end()

    lines = without_times(stream.getvalue())
    assert [line for line in lines if "downloading" in line] == ["[1/0] Binaries downloading Go modules (0)"]
    assert sum("compiling" in line for line in lines) == 10


def test_failed_stage_is_named() -> None:
    stream = io.StringIO()
    screen = Screen(stream, io.StringIO())
    screen.begin("Operator's chart")

    assert screen.fail("FAILED") == "Operator's chart"
    assert stream.getvalue().rstrip().endswith("FAILED")
    assert screen.timings == []


def test_terminal_is_redrawn_in_one_line_that_fits() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        screen = Screen(terminal, io.StringIO(), live=True)
        screen.begin("Compiling")
        screen.update("a graph " * 50, 0.5, 61.0)
        screen.end("ready")
        screen.close()
        terminal.flush()
        shown = ""
        # The kernel hands over what was written when it comes to it.
        while not shown.endswith("\r\n"):
            shown += os.read(ours, 1 << 16).decode()
    os.close(ours)

    drawn = [frame for frame in shown.split("\r\x1b[2K") if "50%" in frame]
    assert drawn
    assert all("\n" not in frame and len(frame) < 80 for frame in drawn)
    assert "[########........]  50%  ETA 1:01" in drawn[0]
    assert shown.endswith("ok  ready\r\n")


def test_a_pipe_is_no_terminal() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w") as pipe:
        assert not is_terminal(pipe)


def test_durations_read_like_durations() -> None:
    assert [duration(4.25), duration(99.9), duration(185)] == ["4.2 s", "99.9 s", "3:05 min"]
