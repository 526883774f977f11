"""How far a model is, read from its status: pure, so that it can be told from what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]

# The way to an answering model, each step done once its condition is true.
MILESTONES = (
    ("Resolving", "SourceResolved"),
    ("Planning", "Planned"),
    ("Compiling", "Compiled"),
    ("Loading", "Ready"),
)


@dataclass(frozen=True)
class Failure:
    """Why nothing goes on any more."""

    message: str
    remedy: str
    log_tail: tuple[str, ...]
    in_container: bool
    """Whether a container of the model's has ended so, and has left a log."""


def is_current(model: Manifest) -> bool:
    """Whether the status speaks of the spec as it is now."""
    return bool(model.get("status", {}).get("observedGeneration") == model["metadata"]["generation"])


def condition(model: Manifest, kind: str) -> Manifest:
    """The condition of that type; empty when there is none."""
    conditions: list[Manifest] = model.get("status", {}).get("conditions") or []
    return next((found for found in conditions if found["type"] == kind), {})


def reached(model: Manifest) -> int:
    """How many milestones lie behind."""
    if not is_current(model):
        return 0
    count = 0
    for _, kind in MILESTONES:
        if condition(model, kind).get("status") != "True":
            break
        count += 1
    return count


def summary(model: Manifest, milestone: int) -> str:
    """What there is to say of a milestone that lies behind."""
    status = model.get("status", {})
    _, kind = MILESTONES[milestone]
    if kind == "SourceResolved" and (source := status.get("source")):
        size = source.get("sizeBytes", 0) / 2**20
        return f"{source.get('location')} at commit {source.get('commit', '')[:12]}, {size:.0f} MiB"
    if kind == "Compiled" and (artifact := status.get("artifact")):
        how = "found in the store, nothing to compile" if artifact.get("reused") else "compiled"
        return f"artifact {artifact.get('digest', '')[:19]}, {artifact.get('sizeBytes', 0) / 2**20:.0f} MiB, {how}"
    return str(condition(model, kind).get("message", ""))


def failure(model: Manifest) -> Failure | None:
    """Why the model is stuck until somebody changes something; None while work goes on."""
    stalled = condition(model, "Stalled")
    if not is_current(model) or stalled.get("status") != "True":
        return None
    last: Manifest = model["status"].get("lastFailure") or {}
    ready = condition(model, "Ready")
    return Failure(
        message=str(ready.get("message") or stalled.get("message", "")),
        remedy=str(last.get("remedy", "")),
        log_tail=tuple(str(last.get("logTail", "")).splitlines()),
        in_container="exitCode" in last,
    )


def compile_share(model: Manifest) -> tuple[str, float | None, float | None]:
    """Stage, share and seconds left of the compile as the status has them; coarser than what the pod itself says."""
    compiling: Manifest = model.get("status", {}).get("compile") or {}
    percent, eta = compiling.get("percent"), compiling.get("etaSeconds")
    return (
        str(compiling.get("stage", "")),
        None if percent is None else percent / 100,
        None if eta is None else float(eta),
    )


def describe_pod(pod: Manifest) -> list[str]:
    """Why a pod is not ready, as far as the pod knows: one line per finding."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    lines = [f"pod {name} is {status.get('phase', 'unknown')}"]
    lines += [
        f"pod {name}: {found['type']}={found['status']} {found.get('reason', '')} {found.get('message', '')}".rstrip()
        for found in status.get("conditions") or []
        if found["status"] != "True" and found.get("message")
    ]
    for container in status.get("containerStatuses") or []:
        for state in ("waiting", "terminated"):
            if found := container.get("state", {}).get(state):
                code = f" exit code {found['exitCode']}" if "exitCode" in found else ""
                lines.append(f"pod {name}: {state}{code} {found.get('reason', '')} {found.get('message', '')}".rstrip())
    return lines


def is_rolled_out(deployment: Manifest) -> bool:
    """Whether all pods of a Deployment are of its newest template, and available."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    counts = [status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration", 0) >= deployment["metadata"]["generation"] and counts == [wanted] * 3
