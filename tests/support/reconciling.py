"""A Reconciler on a real API server, driven one reconcile at a time. The test is kubelet, hub and compiler."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from neuron_operator.api.conditions import rfc3339
from neuron_operator.api.objects import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    NEURON_MODEL,
    POD,
    SERVICE,
    Key,
    Kind,
    Manifest,
    key_of,
    labels_of,
)
from neuron_operator.kube.gateway import Gateway
from neuron_operator.loop.controller import Outcome
from neuron_operator.loop.snapshot import Snapshot
from neuron_operator.model.reconcile import Reconciler
from neuron_operator.model.relations import CHILD_SELECTOR, INDEXED_LABELS, WATCHED
from neuron_operator.model.resources import names
from neuron_operator.model.revision import Revision, parse_revision
from neuron_operator.model.tools import Artifacts, Hub, ProgressReader
from neuron_operator.settings import PlatformSettings
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.outcome import FailureCode
from neuron_runtime.contract.store import StoreLocation
from support.artifact_store import ArtifactStore
from support.kubectl import Kubectl
from support.models import terminated
from support.recording import CountingGateway, Events, eventually

# More than any node has: the pods are real, and stay where only the test gives them a status.
_UNSCHEDULABLE = {"resources": {"requests": {"cpu": "1000"}}}


class CountingArtifacts:
    """The store, and how often it was asked."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self.asked = 0

    async def find(self, store: StoreLocation, digest: Digest) -> ArtifactManifest | None:
        self.asked += 1
        return await self._artifacts.find(store, digest)


