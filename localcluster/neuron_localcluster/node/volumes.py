"""What a pod's volumes hold: files by relative path, from ConfigMaps, Secrets, the downward API and tokens. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neuron_localcluster.node.environment import ConfigError, Objects, PodFacts, field_value, resource_value
from neuron_localcluster.node.state import Manifest

_DEFAULT_MODE = 0o644
_SUPPORTED = ("emptyDir", "configMap", "secret", "downwardAPI", "projected")


@dataclass(frozen=True)
class File:
    content: bytes
    mode: int = _DEFAULT_MODE


@dataclass(frozen=True)
class TokenRequest:
    """A service-account token that a volume asks for; audience "" means the API server itself."""

    audience: str
    expiration_seconds: int


def token_requests(pod: Manifest) -> set[TokenRequest]:
    """Every token that the pod's volumes need."""
    return {_token_request(source) for _, source in _projections(pod) if "serviceAccountToken" in source}


def references(pod: Manifest) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets that the pod's volumes hold."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for volume in pod["spec"].get("volumes") or ():
        if source := volume.get("configMap"):
            config_maps.add(source["name"])
        if source := volume.get("secret"):
            secrets.add(source["secretName"])
    for _, source in _projections(pod):
        if "configMap" in source:
            config_maps.add(source["configMap"]["name"])
        if "secret" in source:
            secrets.add(source["secret"]["name"])
    return config_maps, secrets


def content(
    pod: Manifest, volume: Manifest, objects: Objects, facts: PodFacts, tokens: Mapping[TokenRequest, str]
) -> dict[str, File] | None:
    """The volume's files by relative path; None for one that the pod itself fills.

    Raises ConfigError when something required is missing or the volume's type is not supported.
    """
    if "emptyDir" in volume:
        return None
    if (source := volume.get("configMap")) is not None:
        return _keys("configmap", source["name"], source, source.get("defaultMode"), objects)
    if (source := volume.get("secret")) is not None:
        return _keys("secret", source["secretName"], source, source.get("defaultMode"), objects)
    if (source := volume.get("downwardAPI")) is not None:
        return _downward(pod, source, source.get("defaultMode"), facts)
    if (source := volume.get("projected")) is None:
        kind = next((key for key in volume if key != "name"), "")
        raise ConfigError(f'volume "{volume["name"]}": {kind} is not supported here, only {", ".join(_SUPPORTED)}')
    mode = source.get("defaultMode")
    files: dict[str, File] = {}
    for part in source.get("sources") or ():
        files |= _projected(pod, part, mode, objects, facts, tokens)
    return files


def mount_places(container: Manifest, folder: Path) -> dict[str, Path]:
    """Where the container's mount paths lie on this machine; `folder` holds the pod's volumes by name."""
    places = {}
    for mount in container.get("volumeMounts") or ():
        if mount.get("subPathExpr"):
            raise ConfigError(f"mount {mount['mountPath']}: subPathExpr is not supported here, use subPath")
        places[mount["mountPath"]] = folder / mount["name"] / _inside(mount.get("subPath", ""))
    return places


def _projections(pod: Manifest) -> Iterator[tuple[str, Manifest]]:
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield volume["name"], source


def _token_request(source: Manifest) -> TokenRequest:
    wanted = source["serviceAccountToken"]
    return TokenRequest(wanted.get("audience", ""), wanted.get("expirationSeconds", 3600))


def _projected(
    pod: Manifest,
    part: Manifest,
    mode: int | None,
    objects: Objects,
    facts: PodFacts,
    tokens: Mapping[TokenRequest, str],
) -> dict[str, File]:
    if "serviceAccountToken" in part:
        token = tokens[_token_request(part)]
        return {_inside(part["serviceAccountToken"]["path"]): File(token.encode("ascii"), 0o600)}
    if "downwardAPI" in part:
        return _downward(pod, part["downwardAPI"], mode, facts)
    for kind, field_name in (("configmap", "configMap"), ("secret", "secret")):
        if field_name in part:
            return _keys(kind, part[field_name]["name"], part[field_name], mode, objects)
    raise ConfigError(f"projected volume source {', '.join(part)} is not supported here")


def _keys(kind: str, name: str, source: Manifest, mode: int | None, objects: Objects) -> dict[str, File]:
    optional = source.get("optional", False)
    found = objects.content(kind, name, optional)
    default = _DEFAULT_MODE if mode is None else mode
    if not source.get("items"):
        return {key: File(value, default) for key, value in found.items()}
    files = {}
    for item in source["items"]:
        if item["key"] in found:
            files[_inside(item["path"])] = File(found[item["key"]], item.get("mode", default))
        elif not optional:
            raise ConfigError(f'couldn\'t find key {item["key"]} in {kind} "{name}"')
    return files


def _downward(pod: Manifest, source: Manifest, mode: int | None, facts: PodFacts) -> dict[str, File]:
    files = {}
    for item in source.get("items") or ():
        if reference := item.get("fieldRef"):
            text = field_value(pod, reference["fieldPath"], facts)
        else:
            text = resource_value(pod, {}, item["resourceFieldRef"], facts)
        files[_inside(item["path"])] = File(text.encode(), item.get("mode", mode or _DEFAULT_MODE))
    return files


def _inside(path: str) -> str:
    if re.match(r"/|.*(^|/)\.\.(/|$)", path):
        raise ConfigError(f"the path {path} leads out of its volume")
    return str(PurePosixPath(path)) if path else ""
