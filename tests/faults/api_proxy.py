"""A proxy before the real API server, which breaks what a schedule says, and keeps account of what passes.

It confines who comes through it to one namespace: what is listed or watched of all namespaces is of that one. So many
lives run beside each other on one API server without knowing of each other.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from faults.connection import Answer, cut, forwarded, listening, reset
from faults.hasty import TIMEOUT_SECONDS
from faults.schedule import Schedule
from faults.watch import EVENT_FAULTS, WATCH_FAULTS, Stream
from neuron_localcluster.node.kubeconfig import Access

# Longer than operators under test wait for an answer.
SLOW_SECONDS = TIMEOUT_SECONDS + 0.5

READ_FAULTS = ("429", "500", "503", "reset", "slow", "cut")
PAGE_FAULTS = ("410", *READ_FAULTS)
WRITE_FAULTS = (
    "409",
    "429",
    "500",
    "503",
    "reset before",
    "reset after",
    "slow before",
    "slow after",
    "504 after",
    "cut after",
)

_COLLECTION = re.compile(r"/(api/v1|apis/[^/]+/[^/]+)/([a-z]+)")
_OBJECT = re.compile(r"/(?:api/v1|apis/[^/]+/[^/]+)/namespaces/([^/]+)/([a-z]+)(?:/([^/]+))?(?:/(status|scale))?")
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# What is not part of a model's life.
_ASIDE = frozenset({"leases", "events"})
_CLUSTER_WIDE = frozenset({"customresourcedefinitions", "namespaces", "nodes"})

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Write:
    """A write that was asked for; `status` is the API server's answer, and 0 before there is one."""

    by: str
    verb: str
    resource: str
    name: str
    body: Manifest
    status: int
    answer: Manifest

    @property
    def took_effect(self) -> bool:
        return self.status < 300

    def __str__(self) -> str:
        return f"{self.by}: {self.verb} {self.resource} {self.name}: {self.status}"


@dataclass
class Door:
    """One operator process's way to the API server. A dead one lets nothing through any more."""

    name: str
    kill: Callable[[], None]
    port: int = 0
    dead: bool = False
    doomed: bool = False
    """Dies with its next request."""
    passable: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """As the process dies, so do the requests that it has sent and that have not arrived."""
        self.dead = True
        self.kill()


@dataclass
class Crash:
    """Kill the operator once the `after`-th write of a life took effect; it has seen the `answer` or not."""

    after: int
    answered: bool
    done: bool = False


