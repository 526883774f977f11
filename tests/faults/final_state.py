"""What is there at the end of a life, without what no two lives have in common."""

from __future__ import annotations

import json
from typing import Any

from faults.bed import NEURON_MODELS, Bed
from neuron_localcluster.simulator import BUILT_IN
from neuron_operator.model.resources.deployment import ARTIFACT_ANNOTATION

Manifest = dict[str, Any]

_OF_THE_MOMENT = frozenset(
    {
        "clusterIP",
        "clusterIPs",
        "completionTime",
        "createdAt",
        "creationTimestamp",
        "finishedAt",
        "lastTransitionTime",
        "lastUpdateTime",
        "managedFields",
        "resourceVersion",
        "startTime",
        "startedAt",
        "time",
        "uid",
    }
)
# A restart between Job and Deployment costs the memory of who compiled: `reused` says True then.
_FORGOTTEN = frozenset({"reused"})


async def final_state(bed: Bed, namespace: str) -> dict[str, Any]:
    """All objects of a life, by kind and name. Of pods there is the count by owner and phase alone."""
    found: dict[str, Any] = {}
    for resource in (NEURON_MODELS, *BUILT_IN):
        items, _ = await bed.api.list(resource.path(namespace))
        for item in items:
            if resource.plural == "pods":
                owner = item["metadata"]["ownerReferences"][0]["name"]
                name = f"Pod of {owner}, {item['status'].get('phase')}"
                found[name] = found.get(name, 0) + 1
            else:
                found[f"{resource.kind} {item['metadata']['name']}"] = _canonical(item, resource.plural)
    return dict(json.loads(json.dumps(found, sort_keys=True).replace(namespace, "NAMESPACE")))


async def orphans(bed: Bed, namespace: str) -> list[str]:
    """Children whose controller is no living model."""
    models, _ = await bed.api.list(NEURON_MODELS.path(namespace))
    living = {model["metadata"]["uid"] for model in models}
    lost = []
    for resource in BUILT_IN:
        if resource.plural == "pods":
            continue
        for item in (await bed.api.list(resource.path(namespace)))[0]:
            owners = [owner["uid"] for owner in item["metadata"].get("ownerReferences") or [] if owner["controller"]]
            if not living.intersection(owners):
                lost.append(f"{resource.kind} {item['metadata']['name']}")
    return lost


def _canonical(item: Manifest, plural: str) -> Manifest:
    metadata = dict(item["metadata"])
    if plural != NEURON_MODELS.plural:
        # How often it was applied before it was as it is now.
        metadata.pop("generation", None)
    annotations = metadata.get("annotations") or {}
    if ARTIFACT_ANNOTATION in annotations:
        metadata["annotations"] = {**annotations, ARTIFACT_ANNOTATION: json.loads(annotations[ARTIFACT_ANNOTATION])}
    status = dict(item.get("status") or {})
    if plural != NEURON_MODELS.plural:
        status.pop("observedGeneration", None)
    canonical: Manifest = _lasting({**item, "metadata": metadata, "status": status})
    return canonical


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        left = {name: _lasting(item) for name, item in value.items() if name not in _OF_THE_MOMENT | _FORGOTTEN}
        return {name: item for name, item in left.items() if item is not None}
    return [_lasting(item) for item in value] if isinstance(value, list) else value
