"""From what a terminal was sent to a picture of its last screen."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

from demo.picture import run_in_terminal, screen_lines, shown_part, svg

_ERASE = "\r\x1b[2K"


def test_of_a_line_that_was_redrawn_the_last_form_stays() -> None:
    output = (
        f"[1/2] Machine\r\n{_ERASE}[2/2] Compiling  10%{_ERASE}[2/2] Compiling  90%{_ERASE}[2/2] Compiling  ok\r\nend"
    )
    assert screen_lines(output) == ["[1/2] Machine", "[2/2] Compiling  ok", "end"]


def test_colors_are_no_text() -> None:
    assert screen_lines("\x1b[32mgreen\x1b[0m  \r\n") == ["green", ""]


def test_the_picture_goes_from_the_first_stage_to_the_endpoint_and_the_speed() -> None:
    lines = ["setting up", "[1/2] Machine", "answer", "Endpoint  http://x", "Try next", "  curl", "  answer: 8 tokens"]
    assert shown_part(lines) == ["[1/2] Machine", "answer", "Endpoint  http://x", "answer: 8 tokens"]


def test_long_text_is_wrapped_and_the_long_line_of_a_stage_is_cut() -> None:
    stage, text = "[1/2] Machine " + "x" * 200, "  " + "word " * 40
    first, *wrapped = shown_part([stage, text, "Endpoint  http://x"])
    assert len(first) == 112
    assert first.endswith("x…")
    assert len(wrapped) == 3
    assert all(line.startswith("  word") for line in wrapped[:2])


def test_the_picture_is_xml_that_holds_every_line_as_text() -> None:
    lines = ["$ make demo", "", "a < b & c", "   indented"]
    root = ElementTree.fromstring(svg(lines, title="demo"))  # noqa: S314 - our own text
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["$ make demo", "a < b & c", "   indented"]


def test_a_command_runs_in_a_terminal_and_its_exit_code_comes_back() -> None:
    code = "import sys; print(sys.stdout.isatty(), file=sys.stderr); sys.exit(3)"
    assert run_in_terminal([sys.executable, "-c", code]) == ("True\r\n", 3)