class World:
    """One namespace of a real cluster, and an operator that acts when the test says so."""

    def __init__(
        self,
        namespace: str,
        *,
        kubectl: Kubectl,
        gateway: Gateway,
        artifacts: Artifacts,
        hub: Hub,
        progress: ProgressReader,
        settings: PlatformSettings,
    ) -> None:
        self.namespace = namespace
        self.kubectl = kubectl
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.gateway = gateway
        self.artifacts = CountingArtifacts(artifacts)
        self._hub, self._progress = hub, progress
        self._namespaces = [namespace]
        self.restart(settings)

    def restart(self, settings: PlatformSettings) -> None:
        """End the operator and start another one, which remembers nothing."""
        self.counting = CountingGateway(self.gateway)
        self.events = Events()
        self._snapshot = Snapshot(WATCHED, INDEXED_LABELS)
        self._reconciler = Reconciler(
            snapshot=self._snapshot,
            gateway=self.counting,
            events=self.events,
            settings=settings,
            clock=lambda: self.now,
            artifacts=self.artifacts,
            hub=self._hub,
            progress=self._progress,
        )

    def beside(self, namespace: str) -> World:
        """Another namespace, of the same operator. Its clock is this one's; it does not outlive a restart."""
        self._namespaces.append(namespace)
        beside = copy.copy(self)
        beside.namespace = namespace
        return beside

    def rival(self, settings: PlatformSettings) -> World:
        """Another operator in the same namespace, which knows nothing of this one."""
        rival = copy.copy(self)
        rival.restart(settings)
        return rival

    def later(self, seconds: float) -> None:
        """Let the operator's clock go on."""
        self.now += timedelta(seconds=seconds)

    @property
    def writes(self) -> list[str]:
        """What was written since this was last asked for."""
        writes, self.counting.writes = self.counting.writes, []
        return writes

    async def reconcile(self, name: str = "llama") -> Outcome:
        """One reconcile, with all that the cluster holds now."""
        await self.look()
        return await self.reconcile_now(name)

    async def reconcile_now(self, name: str) -> Outcome:
        """One reconcile with what the snapshot holds."""
        return await self._reconciler(Key(self.namespace, name))

    async def look(self) -> None:
        """Bring the snapshot to what the cluster holds."""
        await self._snapshot.relist(self._list)

    async def _list(self, kind: Kind) -> list[Manifest]:
        selector = "" if kind == NEURON_MODEL else CHILD_SELECTOR
        listed = [await self.gateway.list(kind, namespace=name, label_selector=selector) for name in self._namespaces]
        return [manifest for manifests in listed for manifest in manifests]

    async def settle(self, name: str = "llama") -> Manifest:
        """Reconcile until nothing is written; returns the status."""
        for _ in range(10):
            self.counting.writes.clear()
            await self.reconcile(name)
            if not self.counting.writes:
                return await self.status(name)
        raise AssertionError(f"{name} does not settle: {self.counting.writes}")

    def create_model(self, name: str = "llama", **spec: Any) -> None:
        """Apply a model, with `spec` over one whose pods no node takes."""
        self.kubectl("create", "-f", "-", document=self.manifest(name, **spec))

    async def serve(self, store: ArtifactStore) -> Manifest:
        """Create a model whose artifact is known, and let its pods be ready; returns its Deployment."""
        store.put()
        self.create_model()
        await self.reconcile()
        deployment = await self.one(DEPLOYMENT)
        await self.make_ready(deployment)
        status = await self.settle()
        assert status["phase"] == "Ready", status["message"]
        return deployment

    def manifest(self, name: str = "llama", **spec: Any) -> Manifest:
        return {
            "apiVersion": NEURON_MODEL.api_version,
            "kind": NEURON_MODEL.name,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "model": {"huggingFace": {"repo": "org/llama"}},
                "artifactStore": {"s3": {"bucket": "artifacts"}},
                "compile": _UNSCHEDULABLE,
                "serving": _UNSCHEDULABLE,
            }
            | spec,
        }

    def patch(self, kind: str, name: str, body: Manifest, *arguments: str) -> None:
        """Merge-patch an object, as a person or another component does."""
        self.kubectl(
            "patch",
            kind,
            name,
            "-n",
            self.namespace,
            "--type=merge",
            "--patch-file=/dev/stdin",
            *arguments,
            document=body,
        )

    def edit(self, spec: Manifest, name: str = "llama") -> None:
        """Edit a model's spec."""
        self.patch("nm", name, {"spec": spec})

    async def model(self, name: str = "llama") -> Manifest:
        found = await self.gateway.get(NEURON_MODEL, Key(self.namespace, name))
        assert found is not None
        return found

    async def status(self, name: str = "llama") -> Manifest:
        found: Manifest = (await self.model(name))["status"]
        return found

    async def all(self, kind: Kind) -> list[Manifest]:
        """Our objects of a kind, by name."""
        found = await self.gateway.list(kind, namespace=self.namespace, label_selector=CHILD_SELECTOR)
        return sorted(found, key=lambda manifest: str(manifest["metadata"]["name"]))

    async def one(self, kind: Kind) -> Manifest:
        """The only object of ours of a kind."""
        (found,) = await self.all(kind)
        return found

    async def revision(self) -> Revision:
        """The only revision."""
        return parse_revision(await self.one(CONTROLLER_REVISION))

    async def service(self, name: str = "llama") -> Manifest | None:
        return await self.gateway.get(SERVICE, Key(self.namespace, name))

    async def pods_of(self, parent: Manifest, count: int = 1) -> list[Manifest]:
        """The pods that the real controllers have made for a Job or Deployment."""
        labels = parent["spec"]["template"]["metadata"]["labels"]

        async def look() -> list[Manifest] | None:
            pods = [pod for pod in await self.all(POD) if labels.items() <= labels_of(pod).items()]
            alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
            return alive if len(alive) == count else None

        return await eventually(f"{count} pods of {key_of(parent)}", look)

    def report(
        self, pod: Manifest, container: Manifest, *, phase: str = "Running", address: str = "127.77.250.1"
    ) -> None:
        """Say of a pod what its kubelet would."""
        name = pod["spec"]["containers"][0]["name"]
        reported = {"image": "i", "imageID": "i", "restartCount": 0, "ready": False, **container, "name": name}
        status = {
            "phase": phase,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True" if reported["ready"] else "False"},
            ],
            "containerStatuses": [reported],
        }
        self.patch("pod", pod["metadata"]["name"], {"status": status}, "--subresource=status")

    async def end_job(self, code: FailureCode | None, message: str = "It broke") -> None:
        """Let the container of the only live Job end; returns once the Job controller knows."""
        (job,) = [job for job in await self.all(JOB) if not _has_ended(job)]
        (pod,) = await self.pods_of(job)
        last = terminated(code, message, time=rfc3339(self.now))
        self.report(pod, {"state": {"terminated": last}}, phase="Succeeded" if code is None else "Failed")
        kind = "Complete" if code is None else "Failed"

        async def look() -> bool | None:
            live = await self.gateway.get(JOB, key_of(job))
            assert live is not None
            conditions = live["status"].get("conditions") or []
            return True if any(found["type"] == kind for found in conditions) else None

        await eventually(f"Job is {kind}", look)

    async def make_ready(self, deployment: Manifest, count: int = 1) -> None:
        """Let all pods of a Deployment be ready; returns once the Deployment controller knows."""
        for pod in await self.pods_of(deployment, count):
            self.report(pod, {"ready": True, "state": {"running": {"startedAt": rfc3339(self.now)}}})
        await self.has_ready(deployment, count)

    async def has_ready(self, deployment: Manifest, count: int) -> None:
        async def look() -> bool | None:
            live = await self.gateway.get(DEPLOYMENT, key_of(deployment))
            assert live is not None
            status = live.get("status") or {}
            seen = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
            settled = status.get("readyReplicas", 0) == status.get("replicas", 0) == count
            ready = status.get("readyReplicas", 0) == count
            return True if seen and (settled if count else ready) else None

        await eventually(f"{count} ready pods of {key_of(deployment)}", look)

    async def has_some_ready(self, deployment: Manifest, count: int) -> None:
        async def look() -> bool | None:
            live = await self.gateway.get(DEPLOYMENT, key_of(deployment))
            assert live is not None
            return True if (live.get("status") or {}).get("readyReplicas", 0) == count else None

        await eventually(f"{count} of the pods of {key_of(deployment)} ready", look)

    async def gone(self, kind: Kind, names_: Iterable[str]) -> None:
        """Wait until objects are gone."""
        expected = set(names_)

        async def look() -> bool | None:
            return True if expected.isdisjoint(item["metadata"]["name"] for item in await self.all(kind)) else None

        await eventually(f"{kind.name} {expected} gone", look)


def _has_ended(job: Manifest) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(found["type"] in ("Complete", "Failed") for found in conditions)


def condition(status: Manifest, kind: str) -> tuple[str, str] | None:
    """Status and reason of a condition; None when it is absent."""
    found = next((condition for condition in status["conditions"] if condition["type"] == kind), None)
    return (found["status"], found["reason"]) if found is not None else None


def selected(service: Manifest | None) -> str | None:
    """The revision that a Service selects."""
    return service["spec"]["selector"].get(names.REVISION_LABEL) if service is not None else None
