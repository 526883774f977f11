"""Pods of the real control plane as the node agent runs them: real Deployments, Jobs, Services and programs."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuron_localcluster import proc
from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.node.credentials import access_keys
from neuron_localcluster.node.process import CONTAINER_VARIABLE
from neuron_operator import __version__
from support.kubectl import Kubectl
from support.local_cluster import images
from support.waiting import wait_for

pytestmark = pytest.mark.cluster

IMAGE = f"neuron-operator.dev/cpu:{__version__}"

_WAIT = 120

# Answers every path with what the pod sees; /broken makes liveness fail.
SERVER = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    broken = False
    def do_GET(self):
        Handler.broken |= self.path == "/broken"
        content = json.dumps({"environment": dict(os.environ), "arguments": sys.argv}).encode()
        self.send_response(500 if Handler.broken else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *arguments):
        pass
print("listening", flush=True)
http.server.ThreadingHTTPServer((os.environ["BIND_ADDRESS"], 8080), Handler).serve_forever()
"""


def container(code: str, *arguments: str, **fields: Any) -> dict[str, Any]:
    return {"name": "main", "image": IMAGE, "command": ["python", "-c", code], "args": list(arguments), **fields}


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    defaults = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {**defaults, "containers": list(containers), **spec},
    }


class Pods:
    """The test's namespace: create, wait, look."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = f"--namespace={namespace}"

    def create(self, manifest: dict[str, Any]) -> None:
        self._kubectl("create", "-f", "-", self._namespace, document=manifest)

    def wait(self, name: str, path: str, value: str = "", kind: str = "pod") -> Any:
        """The object as it was when the field first had the value, or any value when none is given."""
        condition = f"--for=jsonpath={path}={value}".removesuffix("=")
        return self._kubectl.json("wait", f"{kind}/{name}", condition, f"--timeout={_WAIT}s", self._namespace)

    def delete(self, name: str, *options: str) -> None:
        self._kubectl("delete", "pod", name, self._namespace, *options)

    def logs(self, name: str, *options: str) -> str:
        return self._kubectl("logs", name, self._namespace, *options)

    def get(self, kind: str, name: str) -> Any:
        return self._kubectl.json("get", kind, name, self._namespace)

    def ended(self, name: str) -> Any:
        """How the pod's container has ended."""
        ended = self.wait(name, "{.status.containerStatuses[0].state.terminated.exitCode}")
        return ended["status"]["containerStatuses"][0]["state"]["terminated"]

    def process(self, name: str) -> proc.Process:
        """The process of the pod's container."""
        container_id = self.get("pod", name)["status"]["containerStatuses"][0]["containerID"]
        (process,) = _processes(container_id.removeprefix("process://"))
        return process


@pytest.fixture
def pods(kubectl: Kubectl, namespace: str) -> Pods:
    return Pods(kubectl, namespace)


READY = '{.status.conditions[?(@.type=="Ready")].status}'
PHASE = "{.status.phase}"
WAITING = "{.status.containerStatuses[0].state.waiting.reason}"


def get(address: str, path: str = "/") -> Any:
    with urllib.request.urlopen(f"http://{address}:8080{path}", timeout=30) as answer:
        return json.load(answer)


def test_a_deployment_behind_a_service_sees_all_that_its_manifest_gives_it(pods: Pods) -> None:
    pods.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"key": "one"}})
    pods.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"key": "hush"}})
    work = {"name": "work", "mountPath": "/var/work"}
    prepare = "open('/var/work/made', 'w').write('by the init container')"
    server = container(
        SERVER,
        "/var/work/made",
        "/var/workshop",
        "$(NODE)-$(UNKNOWN)-$$(NODE)",
        env=[
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "key"}}},
            {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}},
            {"name": "SETTINGS", "value": "/etc/settings/key"},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        ],
        ports=[{"name": "http", "containerPort": 8080}],
        resources={"limits": {"memory": "200Mi"}},
        # The state folder lies below /tmp itself: no path may be replaced twice.
        volumeMounts=[
            work,
            {"name": "settings", "mountPath": "/etc/settings"},
            {"name": "work", "mountPath": "/tmp"},  # noqa: S108
        ],
        readinessProbe={"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10},
    )
    template = pod("web", server)["spec"] | {
        "restartPolicy": "Always",
        "initContainers": [container(prepare, volumeMounts=[work]) | {"name": "prepare"}],
        "volumes": [{"name": "work", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings"}}],
    }
    labels = {"app": "web"}
    pods.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": template},
            },
        }
    )
    service = {"selector": labels, "ports": [{"port": 8080, "targetPort": "http"}]}
    pods.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service})
    pods.wait("web", "{.status.availableReplicas}", "2", kind="deployment")

    address = pods.get("service", "web")["spec"]["clusterIP"]
    answers = [get(address) for _ in range(4)]

    assert len({answer["environment"]["HOSTNAME"] for answer in answers}) == 2
    environment, (_, made, workshop, expanded) = answers[0]["environment"], answers[0]["arguments"]
    assert Path(made).read_text() == "by the init container"
    assert workshop == "/var/workshop"
    assert expanded == "cpu-$(UNKNOWN)-$(NODE)"
    assert Path(environment["SETTINGS"]).read_text() == "one"
    assert (environment["APP"], environment["FROM_MAP"], environment["FROM_SECRET"]) == ("web", "one", "hush")
    assert environment["IP"] == environment["BIND_ADDRESS"]
    assert environment["MEMORY"] == "200"
    # Nothing of the agent's own environment: only what the image, the manifest and the platform set.
    assert "VIRTUAL_ENV" not in environment and "PYTHONPATH" not in environment