class ApiProxy:
    """The API server as the operators of one life see it."""

    def __init__(
        self,
        access: Access,
        session: aiohttp.ClientSession,
        namespace: str,
        schedule: Schedule,
        *,
        before_write: Callable[[Write], Awaitable[None]],
        crash: Crash | None = None,
    ) -> None:
        self._access = access
        self._session = session
        self._namespace = namespace
        self._schedule = schedule
        self._before_write = before_write
        self._crash = crash
        self.writes: list[Write] = []
        """Of the model's life: no leases, no events."""
        self.lists: Counter[str] = Counter()
        """Lists by the operator itself (not by kopf), by resource."""
        self._told: defaultdict[str, list[bytes]] = defaultdict(list)

    @property
    def effective(self) -> list[Write]:
        return [write for write in self.writes if write.took_effect]

    @asynccontextmanager
    async def door(self, name: str, kill: Callable[[], None]) -> AsyncIterator[Door]:
        """A way in for one operator process."""
        door = Door(name, kill)
        door.passable.set()

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._handle(door, request)

        async with listening(handle) as door.port:
            try:
                yield door
            finally:
                door.dead = True
                door.passable.set()

    async def _handle(self, door: Door, request: web.BaseRequest) -> web.StreamResponse:
        await door.passable.wait()
        if door.doomed:
            door.end()
        if door.dead:
            return reset(request)
        path = self._confined(request)
        if request.query.get("watch") == "true":
            return await self._watch(door, request, path)
        if request.method == "GET":
            return await self._read(door, request, path)
        return await self._write(door, request, path)

    def _confined(self, request: web.BaseRequest) -> str:
        match = _COLLECTION.fullmatch(request.path)
        if match is None or match[2] in _CLUSTER_WIDE:
            return request.path
        return f"/{match[1]}/namespaces/{self._namespace}/{match[2]}"

    async def _read(self, door: Door, request: web.BaseRequest, path: str) -> web.StreamResponse:
        match = _OBJECT.fullmatch(path)
        resource = match[2] if match else "discovery"
        verb = "list" if match and match[3] is None else "get"
        fault = self._schedule.draw(f"{verb} {resource}", PAGE_FAULTS if "continue" in request.query else READ_FAULTS)
        if fault in ("410", "429", "500", "503"):
            return _refusal(int(fault))
        if fault == "reset":
            return reset(request)
        answer = await self._forward(door, request, path, b"")
        if answer is None:
            return reset(request)
        if verb == "list" and request.headers.get("User-Agent") == "neuron-operator" and fault is None:
            self.lists[resource] += 1
        if fault == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        return await cut(request, answer) if fault == "cut" else answer.response()

    async def _write(self, door: Door, request: web.BaseRequest, path: str) -> web.StreamResponse:
        match = _OBJECT.fullmatch(path)
        assert match is not None, f"{request.method} {path}"
        verb, body = _VERBS[request.method], await request.read()
        resource = f"{match[2]}/{match[4]}" if match[4] else match[2]
        fault = self._schedule.draw(f"{verb} {resource}", WRITE_FAULTS)
        if fault in ("409", "429", "500", "503"):
            return _refusal(int(fault))
        if fault == "reset before":
            return reset(request)
        if fault == "slow before":
            await asyncio.sleep(SLOW_SECONDS)
        document = json.loads(body) if body else {}
        counts = match[2] not in _ASIDE
        name = match[3] or (document.get("metadata") or {}).get("name", "")
        if counts:
            await self._before_write(Write(door.name, verb, resource, name, document, 0, {}))
        answer = await self._forward(door, request, path, body)
        if answer is None:
            return reset(request)
        if counts:
            self.writes.append(Write(door.name, verb, resource, name, document, answer.status, _parsed(answer.body)))
            self._crash_if_due(door)
        if fault == "reset after" or door.dead:
            return reset(request)
        if fault == "slow after":
            await asyncio.sleep(SLOW_SECONDS)
        if fault == "504 after":
            return _refusal(504)
        return await cut(request, answer) if fault == "cut after" else answer.response()

    def _crash_if_due(self, door: Door) -> None:
        crash = self._crash
        if crash is None or crash.done or len(self.effective) < crash.after:
            return
        crash.done = True
        if crash.answered:
            door.doomed = True
        else:
            door.end()

    async def _forward(self, door: Door, request: web.BaseRequest, path: str, body: bytes) -> Answer | None:
        """What the API server answers; None for a request of somebody who died before it arrived."""
        if door.dead:
            return None
        headers = forwarded(request) | {"Authorization": f"Bearer {self._access.token}", "Accept-Encoding": "identity"}
        headers.pop("Host", None)
        url = f"{self._access.server}{path}"
        async with self._session.request(
            request.method, url, params=request.query, data=body or None, headers=headers
        ) as response:
            return Answer(response.status, forwarded(dict(response.headers)), await response.read())

    async def _watch(self, door: Door, request: web.BaseRequest, path: str) -> web.StreamResponse:
        match = _OBJECT.fullmatch(path)
        resource = match[2] if match else path.rpartition("/")[2]
        fault = self._schedule.draw(f"watch {resource}", WATCH_FAULTS)
        if fault in ("410", "429", "503"):
            return _refusal(int(fault))
        if fault == "reset":
            return reset(request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        if fault is not None:
            await response.prepare(request)
            code = int(fault.removeprefix("told "))
            await response.write(json.dumps({"type": "ERROR", "object": _status(code)}).encode() + b"\n")
            return response
        headers = {"Authorization": f"Bearer {self._access.token}", "Accept-Encoding": "identity"}
        url = f"{self._access.server}{path}"
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(url, params=request.query, headers=headers, timeout=timeout) as upstream:
            if upstream.status >= 400:
                return Answer(upstream.status, forwarded(dict(upstream.headers)), await upstream.read()).response()
            await response.prepare(request)
            stream = Stream(lambda: self._schedule.draw(f"event {resource}", EVENT_FAULTS), self._told[resource])
            async for data in stream.of(upstream.content):
                await door.passable.wait()
                if door.dead or request.transport is None or request.transport.is_closing():
                    break
                await response.write(data)
            if stream.cut and request.transport is not None:
                request.transport.close()
        return response


def _refusal(code: int) -> web.Response:
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response(_status(code), status=code, headers=headers)


_REASONS = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError", 504: "Timeout"}


def _status(code: int) -> Manifest:
    reason = _REASONS.get(code, "ServiceUnavailable")
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"injected: {reason}",
        "reason": reason,
        "code": code,
    }


def _parsed(body: bytes) -> Manifest:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
