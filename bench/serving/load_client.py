"""The process that puts load on a server: `python -m serving.load_client` reads a Load and writes a LoadResult.

It speaks HTTP on bare sockets: the libraries' streaming costs many times what an event costs the server.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from time import perf_counter, process_time

from serving.event_stream import BadResponse, Piece, read_answer
from serving.load import Answer, Load, LoadResult, Question, body

_ADDRESS = "127.0.0.1"


class _Recorder(asyncio.Protocol):
    """Notes what comes, and when, until the server closes the connection."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.pieces.append((perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def put(load: Load) -> LoadResult:
    """Ask all questions; what goes wrong with one of them is in its answer."""
    loop = asyncio.get_running_loop()
    waiting = list(enumerate(load.questions))[::-1]
    recorded: dict[int, tuple[float, list[Piece]]] = {}

    async def stream() -> None:
        while waiting:
            index, question = waiting.pop()
            transport, recorder = await loop.create_connection(_Recorder, _ADDRESS, load.port)
            try:
                recorded[index] = (perf_counter(), recorder.pieces)
                transport.write(_request(load.model, question))
                await recorder.closed
            finally:
                transport.close()

    started, busy = perf_counter(), process_time()
    streams = [asyncio.ensure_future(stream()) for _ in range(load.streams)]
    _, late = await asyncio.wait(streams, timeout=load.timeout_seconds)
    wall, busy = perf_counter() - started, process_time() - busy
    for task in late:
        task.cancel()
    outcomes = await asyncio.gather(*streams, return_exceptions=True)
    failures = [str(outcome) for outcome in outcomes if isinstance(outcome, OSError)]
    unasked = failures[0] if failures else "it was not asked in time"
    answers = (_answer(*recorded[i]) if i in recorded else _failed(0.0, unasked) for i in range(len(load.questions)))
    return LoadResult(tuple(answers), busy / wall)


def _request(model: str, question: Question) -> bytes:
    content = json.dumps(body(model, question)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1",
        "Host: bench",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + content


def _answer(sent: float, pieces: list[Piece]) -> Answer:
    try:
        return read_answer(sent, pieces)
    except BadResponse as error:
        return _failed(sent, str(error))


def _failed(sent: float, error: str) -> Answer:
    return Answer(sent, (), sent, 0, 0, error)


def main() -> None:
    """Run as the process."""
    load = Load.parse(json.load(sys.stdin))
    # A collection would show as a pause of the server.
    gc.disable()
    json.dump(asyncio.run(put(load)).document(), sys.stdout)


if __name__ == "__main__":
    main()
