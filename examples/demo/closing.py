"""What the demo leaves on the screen: the model as kubectl shows it, how to go on, and what was measured."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from demo import settings
from demo.answer import QUESTION, Answer
from demo.failure import DemoFailed
from demo.screen import duration


def model_lines(table: str, address: str) -> list[str]:
    """The model in kubectl's own words, and where it answers."""
    return [
        "$ kubectl get nm",
        *table.splitlines(),
        "",
        f"Endpoint  {address}",
    ]


def environment_line(kubeconfig: Path, clients: Path) -> str:
    """What makes kubectl and helm in this shell talk to the demo's cluster."""
    return f"export KUBECONFIG={shlex.quote(str(kubeconfig))} PATH={shlex.quote(str(clients))}:$PATH"


def next_steps(address: str, environment: str) -> list[str]:
    """What to try, each line as it can be pasted."""
    request = (
        f'{{"model": "{settings.MODEL}", "messages": [{{"role": "user", "content": "{QUESTION}"}}], "stream": true}}'
    )
    manifest = settings.MANIFEST.relative_to(settings.ROOT)
    return [
        "Try next",
        f"  {environment}",
        f"  curl -N {address}/chat/completions -H 'Content-Type: application/json' -d '{request}'",
        f"  kubectl describe nm {settings.MODEL}",
        "  kubectl explain neuronmodel.spec",
        f"  kubectl logs deployment/{settings.RELEASE} -n {settings.OPERATOR_NAMESPACE}",
        "  # a second model of the same inputs: it finds the artifact, and compiles nothing",
        f"  sed 's/name: {settings.MODEL}/name: again/' {manifest} | kubectl apply -f -",
        "  make demo-down            # ends everything and keeps the data; PURGE=1 deletes it",
    ]


def measurements(timings: Iterable[tuple[str, float]], total: float, answer: Answer) -> list[str]:
    """Seconds of every stage, and of the answer."""
    return [
        "Measured",
        *(f"  {title:<26} {duration(seconds):>9}" for title, seconds in timings),
        f"  {'in all':<26} {duration(total):>9}",
        f"  answer: {answer}",
    ]


def failure_lines(stage: str, error: DemoFailed, environment: str | None) -> list[str]:
    """Which stage failed, why, what to do, and where there is more to read."""
    lines = [f"The demo failed at: {stage}", f"  {error.reason}"]
    lines += [f"  | {line}" for line in error.excerpt]
    if error.remedy:
        lines.append(f"What to do: {error.remedy}")
    if error.log:
        lines.append(f"Log: {error.log}")
    lines.append(f"Log of the demo: {settings.LOG}")
    if environment:
        lines += ["What had started still runs for a look; `make demo-down` ends it.", f"  {environment}"]
    return lines
