"""A pod's whole way on its node with real processes, when something on the way goes wrong."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from neuron_localcluster import proc
from neuron_localcluster.node import folders
from neuron_localcluster.node.addresses import AddressPool
from neuron_localcluster.node.config import AgentConfig, NodeConfig
from neuron_localcluster.node.credentials import CredentialServer
from neuron_localcluster.node.folders import ContainerFolder
from neuron_localcluster.node.memory import MemoryGuard
from neuron_localcluster.node.pod import PodWorker
from neuron_localcluster.node.sandbox import Shared

IMAGE = "known:1"
FOREVER = "import time; print('up', flush=True); time.sleep(600)"


class RecordingAPI:
    """Takes what a worker writes of its pod."""

    server = "https://127.0.0.1:1"

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.deleted = asyncio.Event()
        self.changed = asyncio.Event()

    async def find(self, _path: str) -> None:
        return None

    async def patch(self, _path: str, body: dict[str, Any], _content_type: str) -> dict[str, Any]:
        self.status = body["status"]
        self.changed.set()
        return body

    async def delete(self, _path: str, _options: dict[str, Any]) -> dict[str, Any]:
        self.deleted.set()
        return {}

    async def until(self, phase: str) -> dict[str, Any]:
        """The status once it has that phase."""
        async with asyncio.timeout(60):
            while self.status.get("phase") != phase:
                self.changed.clear()
                await self.changed.wait()
        return self.status


def pod(*containers: dict[str, Any], policy: str = "Never") -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "ns", "uid": "u-1"}
    return {"metadata": metadata, "spec": {"nodeName": "n", "restartPolicy": policy, "containers": list(containers)}}


def container(code: str, name: str = "main", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "command": [sys.executable, "-c", code], **fields}


@pytest.fixture
def api() -> RecordingAPI:
    return RecordingAPI()


@pytest.fixture
async def shared(tmp_path: Path, api: RecordingAPI) -> AsyncIterator[Shared]:
    config = AgentConfig(tmp_path / "kubeconfig", tmp_path, (), {IMAGE: {"path": "/bin"}}, "127.77.0.0/16")
    yield Shared(config, api, CredentialServer(), AddressPool(config.pod_cidr), MemoryGuard())  # type: ignore[arg-type]


async def run(shared: Shared, manifest: dict[str, Any]) -> tuple[PodWorker, asyncio.Task[None]]:
    worker = PodWorker(shared, NodeConfig("n", {}), manifest)
    return worker, asyncio.create_task(worker.run())


async def delete(worker: PodWorker, task: asyncio.Task[None], api: RecordingAPI) -> None:
    deleted = {**worker.manifest["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    worker.observe({**worker.manifest, "metadata": {**deleted, "deletionGracePeriodSeconds": 0}})
    await asyncio.wait_for(task, 60)
    assert api.deleted.is_set()


async def test_an_environment_that_no_process_can_have_fails_the_container(shared: Shared, api: RecordingAPI) -> None:
    worker, task = await run(shared, pod(container("", env=[{"name": "A", "value": "a\0b"}])))
    status = await api.until("Failed")
    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "null byte" in ended["message"]
    await delete(worker, task, api)


async def test_a_full_disk_does_not_keep_a_container_from_its_end(
    shared: Shared, api: RecordingAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ContainerFolder, "keep", full)
    worker, task = await run(shared, pod(container("")))
    status = await api.until("Succeeded")
    assert status["containerStatuses"][0]["restartCount"] == 0
    await delete(worker, task, api)


async def test_a_start_that_fails_on_a_full_disk_leaves_the_pod_deletable(
    shared: Shared, api: RecordingAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders, "_write", full)
    worker, task = await run(shared, pod(container("")))
    status = await api.until("Failed")
    assert "No space left" in status["containerStatuses"][0]["state"]["terminated"]["message"]
    await delete(worker, task, api)


@pytest.mark.parametrize(("policy", "phase", "disrupted"), [("Never", "Failed", True), ("Always", "Running", False)])
async def test_a_pod_that_ended_with_its_agent_is_told_from_one_that_failed(
    shared: Shared, api: RecordingAPI, policy: str, phase: str, disrupted: bool
) -> None:
    manifest = pod(container(FOREVER), policy=policy)
    _, task = await run(shared, manifest)
    before = await api.until("Running")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    worker, task = await run(shared, {**manifest, "status": before})
    async with asyncio.timeout(60):
        while (await api.until(phase)) == before:
            api.changed.clear()
            await api.changed.wait()
    conditions = {c["type"]: (c["status"], c.get("reason")) for c in api.status["conditions"]}
    assert (conditions.get("DisruptionTarget") == ("True", "TerminationByKubelet")) is disrupted
    await delete(worker, task, api)


async def test_an_unexpected_error_fails_the_pod_and_leaves_no_process(
    shared: Shared, api: RecordingAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []
    identify = folders.identify

    def broken_second(pid: int) -> folders.ProcessIdentity | None:
        pids.append(pid)
        if len(pids) == 2:
            raise RuntimeError("a defect")
        return identify(pid)

    monkeypatch.setattr("neuron_localcluster.node.container.identify", broken_second)
    worker, task = await run(shared, pod(container(FOREVER, "one"), container(FOREVER, "two"), policy="Always"))
    status = await api.until("Failed")
    assert status["reason"] == "NodeAgentError"
    assert "a defect" in status["message"]
    assert not worker.is_ready
    await delete(worker, task, api)
    assert len(pids) == 2
    assert [proc.look_up(pid) for pid in pids] == [None, None]
