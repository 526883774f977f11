"""The cluster's life: what stays over `down` and `up`, what the audit log holds, and that nothing is left over."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuron_localcluster import proc
from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.errors import StageFailed
from neuron_localcluster.nodes import CPU_NODE
from neuron_localcluster.processes import OWNER_VARIABLE
from support.audit import audit_events
from support.kubectl import Kubectl
from support.waiting import wait_for

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that these tests may stop; without nodes, since no pod is to run."""
    cluster = Cluster(tmp_path_factory.mktemp("own"), nodes=[])
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down(purge=True)


def test_objects_addresses_and_credentials_survive_down_and_up(own: Cluster) -> None:
    kubectl = Kubectl(ensure_binaries().kubectl, own.kubeconfig)
    kubectl("create", "configmap", "kept", "--from-literal=a=b")
    endpoints = own.aws_endpoint, own.hub_endpoint, own.kubeconfig.read_text()

    own.down()
    assert not any(component.pid for component in own.status())
    assert proc.with_environment(OWNER_VARIABLE, str(own.state_dir)) == []

    own.up()
    assert kubectl.json("get", "configmap", "kept")["data"] == {"a": "b"}
    assert (own.aws_endpoint, own.hub_endpoint, own.kubeconfig.read_text()) == endpoints


def test_a_second_up_leaves_what_runs_alone_and_starts_what_does_not(own: Cluster) -> None:
    before = {component.name: component.pid for component in own.status()}
    scheduler = proc.look_up(before["kube-scheduler"] or 0)
    assert scheduler is not None
    proc.signal_process(scheduler, signal.SIGKILL)

    own.up()

    after = {component.name: component.pid for component in own.status()}
    assert after.pop("kube-scheduler") not in (None, before.pop("kube-scheduler"))
    assert after == before


def test_a_stage_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    broken = Cluster(tmp_path, nodes=[])
    (tmp_path / "etcd").touch()
    try:
        with pytest.raises(StageFailed, match=r"etcd: the process .*; log: .*/logs/etcd\.log\n  \| "):
            broken.up()
    finally:
        broken.down(purge=True)


def test_every_write_is_in_the_audit_log_and_the_reads_of_the_control_plane_are_not(
    cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    kubectl("create", "configmap", "audited", "--from-literal=a=b", f"--namespace={namespace}")
    kubectl("get", "configmap", "audited", f"--namespace={namespace}")
    kubectl("delete", "configmap", "audited", f"--namespace={namespace}")

    def verbs() -> list[str]:
        found = ((event["verb"], event.get("objectRef", {})) for event in audit_events(cluster.audit_log))
        return [verb for verb, of in found if (of.get("namespace"), of.get("name")) == (namespace, "audited")]

    # The log may lag a little behind the answer.
    wait_for("the deletion", lambda: "delete" in verbs() or None, seconds=60)
    assert [verb for verb in verbs() if verb in ("create", "delete")] == ["create", "delete"]
    assert "get" in verbs()
    events = list(audit_events(cluster.audit_log))
    reads = {event["user"].get("username") for event in events if event["verb"] in ("get", "list", "watch")}
    assert reads.isdisjoint({"system:kube-scheduler", "system:kube-controller-manager", "system:apiserver"})


def test_the_neuron_node_is_for_pods_that_ask_for_devices(kubectl: Kubectl) -> None:
    nodes = {node["metadata"]["name"]: node for node in kubectl.json("get", "nodes")["items"]}
    inf2 = nodes["inf2"]
    assert inf2["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "inf2.xlarge"
    assert inf2["status"]["allocatable"]["aws.amazon.com/neuroncore"] == "2"
    assert _lasting_taints(inf2) == ["aws.amazon.com/neuron"]
    assert _lasting_taints(nodes["cpu"]) == []


def _lasting_taints(node: dict[str, Any]) -> list[str]:
    """Without those of the node controller, which each node has for a moment after it has come."""
    keys = [taint["key"] for taint in node["spec"].get("taints", [])]
    return [key for key in keys if not key.startswith("node.kubernetes.io/")]


def test_pods_end_with_the_cluster_even_when_the_node_agent_was_killed(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, images={"shell:1": {"path": "/bin"}}, nodes=[CPU_NODE])
    try:
        cluster.up()
        kubectl = Kubectl(ensure_binaries().kubectl, cluster.kubeconfig)
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=120s")
        kubectl("run", "sleeper", "--image=shell:1", "--command", "--", "sh", "-c", "setsid sleep 600 & exec sleep 600")
        kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/sleeper", "--timeout=120s")
        agent = next(component.pid for component in cluster.status() if component.name == "node-agent")
        process = proc.look_up(agent or 0)
        assert process is not None
        proc.signal_process(process, signal.SIGKILL)
    finally:
        cluster.down(purge=True)
    assert proc.with_environment(OWNER_VARIABLE, str(cluster.state_dir)) == []
