"""The stages of the demo before the model: cluster, bucket, chart, operator. Each can be repeated."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from demo import settings
from demo.failure import DemoFailed
from demo.progress import describe_pod, failure, is_rolled_out
from demo.screen import Screen
from demo.tools import Tools
from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.binaries.pins import Binaries
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.errors import ClusterError, StageFailed
from neuron_localcluster.progress import Progress, Step
from neuron_localcluster.standins import aws, models

_OPERATOR_SECONDS = 60.0
_OPERATOR_PORT = 8080
_OPERATOR_PODS = "app.kubernetes.io/name=neuron-operator"
_POLL_SECONDS = 0.5
_DEPLOYMENT = f"deployment/{settings.RELEASE}"
_IN_OPERATOR_NAMESPACE = f"--namespace={settings.OPERATOR_NAMESPACE}"


@dataclass(frozen=True)
class Compiler:
    """The compiler that artifacts are made with. Its `version`, for example `g++-12`, is part of their digest."""

    program: str
    version: str


def check_machine(screen: Screen) -> Compiler:
    """The machine's C++ compiler, as whoever runs the demo has it on PATH."""
    screen.begin("This machine")
    program = shutil.which("g++")
    if program is None:
        raise DemoFailed("g++ is not on PATH; models cannot be compiled", remedy="Debian, Ubuntu: apt install g++")
    version = subprocess.run([program, "-dumpversion"], capture_output=True, text=True, check=True).stdout
    compiler = Compiler(program, f"g++-{version.strip().partition('.')[0]}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    screen.end(f"{len(os.sched_getaffinity(0))} CPUs, {memory:.0f} GiB, {compiler.version}")
    return compiler


def get_binaries(screen: Screen) -> Binaries:
    """The control plane's programs, kubectl and helm."""
    screen.begin("Control-plane binaries")
    try:
        binaries = ensure_binaries(_show(screen))
    except ClusterError as error:
        raise _failed(error) from error
    screen.end(_from_home(binaries.servers))
    return binaries


def get_model(screen: Screen) -> Path:
    """The folder that the hub's stand-in serves, with SmolLM2 in it."""
    screen.begin("Model for the hub")
    try:
        folder = models.ensure_smollm2(_show(screen))
    except ClusterError as error:
        raise _failed(error) from error
    screen.end(models.SMOLLM2)
    return folder.parents[1]


def start_cluster(screen: Screen, hub_root: Path, compiler: Compiler) -> Cluster:
    """The local cluster, running."""
    screen.begin("Local cluster")
    images = settings.images(Path(sys.executable).parent, compiler.program)
    cluster = Cluster(settings.CLUSTER, images=images, hub_root=hub_root)
    try:
        cluster.up(_show(screen, named=True))
    except ClusterError as error:
        raise _failed(error) from error
    running = [component.name for component in cluster.status() if component.pid]
    screen.end(", ".join(running))
    return cluster


def make_bucket(screen: Screen, cluster: Cluster) -> None:
    """The bucket for compiled artifacts."""
    screen.begin("Bucket for artifacts")
    try:
        aws.ensure_bucket(cluster.aws_endpoint, settings.BUCKET)
    except ClusterError as error:
        raise DemoFailed(str(error), log=cluster.log("aws")) from error
    screen.end(f"s3://{settings.BUCKET} at {cluster.aws_endpoint}")


def install_chart(screen: Screen, cluster: Cluster, tools: Tools, compiler: Compiler) -> None:
    """The operator's chart, by the real helm."""
    screen.begin("Operator's chart")
    values = settings.chart_values(
        hub=cluster.hub_endpoint,
        aws=cluster.aws_endpoint,
        region=aws.REGION,
        torch=importlib.metadata.version("torch").partition("+")[0],
        cxx=compiler.version,
    )
    settings.VALUES.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    _forget_interrupted_installs(tools)
    arguments = (
        "upgrade",
        "--install",
        settings.RELEASE,
        str(settings.CHART),
        _IN_OPERATOR_NAMESPACE,
        "--create-namespace",
        f"--values={settings.VALUES}",
    )
    screen.update(f"helm {arguments[0]} {arguments[1]} {settings.RELEASE}")
    tools.helm(*arguments)
    screen.end(f"release {settings.RELEASE} in namespace {settings.OPERATOR_NAMESPACE}")


def wait_for_operator(screen: Screen, tools: Tools) -> None:
    """The operator's pod, ready."""
    screen.begin("Operator")
    deadline = time.monotonic() + _OPERATOR_SECONDS
    while not (found := _operator(tools)).ready:
        if time.monotonic() > deadline:
            raise _operator_failed(tools, found)
        screen.update(found.findings[-1] if found.findings else "no pod yet")
        time.sleep(_POLL_SECONDS)
    screen.end(f"ready at {found.address}")


@dataclass(frozen=True)
class _Operator:
    ready: bool
    address: str
    findings: tuple[str, ...]


def _operator(tools: Tools) -> _Operator:
    deployment = tools.kubectl_json("get", "deployment", settings.RELEASE, _IN_OPERATOR_NAMESPACE)
    pods = tools.kubectl_json("get", "pods", _IN_OPERATOR_NAMESPACE, f"--selector={_OPERATOR_PODS}")["items"]
    findings = tuple(line for pod in pods for line in describe_pod(pod))
    # What the API server knows may be from before the cluster was last stopped; an answer is from now.
    answering = next((address for pod in pods if (address := pod["status"].get("podIP")) and _is_ready(address)), "")
    return _Operator(is_rolled_out(deployment) and bool(answering), answering, findings)


def _is_ready(address: str) -> bool:
    try:
        answer = httpx.get(f"http://{address}:{_OPERATOR_PORT}/readyz", timeout=1.0, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


def apply_manifest(screen: Screen, tools: Tools) -> None:
    """The demo's NeuronModel, as a user would apply it. One that an earlier run left failed is made anew."""
    screen.begin("Applying the model")
    named = ("neuronmodel", settings.MODEL, f"--namespace={settings.NAMESPACE}")
    present = tools.kubectl("get", *named, "--ignore-not-found", "--output=json")
    if present and (failed := failure(json.loads(present))):
        screen.update(f"deleting it first, because it had failed: {failed.message}")
        # With all that it owns, so that nothing of the failed attempt is in the way.
        tools.kubectl("delete", *named, "--cascade=foreground")
    answer = tools.kubectl("apply", f"--filename={settings.MANIFEST}").strip()
    screen.end(f"kubectl apply -f {settings.MANIFEST.relative_to(settings.ROOT)}: {answer}")


def _from_home(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _show(screen: Screen, *, named: bool = False) -> Progress:
    """Progress of the cluster's package as that of the open stage; `named` says of which of its parts."""

    def show(step: Step) -> None:
        if not step.finished:
            screen.update(f"{step.stage} {step.detail}" if named else step.detail, step.fraction)

    return show


def _failed(error: ClusterError) -> DemoFailed:
    return DemoFailed(str(error), log=error.log if isinstance(error, StageFailed) else None)


def _forget_interrupted_installs(tools: Tools) -> None:
    # A helm that was interrupted leaves its release pending, and every later helm refuses to touch it.
    pending = "owner=helm,status in (pending-install,pending-upgrade,pending-rollback)"
    tools.kubectl("delete", "secrets", _IN_OPERATOR_NAMESPACE, f"--selector={pending}", "--ignore-not-found")


def _operator_failed(tools: Tools, found: _Operator) -> DemoFailed:
    try:
        log = tools.kubectl("logs", _DEPLOYMENT, _IN_OPERATOR_NAMESPACE, "--tail=20").splitlines()
    except DemoFailed as refused:
        log = [refused.reason, *refused.excerpt]
    return DemoFailed(
        f"the operator is not ready after {_OPERATOR_SECONDS:.0f} s",
        excerpt=[*found.findings, *log],
        log=f"kubectl logs {_DEPLOYMENT} {_IN_OPERATOR_NAMESPACE}",
    )
