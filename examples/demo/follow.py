"""Follows a model live, from its first status to the first answer of its endpoint."""

from __future__ import annotations

import time

import httpx
from pydantic import ValidationError

from demo import components, progress, settings
from demo.failure import DemoFailed
from demo.progress import MILESTONES, Manifest
from demo.screen import Screen
from demo.tools import Tools, Watch
from neuron_localcluster.cluster import Cluster
from neuron_runtime.contract.launch import SERVING_PORT
from neuron_runtime.contract.progress import PROGRESS_PORT, Progress

_POLL_SECONDS = 1.0
_DEADLINE_SECONDS = 30 * 60.0
_MODEL_PODS = f"neuron-operator.dev/model={settings.MODEL}"
_COMPILE_PODS = f"{_MODEL_PODS},app.kubernetes.io/component=compile"
_PODS_LOG = f"kubectl logs --namespace={settings.NAMESPACE} --selector={_MODEL_PODS} --prefix --tail=-1"


class Follower:
    """Shows the way of the demo's model as the continued lines of one stage."""

    def __init__(self, tools: Tools, screen: Screen, cluster: Cluster) -> None:
        self._tools = tools
        self._screen = screen
        self._cluster = cluster
        # Proxies of the caller's have no business with addresses of this machine.
        self._http = httpx.Client(timeout=1.0, trust_env=False)
        self._began = time.monotonic()

    def run(self) -> str:
        """Wait until the model answers; returns the base URL of its API. Raises DemoFailed when it will not."""
        watch = self._tools.watch("neuronmodel", settings.MODEL, f"--namespace={settings.NAMESPACE}")
        try:
            return self._follow(watch)
        except DemoFailed:
            # Of a cluster that has ended, kubectl only says that it did not answer.
            components.check(self._cluster)
            raise
        finally:
            watch.close()
            self._http.close()

    def _follow(self, watch: Watch) -> str:
        shown = 0
        model: Manifest = {"metadata": {"generation": 0}}
        self._screen.begin(MILESTONES[0][0])
        while time.monotonic() - self._began < _DEADLINE_SECONDS:
            model = watch.newest(_POLL_SECONDS) or model
            # A watch goes quiet, too, when nobody is left to tell it anything.
            components.check(self._cluster)
            self._check(model)
            count = progress.reached(model)
            while shown < min(count, len(MILESTONES) - 1):
                self._screen.end(progress.summary(model, shown))
                shown += 1
                self._screen.begin(MILESTONES[shown][0], continued=True)
            if count == len(MILESTONES) and (address := self._answering()):
                self._screen.end(progress.summary(model, count - 1))
                return address
            self._show(model, shown)
        raise DemoFailed(
            f"the model is not ready after {_DEADLINE_SECONDS / 60:.0f} minutes: {_message(model)}",
            remedy=f"kubectl describe nm {settings.MODEL}",
        )

    def _check(self, model: Manifest) -> None:
        if failure := progress.failure(model):
            log = _PODS_LOG if failure.in_container else None
            raise DemoFailed(failure.message, remedy=failure.remedy, excerpt=failure.log_tail, log=log)

    def _show(self, model: Manifest, shown: int) -> None:
        name, kind = MILESTONES[shown]
        if name == "Compiling" and progress.condition(model, kind).get("reason") == "JobRunning":
            self._screen.update(*(self._pod_progress() or progress.compile_share(model)))
            return
        self._screen.update(str(progress.condition(model, kind).get("message") or _message(model)))

    def _pod_progress(self) -> tuple[str, float | None, float | None] | None:
        """What the compile pod says of itself; None when it does not answer."""
        pods = self._tools.kubectl_json(
            "get", "pods", f"--namespace={settings.NAMESPACE}", f"--selector={_COMPILE_PODS}"
        )
        addresses = [
            pod["status"]["podIP"]
            for pod in pods["items"]
            if pod["status"].get("phase") == "Running" and pod["status"].get("podIP")
        ]
        if not addresses:
            return None
        try:
            answer = self._http.get(f"http://{addresses[-1]}:{PROGRESS_PORT}/progress")
            at = Progress.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError):
            return None
        detail = f"{at.stage.value}: {at.detail}" if at.detail else at.stage.value
        # What is left is a guess from what was done: of nothing, not even that.
        return detail, at.percent / 100 if at.total else None, at.eta_seconds if at.percent else None

    def _answering(self) -> str | None:
        """The API's base URL if it answers. A status may still be that of an earlier run, an answer cannot."""
        service = self._tools.kubectl_json("get", "service", settings.MODEL, f"--namespace={settings.NAMESPACE}")
        address = f"http://{service['spec']['clusterIP']}:{SERVING_PORT}/v1"
        try:
            answer = self._http.get(f"{address}/models")
        except httpx.HTTPError:
            return None
        return address if answer.status_code == httpx.codes.OK else None


def _message(model: Manifest) -> str:
    return str(model.get("status", {}).get("message") or "waiting for the operator's first look")
