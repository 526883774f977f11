"""Draws what the demo leaves on a terminal: `python -m demo.picture FILE.svg` runs it in one, keeps the last screen.

The picture is plain SVG with the fonts of whoever looks at it, so that it needs no service and stays small.
"""

from __future__ import annotations

import errno
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
from collections.abc import Sequence
from fcntl import ioctl
from pathlib import Path
from xml.sax.saxutils import escape

COMMAND = ("make", "demo", "DETACH=1")
_COLUMNS, _ROWS = 112, 50
# From the first stage to where the model answers; what follows are lines to paste, too long for a picture.
_BEGINS, _ENDS = "[1/", "Endpoint "
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ERASE_LINE = "\x1b[2K"

_FONT_SIZE, _LINE_HEIGHT, _CHARACTER_WIDTH = 13, 18, 7.83
_MARGIN, _BAR_HEIGHT = 18, 34
_BACKGROUND, _TEXT, _DIM, _GOOD = "#1b1f27", "#d7dce5", "#7d8799", "#7fc98f"
_BUTTONS = ("#ff5f57", "#febc2e", "#28c840")


def main(arguments: Sequence[str]) -> int:
    """Run the demo and write its picture; returns the demo's exit code."""
    (target,) = arguments
    output, code = run_in_terminal(COMMAND)
    if code == 0:
        lines = [f"$ {COMMAND[0]} {COMMAND[1]}", *shown_part(screen_lines(output))]
        Path(target).write_text(svg(lines, title="neuron-operator: make demo"), encoding="utf-8")
    return code


def run_in_terminal(command: Sequence[str]) -> tuple[str, int]:
    """Run a command in a terminal of its own; returns all that it wrote there, and its exit code."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    written = bytearray()
    while chunk := _read(leader):
        written += chunk
        os.write(sys.stdout.fileno(), chunk)
    os.close(leader)
    return written.decode(errors="replace"), process.wait()


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 64 * 1024)
    except OSError as error:
        # So Linux says that nobody has the other end open any more.
        if error.errno != errno.EIO:
            raise
        return b""


def screen_lines(output: str) -> list[str]:
    """The lines as they stand at the end: of a line that was redrawn in place, its last form."""
    lines = []
    for line in output.replace("\r\n", "\n").split("\n"):
        last = line.rpartition(_ERASE_LINE)[2].rpartition("\r")[2]
        lines.append(_CONTROL.sub("", last).rstrip())
    return lines


def shown_part(lines: Sequence[str]) -> list[str]:
    """The lines that the picture is of."""
    begin = next((number for number, line in enumerate(lines) if line.startswith(_BEGINS)), 0)
    end = next((number for number, line in enumerate(lines) if line.startswith(_ENDS)), len(lines) - 1)
    measured = [line.strip() for line in lines[end:] if line.strip().startswith("answer: ")]
    return [row for line in (*lines[begin : end + 1], *measured) for row in _rows(line)]


def _rows(line: str) -> list[str]:
    """A line as it fits: of a stage its beginning, of text all of it."""
    if len(line) <= _COLUMNS or line.startswith(("[", " " * len("[9/10] "))):
        return [line if len(line) <= _COLUMNS else line[: _COLUMNS - 1] + "…"]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, _COLUMNS, subsequent_indent=indent)


def svg(lines: Sequence[str], *, title: str) -> str:
    """A window of a terminal with these lines."""
    width = round(2 * _MARGIN + _COLUMNS * _CHARACTER_WIDTH)
    height = _BAR_HEIGHT + 2 * _MARGIN + _LINE_HEIGHT * len(lines)
    buttons = (
        f'<circle cx="{_MARGIN + 18 * number}" cy="{_BAR_HEIGHT / 2:g}" r="6" fill="{color}"/>'
        for number, color in enumerate(_BUTTONS)
    )
    rows = (
        f'<text x="{_MARGIN}" y="{_BAR_HEIGHT + _MARGIN + _LINE_HEIGHT * number:g}" fill="{_color(line)}">'
        f"{escape(line)}</text>"
        for number, line in enumerate(lines, 1)
        if line
    )
    font = f'font-family="ui-monospace, \'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="{_FONT_SIZE}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{_BACKGROUND}"/>',
        *buttons,
        f'<g {font} xml:space="preserve" style="white-space: pre">',
        *rows,
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _color(line: str) -> str:
    if line.startswith(("$ ", "  > ")):
        return _GOOD
    return _DIM if line.lstrip().startswith("[") or line.startswith("       ") else _TEXT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