def test_a_pod_is_who_its_service_account_says(pods: Pods, namespace: str) -> None:
    who = """
import json, os, ssl, urllib.request, boto3, yaml
config = yaml.safe_load(open(os.environ["KUBECONFIG"]))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
context = ssl.create_default_context(cafile=cluster["certificate-authority"])
review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
request = urllib.request.Request(
    cluster["server"] + "/apis/authentication.k8s.io/v1/selfsubjectreviews", json.dumps(review).encode(),
    {"Authorization": "Bearer " + open(user["tokenFile"]).read(), "Content-Type": "application/json"})
name = json.load(urllib.request.urlopen(request, context=context))["status"]["userInfo"]["username"]
credentials = boto3.Session().get_credentials()
keys = credentials.get_frozen_credentials()
print(json.dumps([name, credentials.method, keys.access_key, keys.secret_key]))
"""
    pods.create(pod("who", container(who)))
    pods.wait("who", PHASE, "Succeeded")

    keys = access_keys(namespace, "default")
    user = f"system:serviceaccount:{namespace}:default"
    assert json.loads(pods.logs("who")) == [user, "container-role", keys.key_id, keys.secret]


def test_the_end_of_a_job_tells_code_message_and_log(pods: Pods) -> None:
    told = "open('/why', 'w').write('disk full'); raise SystemExit(3)"
    template = {"spec": pod("", container(told, terminationMessagePath="/why"))["spec"]}
    job = {"backoffLimit": 0, "template": template}
    pods.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "told"}, "spec": job})
    pods.create(
        pod("untold", container("raise ValueError('broken')", terminationMessagePolicy="FallbackToLogsOnError"))
    )
    pods.wait("told", "{.status.failed}", "1", kind="job")
    status = pods.get("pod", "--selector=job-name=told")["items"][0]["status"]

    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert (status["phase"], ended["exitCode"], ended["reason"], ended["message"]) == (
        "Failed",
        3,
        "Error",
        "disk full",
    )
    assert pods.ended("untold")["message"].endswith("ValueError: broken\n")


def test_what_cannot_start_says_why_and_starts_once_it_can(pods: Pods) -> None:
    pods.create(pod("unknown", container("") | {"image": "nowhere/none:1"}))
    reference = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "key"}}}]
    pods.create(pod("early", container("import os; print(os.environ['A'])", env=reference)))
    pods.create(pod("absent", {"name": "main", "image": IMAGE, "command": ["no-such-program"]}))

    unknown = pods.wait("unknown", WAITING, "ImagePullBackOff")["status"]["containerStatuses"][0]["state"]["waiting"]
    assert 'failed to pull image "nowhere/none:1"' in unknown["message"]
    early = pods.wait("early", WAITING, "CreateContainerConfigError")["status"]["containerStatuses"][0]["state"]
    assert early["waiting"]["message"] == 'configmap "late" not found'
    ended = pods.ended("absent")
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert ended["message"] == 'exec: "no-such-program": executable file not found in $PATH'

    pods.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"key": "here"}})
    pods.wait("early", PHASE, "Succeeded")
    assert pods.logs("early") == "here\n"


def test_a_crashing_container_is_restarted_at_once_and_then_ever_later(pods: Pods) -> None:
    # The count of runs lies in an emptyDir, which outlives the container. The second run waits to be looked at.
    code = """
import signal
from pathlib import Path
runs = Path("/runs/count")
count = int(runs.read_text()) if runs.exists() else 0
runs.write_text(str(count + 1))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("run", count, flush=True)
if count:
    signal.sigwait([signal.SIGUSR1])
raise SystemExit(1)
"""
    crashing = container(code, volumeMounts=[{"name": "runs", "mountPath": "/runs"}])
    volumes = [{"name": "runs", "emptyDir": {}}]
    pods.create(pod("crashing", crashing, restartPolicy="Always", volumes=volumes))
    pods.wait("crashing", "{.status.containerStatuses[0].restartCount}", "1")
    assert pods.logs("crashing", "--follow", "--limit-bytes=6") == "run 1\n"
    assert pods.logs("crashing", "--previous") == "run 0\n"
    proc.signal_process(pods.process("crashing"), signal.SIGUSR1)

    status = pods.wait("crashing", WAITING, "CrashLoopBackOff")["status"]
    state = status["containerStatuses"][0]
    assert (status["phase"], state["restartCount"], state["lastState"]["terminated"]["exitCode"]) == ("Running", 1, 1)
    # Each back-off doubles the last one: had the first restart not been at once, this one would be 20 s.
    assert state["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=main")


