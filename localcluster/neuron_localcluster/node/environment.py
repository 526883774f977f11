"""A container's environment and command line from its manifest: `$(VAR)`, downward API, ConfigMaps, Secrets. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuron_localcluster.node import quantity
from neuron_localcluster.node.state import Manifest

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(Exception):
    """The container cannot be started as its manifest stands now; the message says what is missing."""


@dataclass(frozen=True)
class Objects:
    """ConfigMaps and Secrets of the pod's namespace by name; one that does not exist is absent."""

    config_maps: Mapping[str, Manifest] = field(default_factory=dict)
    secrets: Mapping[str, Manifest] = field(default_factory=dict)

    def content(self, kind: str, name: str, optional: bool = False) -> dict[str, bytes]:
        """The data of a "configmap" or "secret" by key; raises ConfigError when a required one does not exist."""
        found = (self.config_maps if kind == "configmap" else self.secrets).get(name)
        if found is None:
            if optional:
                return {}
            raise ConfigError(f'{kind} "{name}" not found')
        if kind == "secret":
            return {key: base64.b64decode(value or "") for key, value in (found.get("data") or {}).items()}
        content = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        return content | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}


@dataclass(frozen=True)
class PodFacts:
    """What the downward API can tell beside the manifest; `allocatable` is the node's."""

    ip: str
    host_ip: str
    allocatable: Mapping[str, str]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)`; an unknown name stays as it is, `$$` is a dollar sign."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def field_value(pod: Manifest, path: str, facts: PodFacts) -> str:
    """What a `fieldRef` refers to; raises ConfigError for a field that the downward API does not have."""
    metadata, spec = pod["metadata"], pod["spec"]
    if keyed := _KEYED.fullmatch(path):
        return str((metadata.get(keyed[1]) or {}).get(keyed[2], ""))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "metadata.labels": _lines(metadata.get("labels")),
        "metadata.annotations": _lines(metadata.get("annotations")),
        "spec.nodeName": spec["nodeName"],
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": facts.ip,
        "status.podIPs": facts.ip,
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
    }
    if path not in known:
        raise ConfigError(f"fieldRef {path} is not supported")
    return str(known[path])


def resource_value(pod: Manifest, container: Manifest, reference: Manifest, facts: PodFacts) -> str:
    """What a `resourceFieldRef` refers to; a limit that is not set is what the node has, a request that is not, 0."""
    name = reference.get("containerName")
    source = container if name is None else _container(pod, name)
    kind, _, resource = reference["resource"].partition(".")
    found = ((source.get("resources") or {}).get(kind) or {}).get(resource)
    if found is None:
        found = facts.allocatable.get(resource, "0") if kind == "limits" else "0"
    return str(quantity.divided(found, reference.get("divisor") or "1"))


def variables(pod: Manifest, container: Manifest, objects: Objects, facts: PodFacts) -> dict[str, str]:
    """`envFrom` and `env` of the container; raises ConfigError when a required reference cannot be resolved."""
    result: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix", "")
        for kind, field_name in (("configmap", "configMapRef"), ("secret", "secretRef")):
            if reference := source.get(field_name):
                content = objects.content(kind, reference["name"], reference.get("optional", False))
                result |= {prefix + key: _text(value) for key, value in content.items()}
    for entry in container.get("env") or ():
        value = _value(pod, container, entry, objects, facts, result)
        if value is not None:
            result[entry["name"]] = value
    return result


def command_line(container: Manifest, values: Mapping[str, str]) -> list[str]:
    """Command and arguments with `$(VAR)` replaced; raises ConfigError when the manifest gives no command."""
    words: Sequence[str] = [*(container.get("command") or ()), *(container.get("args") or ())]
    if not container.get("command"):
        raise ConfigError(f'container "{container["name"]}" has no command, and images hold none here; set `command`')
    return [expand(word, values) for word in words]


def references(containers: Sequence[Manifest]) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets that the containers' environments need."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for container in containers:
        sources = [entry.get("valueFrom") or {} for entry in container.get("env") or ()]
        for source in [*sources, *(container.get("envFrom") or ())]:
            for key, names in (
                ("configMapKeyRef", config_maps),
                ("configMapRef", config_maps),
                ("secretKeyRef", secrets),
                ("secretRef", secrets),
            ):
                if key in source:
                    names.add(source[key]["name"])
    return config_maps, secrets


def _value(
    pod: Manifest, container: Manifest, entry: Manifest, objects: Objects, facts: PodFacts, known: Mapping[str, str]
) -> str | None:
    source: Manifest | None = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value", ""), known)
    if reference := source.get("fieldRef"):
        return field_value(pod, reference["fieldPath"], facts)
    if reference := source.get("resourceFieldRef"):
        return resource_value(pod, container, reference, facts)
    for kind, field_name in (("configmap", "configMapKeyRef"), ("secret", "secretKeyRef")):
        if reference := source.get(field_name):
            return _keyed(kind, reference, objects)
    raise ConfigError(f"env {entry['name']}: {', '.join(source)} is not supported")


def _keyed(kind: str, reference: Manifest, objects: Objects) -> str | None:
    optional = reference.get("optional", False)
    content = objects.content(kind, reference["name"], optional)
    if reference["key"] in content:
        return _text(content[reference["key"]])
    if optional:
        return None
    raise ConfigError(f'couldn\'t find key {reference["key"]} in {kind} "{reference["name"]}"')


def _container(pod: Manifest, name: str) -> Manifest:
    for container in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]:
        if container["name"] == name:
            return dict(container)
    raise ConfigError(f'resourceFieldRef names the container "{name}", which the pod does not have')


def _lines(mapping: Mapping[str, Any] | None) -> str:
    quoted = (
        (key, str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for key, value in sorted((mapping or {}).items())
    )
    return "\n".join(f'{key}="{value}"' for key, value in quoted)


def _text(value: bytes) -> str:
    return value.decode(errors="surrogateescape")
