"""The agent: everything wired together, from the first list to the end of the last process."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Coroutine
from typing import Any

from neuron_localcluster.node import kubeconfig
from neuron_localcluster.node.addresses import AddressPool
from neuron_localcluster.node.api import APIClient
from neuron_localcluster.node.config import AgentConfig
from neuron_localcluster.node.credentials import CredentialServer
from neuron_localcluster.node.log_server import LogServer
from neuron_localcluster.node.memory import MemoryGuard
from neuron_localcluster.node.nodes import NodeKeeper
from neuron_localcluster.node.pods import Pods
from neuron_localcluster.node.recovery import end_stale_containers
from neuron_localcluster.node.reflector import Reflector
from neuron_localcluster.node.sandbox import Shared
from neuron_localcluster.node.services import Services

_log = logging.getLogger(__name__)

READY_FILE = "agent.ready"
_END_GRACE_SECONDS = 8.0


async def run(config: AgentConfig, stop: asyncio.Event) -> None:
    """Run all nodes until `stop` is set, then end all pods' processes. A part that fails ends the agent."""
    config.state_dir.mkdir(parents=True, exist_ok=True)
    ready_file = config.state_dir / READY_FILE
    ready_file.unlink(missing_ok=True)
    end_stale_containers(config.state_dir)
    async with APIClient(kubeconfig.load(config.kubeconfig)) as api:
        shared = Shared(config, api, CredentialServer(), AddressPool(config.pod_cidr), MemoryGuard())
        pods = Pods(shared)
        services = Services(pods)
        logs = LogServer(pods, config.state_dir)
        await logs.start()
        await shared.credentials.start()
        keepers = [NodeKeeper(api, node, logs.port) for node in config.nodes]
        watches = [
            Reflector(
                api,
                "/api/v1/pods",
                functools.partial(pods.observe, node),
                {"fieldSelector": f"spec.nodeName={node.name}"},
            )
            for node in config.nodes
        ]
        parts: list[Coroutine[Any, Any, None]] = [
            Reflector(api, "/api/v1/services", services.observe).run(),
            services.run(),
            shared.memory.run(),
            *(watch.run() for watch in watches),
            *(keeper.run() for keeper in keepers),
        ]
        tasks = [asyncio.create_task(part) for part in parts]
        announcement = asyncio.create_task(_announce(keepers, watches, pods, config))
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready_file.unlink(missing_ok=True)
            for task in (announcement, stopping, *tasks):
                task.cancel()
            await asyncio.gather(announcement, stopping, *tasks, return_exceptions=True)
            await pods.abandon(_END_GRACE_SECONDS)
            await logs.stop()
            await shared.credentials.stop()
        for task in done:
            task.result() if not task.cancelled() else None


async def _announce(keepers: list[NodeKeeper], watches: list[Reflector], pods: Pods, config: AgentConfig) -> None:
    for keeper in keepers:
        await keeper.ready.wait()
    for watch in watches:
        await watch.synced.wait()
    pods.drop_unknown_folders()
    (config.state_dir / READY_FILE).touch()
    _log.info("nodes ready: %s", ", ".join(node.name for node in config.nodes))