def test_a_container_over_its_memory_limit_is_killed_as_such(pods: Pods) -> None:
    greedy = container("import time; taken = b'x' * 2**28; time.sleep(600)", resources={"limits": {"memory": "128Mi"}})
    pods.create(pod("greedy", greedy))

    ended = pods.ended("greedy")
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_a_failing_liveness_probe_restarts_and_a_service_refuses_meanwhile(pods: Pods) -> None:
    # A server that is only slow to answer must not look like one that is broken.
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 3}
    server = container(SERVER, startupProbe={**probe, "failureThreshold": 100}, livenessProbe=probe)
    pods.create(pod("shaky", server, restartPolicy="Always"))
    service = {"selector": {"app": "shaky"}, "ports": [{"port": 8080}]}
    pods.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shaky"}, "spec": service})
    address = pods.get("service", "shaky")["spec"]["clusterIP"]
    pods.wait("shaky", READY, "True")
    assert get(address)["environment"]["HOSTNAME"] == "shaky"

    with pytest.raises(urllib.error.HTTPError):
        get(address, "/broken")
    pods.wait("shaky", "{.status.containerStatuses[0].restartCount}", "1")
    pods.wait("shaky", READY, "True")
    assert get(address)["environment"]["HOSTNAME"] == "shaky"

    pods.delete("shaky")
    with pytest.raises(ConnectionResetError), socket.create_connection((address, 8080), timeout=30) as connection:
        connection.recv(1)


def test_deletion_gives_grace_and_leaves_no_process(pods: Pods) -> None:
    polite = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(600)"
    )
    stubborn = (
        "import signal, subprocess, time; signal.signal(15, signal.SIG_IGN);"
        "subprocess.Popen(['sleep', '600'], start_new_session=True); print('up', flush=True); time.sleep(600)"
    )
    for name, code in (("polite", polite), ("stubborn", stubborn), ("forced", polite)):
        pods.create(pod(name, container(code), terminationGracePeriodSeconds=1))
    marks = {}
    for name in ("polite", "stubborn", "forced"):
        running = pods.wait(name, PHASE, "Running")["status"]["containerStatuses"][0]
        marks[name] = running["containerID"].removeprefix("process://")
        # Follows until the first line, so that signals meet the handlers.
        assert pods.logs(name, "--follow", "--limit-bytes=3") == "up\n"
    wait_for("both processes", lambda: len(_processes(marks["stubborn"])) == 2 or None, seconds=_WAIT)

    pods.delete("polite")
    pods.delete("stubborn")
    pods.delete("forced", "--grace-period=0", "--force")

    # The pod of a forced deletion is gone from the API before the agent hears of it.
    wait_for("the end of all processes", lambda: not any(map(_processes, marks.values())) or None, seconds=_WAIT)


def _processes(mark: str) -> list[proc.Process]:
    return proc.with_environment(CONTAINER_VARIABLE, mark)


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose agent this test may kill."""
    cluster = Cluster(tmp_path_factory.mktemp("agent"), images=images())
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down(purge=True)


def test_the_next_agent_ends_what_the_last_one_left_and_goes_on(own: Cluster) -> None:
    kubectl = Kubectl(ensure_binaries().kubectl, own.kubeconfig)
    kubectl("wait", "--for=create", "serviceaccount/default", f"--timeout={_WAIT}s")
    pods = Pods(kubectl, "default")
    # `sh` waits for the server, which thus is a grandchild of the agent and outlives it.
    script = 'python -c "$0" & wait'
    shell = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script, SERVER]}
    pods.create(pod("server", shell, restartPolicy="Always"))
    pods.create(pod("once", container("import time; time.sleep(600)")))
    for name in ("server", "once"):
        pods.wait(name, PHASE, "Running")
    left = pods.get("pod", "server")["status"]["containerStatuses"][0]["containerID"].removeprefix("process://")
    assert _processes(left)
    once = pods.process("once")

    agent = next(component.pid for component in own.status() if component.name == "node-agent")
    process = proc.look_up(agent or 0)
    assert process
    proc.signal_process(process, signal.SIGKILL)
    own.up()

    assert _processes(left) == []
    assert not proc.is_running(once)
    pods.wait("once", PHASE, "Failed")
    ended = pods.ended("once")
    assert (ended["exitCode"], ended["message"]) == (137, "the node agent that ran this container has ended")
    pods.wait("server", "{.status.containerStatuses[0].restartCount}", "1")
    pods.wait("server", READY, "True")
