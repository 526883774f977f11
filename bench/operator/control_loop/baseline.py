"""The same job as somebody does it who knows kopf well and nothing else: handlers for what changes, and timers.

Create and update handlers make the children and keep their state in the status; events of Jobs and Deployments go on
from there; a timer repairs what events have missed. kopf's own storages say what was handled. Hub, store and planner
are the operator's. There are no revisions, no single flight, no drift put back, and nothing beside the active version.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import aiohttp
import kopf
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, AppsV1Api, BatchV1Api, CoreV1Api, CustomObjectsApi
from kubernetes.aio.client.exceptions import ApiException

from control_loop.baseline_objects import (
    LABEL,
    compile_job,
    deployment,
    is_available,
    is_complete,
    request_for,
    service,
    status_of,
    store_of,
)
from neuron_operator.aws.artifacts import S3Artifacts
from neuron_operator.hub import HuggingFaceHub
from neuron_operator.settings import load

_CONFLICT = 409
_GONE = 404
_TIMER_SECONDS = 60.0


class Clients:
    """What handlers talk to; made once the event loop runs."""

    api: ApiClient
    hub: HuggingFaceHub
    artifacts: S3Artifacts


clients = Clients()


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    await config.load_kube_config(os.environ["KUBECONFIG"])  # type: ignore[no-untyped-call]
    clients.api = ApiClient()
    clients.api.user_agent = "kopf-handlers"
    platform = load(Path(os.environ["NEURON_OPERATOR_SETTINGS"]))
    clients.hub = HuggingFaceHub(aiohttp.ClientSession(), platform.hugging_face.endpoint)
    clients.artifacts = S3Artifacts()
    settings.posting.enabled = False
    settings.persistence.finalizer = "bench.example/finalizer"


@kopf.on.login()
def login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_kubeconfig(**arguments)


@kopf.on.create("neuronmodels")
@kopf.on.update("neuronmodels", field="spec")
async def reconcile(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    """Make what the spec asks for, as far as that is possible at once."""
    patch.status.update(await _advance(body))


@kopf.timer("neuronmodels", interval=_TIMER_SECONDS, initial_delay=_TIMER_SECONDS, idle=_TIMER_SECONDS)
async def repair(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    """Go on from an event that was lost."""
    if body.status.get("phase") != "Ready":
        patch.status.update(await _advance(body))


@kopf.on.event("batch", "v1", "jobs", labels={LABEL: kopf.PRESENT})
async def job_changed(event: Any, body: kopf.Body, **_: Any) -> None:
    if event["type"] != "DELETED" and is_complete(body):
        await _go_on(body)
        await _unless(
            _GONE, BatchV1Api(clients.api).delete_namespaced_job(*_name(body), propagation_policy="Background")
        )


@kopf.on.event("apps", "v1", "deployments", labels={LABEL: kopf.PRESENT})
async def deployment_changed(event: Any, body: kopf.Body, **_: Any) -> None:
    if event["type"] != "DELETED" and is_available(body):
        await _go_on(body)


async def _go_on(child: kopf.Body) -> None:
    """Advance the model that a child belongs to, and write its status if it changed."""
    _, namespace = _name(child)
    at = ("neuron-operator.dev", "v1alpha1", namespace, "neuronmodels", child.metadata.labels[LABEL])
    api = CustomObjectsApi(clients.api)
    try:
        model: Any = await api.get_namespaced_custom_object(*at)
    except ApiException as error:
        if error.status != _GONE:
            raise
        return
    status = await _advance(model)
    if not status.items() <= (model.get("status") or {}).items():
        # A merge patch, whose content type the client takes from the body's form.
        await api.patch_namespaced_custom_object_status(
            *at, {"status": status}, _content_type="application/merge-patch+json"
        )


async def _advance(model: Any) -> dict[str, Any]:
    """Bring a model one step on; returns its status."""
    spec, namespace = model["spec"], model["metadata"]["namespace"]
    source = await clients.hub.resolve(spec["model"]["huggingFace"]["repo"], spec["model"]["huggingFace"]["revision"])
    request = request_for(source, spec)
    if await clients.artifacts.find(store_of(spec, namespace), request.digest) is None:
        await _create(BatchV1Api(clients.api).create_namespaced_job, namespace, compile_job(model, request, source))
        return status_of(model, "Compiling", "JobPending", "The compile Job was created")
    wanted = deployment(model, request)
    live = await _create(AppsV1Api(clients.api).create_namespaced_deployment, namespace, wanted)
    if live is None:
        name = wanted["metadata"]["name"]
        live = await _unless(_GONE, AppsV1Api(clients.api).read_namespaced_deployment(name, namespace))
        if live is not None and live.spec.replicas != wanted["spec"]["replicas"]:
            scale = {"spec": {"replicas": wanted["spec"]["replicas"]}}
            live = await AppsV1Api(clients.api).patch_namespaced_deployment(
                name, namespace, scale, _content_type="application/merge-patch+json"
            )
    plain = clients.api.sanitize_for_serialization(live)  # type: ignore[no-untyped-call]
    if plain is None or not is_available(plain):
        return status_of(model, "Loading", "Loading", "The Deployment waits for its pods to be ready")
    await _create(CoreV1Api(clients.api).create_namespaced_service, namespace, service(model))
    return status_of(model, "Ready", "Ready", "All replicas serve")


async def _create(call: Any, namespace: str, body: dict[str, Any]) -> Any:
    """Create an object; None when it is there already."""
    return await _unless(_CONFLICT, call(namespace, body))


async def _unless(status: int, call: Any) -> Any:
    try:
        return await call
    except ApiException as error:
        if error.status != status:
            raise
        return None


def _name(body: Any) -> tuple[str, str]:
    return body["metadata"]["name"], body["metadata"]["namespace"]


if __name__ == "__main__":
    asyncio.run(kopf.operator(clusterwide=True, standalone=True))
