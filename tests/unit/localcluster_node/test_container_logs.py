"""Logs: what is stored, what a reader gets of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from neuron_localcluster.node import clock
from neuron_localcluster.node.log_server import parse_options
from neuron_localcluster.node.logs import ContainerLog, LogOptions, last_words, render, tail

STORED = [
    b"2026-01-01T00:00:00.000000Z stdout F one\n",
    b"2026-01-01T00:00:01.000000Z stdout P tw\n",
    b"2026-01-01T00:00:01.000000Z stdout F o\n",
    b"2026-01-01T00:00:02.000000Z stdout F \n",
    b"2026-01-01T00:00:03.000000Z stdout P end without newline\n",
]


def text(count: int | None = None, **options: object) -> bytes:
    return b"".join(render(tail(STORED, count), LogOptions(**options)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (None, b"one\ntwo\n\nend without newline"),
        (0, b""),
        (1, b"end without newline"),
        (2, b"\nend without newline"),
        (3, b"two\n\nend without newline"),
        (9, b"one\ntwo\n\nend without newline"),
    ],
)
def test_tail_counts_the_lines_of_the_container(count: int | None, expected: bytes) -> None:
    assert text(count) == expected


def test_timestamps_and_since() -> None:
    assert text(3, timestamps=True).splitlines()[0] == b"2026-01-01T00:00:01.000000Z two"
    assert text(since=clock.parse("2026-01-01T00:00:02Z")) == b"\nend without newline"


async def test_what_a_container_wrote_is_read_back_whatever_the_chunks(tmp_path: Path) -> None:
    written = b"a\nbc\n" + b"x" * 40_000 + b"\nlast"
    log = ContainerLog(tmp_path / "logs" / "0.log")
    for start in range(0, len(written), 7):
        log.feed(written[start : start + 7])
    log.close()
    assert b"".join(render(log.path.read_bytes().splitlines(keepends=True), LogOptions())) == written


async def test_a_reader_waits_for_more_and_for_the_end(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "0.log")
    waiting = asyncio.create_task(log.more())
    await asyncio.sleep(0)
    assert not waiting.done()
    log.feed(b"line\n")
    await asyncio.wait_for(waiting, 60)
    waiting = asyncio.create_task(log.more())
    await asyncio.sleep(0)
    assert not waiting.done()
    log.close()
    await asyncio.wait_for(waiting, 60)
    await asyncio.wait_for(log.more(), 60)


async def test_last_words_are_80_lines_and_2048_bytes_at_most(tmp_path: Path) -> None:
    short = ContainerLog(tmp_path / "short.log")
    short.feed(b"".join(b"%d\n" % number for number in range(100)))
    short.close()
    assert last_words(short.path).splitlines() == [str(number) for number in range(20, 100)]

    long = ContainerLog(tmp_path / "long.log")
    long.feed(b"x" * 5000 + b"end\n")
    long.close()
    assert len(last_words(long.path)) == 2048
    assert last_words(long.path).endswith("end\n")
    assert last_words(tmp_path / "none.log") == ""


def test_query_parameters() -> None:
    assert parse_options({"tailLines": "0", "timestamps": "true"}) == LogOptions(tail_lines=0, timestamps=True)
    with pytest.raises(ValueError, match="invalid literal"):
        parse_options({"tailLines": "many"})
