"""The operator as users install it: the chart, by the real helm, on the run's cluster; and what it does, read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import yaml

from demo.settings import CHART, OPERATOR_NAMESPACE, RELEASE, chart_values
from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.standins import aws
from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_runtime.contract.request import Engine
from neuron_runtime.engines import open_engine
from support.audit import audit_events
from support.definition import remove_definition
from support.kubectl import Kubectl
from support.waiting import wait_for

BUCKET = "e2e-artifacts"
# A cold compile on a machine that has other things to do.
_WAIT = 600.0
_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}"


class InstalledOperator:
    """The running operator, and models in a namespace of a test."""

    def __init__(self, cluster: Cluster, kubectl: Kubectl, since: datetime) -> None:
        self.cluster = cluster
        self.kubectl = kubectl
        self.s3 = aws.s3_client(cluster.aws_endpoint)
        # An earlier one may have outlived its roles for a moment.
        self._since = since

    def add_tiny_model(self, name: str, seed: int) -> str:
        """Put a random two-layer Llama on the hub; returns its repository id."""
        folder = self.cluster.hub_root / "tests" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            tiny_llama(folder, seed)
        return f"tests/{name}"

    def manifest(self, namespace: str, name: str, repo: str, **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "neuron-operator.dev/v1alpha1",
            "kind": "NeuronModel",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "model": {"huggingFace": {"repo": repo}},
                "shapes": {"maxModelLength": 128},
                "hardware": {"target": "CPU"},
                "artifactStore": {"s3": {"bucket": BUCKET}},
                # Several models share a small machine; what they ask for must not decide whether they run.
                "compile": {"resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}},
                "serving": {"resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}},
            }
            | spec,
        }

    def create(self, namespace: str, name: str, repo: str, **spec: Any) -> None:
        self.kubectl("create", "-f", "-", document=self.manifest(namespace, name, repo, **spec))

    def model(self, namespace: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.kubectl.json("get", "nm", name, "-n", namespace)
        return found

    def status(self, namespace: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.model(namespace, name).get("status") or {}
        return found

    def condition(self, namespace: str, name: str, kind: str) -> dict[str, Any]:
        conditions = self.status(namespace, name).get("conditions") or []
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def wait_for_condition(
        self, namespace: str, name: str, kind: str, is_met: Callable[[dict[str, Any]], bool], seconds: float = _WAIT
    ) -> dict[str, Any]:
        """Wait until a condition is as wanted; fails with the whole status when it never is."""

        def look() -> dict[str, Any] | None:
            condition = self.condition(namespace, name, kind)
            return condition if condition and is_met(condition) else None

        def describe() -> str:
            return json.dumps(self.status(namespace, name), indent=1)

        return wait_for(f"{name}: {kind}", look, seconds=seconds, describe=describe)

    def wait_until_ready(self, namespace: str, name: str, seconds: float = _WAIT) -> None:
        self.wait_for_condition(namespace, name, "Ready", lambda found: found["status"] == "True", seconds)

    def endpoint(self, namespace: str, name: str) -> str:
        """Base URL of the OpenAI API, reachable from this machine."""
        service = self.kubectl.json("get", "service", name, "-n", namespace)
        return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}/v1"

    def process(self) -> psutil.Process:
        """The operator's own process in its pod."""
        for process in psutil.process_iter(["cmdline", "environ"]):
            command, environment = process.info["cmdline"] or [], process.info["environ"] or {}
            if command[-2:] == ["-m", "neuron_operator"] and self._is_ours(environment):
                return process
        raise AssertionError("no operator runs")

    def kill(self) -> None:
        """SIGKILL, as when a node's memory is out."""
        os.kill(self.process().pid, signal.SIGKILL)

    def writes(self, namespace: str | None = None) -> Counter[tuple[str, str]]:
        """What the operator has written, by verb and resource, from the API server's audit log."""
        found: Counter[tuple[str, str]] = Counter()
        for event in self._audit():
            reference = event.get("objectRef") or {}
            if namespace is not None and reference.get("namespace") != namespace:
                continue
            resource = "/".join(filter(None, (reference.get("resource"), reference.get("subresource"))))
            found[event["verb"], resource] += 1
        return found

    def refusals(self) -> list[str]:
        """Requests of this operator that its roles did not allow. A namespace that ends refuses for another reason."""
        return [
            f"{event['verb']} {event['requestURI']}"
            for event in self._audit(writes_only=False)
            if (event.get("annotations") or {}).get("authorization.k8s.io/decision") == "forbid"
            and datetime.fromisoformat(event["requestReceivedTimestamp"]) >= self._since
        ]

    def seconds_to_condition(self, namespace: str, name: str, kind: str) -> float:
        """From the request that created a model to the answer of the operator's first write that holds a condition."""
        created: datetime | None = None
        for event in audit_events(self.cluster.audit_log):
            reference = event.get("objectRef") or {}
            if [reference.get(key) for key in ("resource", "namespace", "name")] != ["neuronmodels", namespace, name]:
                continue
            if event["verb"] == "create":
                created = datetime.fromisoformat(event["requestReceivedTimestamp"])
            conditions = (event.get("requestObject") or {}).get("status", {}).get("conditions", [])
            if created and any(c["type"] == kind and c["status"] == "True" for c in conditions):
                return (datetime.fromisoformat(event["stageTimestamp"]) - created).total_seconds()
        raise AssertionError(f"the audit log has no write of {kind}=True for {namespace}/{name}")

    def _audit(self, *, writes_only: bool = True) -> Iterator[dict[str, Any]]:
        for event in audit_events(self.cluster.audit_log):
            if event["user"].get("username") != _USER or event["stage"] != "ResponseComplete":
                continue
            if writes_only and event["verb"] in ("get", "list", "watch"):
                continue
            yield event

    def _is_ours(self, environment: dict[str, str]) -> bool:
        return environment.get("NEURON_LOCALCLUSTER_STATE") == str(self.cluster.state_dir)


@contextmanager
def installed_operator(cluster: Cluster, kubectl: Kubectl, folder: Path) -> Iterator[InstalledOperator]:
    """Install the chart and wait for the operator; take all of it away again at the end."""
    aws.ensure_bucket(cluster.aws_endpoint, BUCKET)
    toolchain = open_engine(Engine.CPU).toolchain()
    values = chart_values(
        hub=cluster.hub_endpoint,
        aws=cluster.aws_endpoint,
        region=aws.REGION,
        torch=toolchain["torch"],
        cxx=toolchain["cxx"],
    )
    # Other tests on this cluster bring the CRD themselves.
    values["crds"] = {"keep": False}
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    remove_definition(kubectl)
    where = ("--namespace", OPERATOR_NAMESPACE)
    since = datetime.now(UTC)
    _helm(cluster, "install", RELEASE, str(CHART), *where, "--create-namespace", "--values", str(file))
    try:
        kubectl("rollout", "status", f"deployment/{RELEASE}", *where, "--timeout=170s")
        yield InstalledOperator(cluster, kubectl, since)
    finally:
        kubectl.run("delete", "nm", "--all", "--all-namespaces", "--timeout=170s")
        _helm(cluster, "uninstall", RELEASE, *where, "--wait")


def _helm(cluster: Cluster, *arguments: str) -> None:
    result = subprocess.run(
        [str(ensure_binaries().helm), *arguments],
        env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert result.returncode == 0, f"helm {' '.join(arguments)}: {result.stderr}"
