"""The load client against a real server: streams stay as many as asked for, and what fails is in the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serving.load import Load, LoadResult, Question
from serving.load_client import put

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


class _Server:
    """Answers with as many pieces as the request allows tokens, once `release` lets it."""

    def __init__(self, at_once: int) -> None:
        self.bodies: list[dict[str, object]] = []
        self.most = 0
        self._open = 0
        self._gate = asyncio.Barrier(at_once)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line.split(":")[1]) for line in head.splitlines() if line.startswith("Content-Length"))
        body = json.loads(await reader.readexactly(length))
        self.bodies.append(body)
        self._open += 1
        self.most = max(self.most, self._open)
        await self._gate.wait()
        self._open -= 1
        tokens = body["max_tokens"]
        events = [{"choices": [{"delta": {"content": "x"}}]}] * tokens
        usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": tokens}}
        lines = [json.dumps(event) for event in (*events, usage)] + ["[DONE]"]
        writer.write(_HEAD + "".join(f"data: {line}\n\n" for line in lines).encode())
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def _listening(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _load(port: int, streams: int, count: int, timeout: float = 30.0) -> Load:
    return Load(port, "m", streams, tuple(Question(f"q{number}", 1 + number) for number in range(count)), timeout)


async def test_as_many_streams_as_asked_for_share_the_questions() -> None:
    server = _Server(at_once=3)
    async with _listening(server.answer) as port:
        result = await put(_load(port, streams=3, count=9))
    assert server.most == 3
    assert [answer.tokens for answer in result.answers] == list(range(1, 10))
    assert [len(answer.texts) for answer in result.answers] == list(range(1, 10))
    assert all(answer.error is None and answer.sent < answer.ended for answer in result.answers)
    assert {body["temperature"] for body in server.bodies} == {0}
    assert LoadResult.parse(json.loads(json.dumps(result.document()))) == result


async def test_questions_without_an_answer_in_time_are_errors() -> None:
    hung_up = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    async with _listening(say_nothing) as port:
        result = await put(_load(port, streams=1, count=2, timeout=0.2))
        await hung_up.wait()
    assert [answer.error for answer in result.answers] == ["no response; 0 bytes came", "it was not asked in time"]


async def test_a_server_that_is_not_there() -> None:
    async with _listening(lambda _reader, _writer: None) as port:
        pass
    result = await put(_load(port, streams=1, count=1))
    assert "onnect" in (result.answers[0].error or "")
