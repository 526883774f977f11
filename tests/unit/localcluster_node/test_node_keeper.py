"""When a node is registered, and when again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from neuron_localcluster.node import clock, nodes
from neuron_localcluster.node.config import NodeConfig
from neuron_localcluster.node.nodes import NodeKeeper


class RecordingAPI:
    """Has the node, and puts every path that is patched into a queue."""

    def __init__(self) -> None:
        self.patched: asyncio.Queue[str] = asyncio.Queue()

    async def find(self, _path: str) -> dict[str, Any]:
        return {"metadata": {"uid": "u"}, "spec": {}, "status": {}}

    async def patch(self, path: str, _body: dict[str, Any], _content_type: str) -> dict[str, Any]:
        self.patched.put_nowait(path.rpartition("/")[2] if "/leases/" not in path else "lease")
        return {}

    async def next(self, count: int) -> list[str]:
        return [await asyncio.wait_for(self.patched.get(), 60) for _ in range(count)]


async def test_a_node_whose_lease_ran_out_is_registered_anew_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: moment)
    monkeypatch.setattr(nodes, "_RENEW_SECONDS", 0.01)
    api = RecordingAPI()
    task = asyncio.create_task(NodeKeeper(api, NodeConfig("cpu", {}), 1).run())  # type: ignore[arg-type]
    try:
        assert await api.next(5) == ["cpu", "status", "lease", "lease", "lease"]
        # As if the machine had slept.
        moment += timedelta(seconds=60)
        left = [kind for kind in await api.next(5) if kind != "lease"]
        assert left == ["cpu", "status"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
