"""What volumes hold, and what lies on disk of it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from neuron_localcluster.node.environment import ConfigError, Objects, PodFacts
from neuron_localcluster.node.folders import PodFolder
from neuron_localcluster.node.volumes import File, TokenRequest, content, mount_places, references, token_requests

FACTS = PodFacts(ip="127.77.0.5", host_ip="127.0.0.1", allocatable={})
OBJECTS = Objects(
    config_maps={"ca": {"data": {"ca.crt": "PEM"}}},
    secrets={"s": {"data": {"a": base64.b64encode(b"1").decode(), "b": base64.b64encode(b"2").decode()}}},
)
ACCESS = {
    "name": "kube-api-access",
    "projected": {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ],
    },
}


def pod(*volumes: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "ns", "uid": "u"}
    return {"metadata": metadata, "spec": {"nodeName": "n", "containers": [], "volumes": list(volumes)}}


def files(volume: dict[str, Any]) -> dict[str, File] | None:
    return content(pod(volume), volume, OBJECTS, FACTS, {TokenRequest("", 3607): "jwt"})


def test_the_volume_of_a_service_account() -> None:
    assert token_requests(pod(ACCESS)) == {TokenRequest("", 3607)}
    assert references(pod(ACCESS)) == ({"ca"}, set())
    assert files(ACCESS) == {"token": File(b"jwt", 0o600), "ca.crt": File(b"PEM"), "namespace": File(b"ns")}


def test_secrets_take_chosen_keys_and_modes() -> None:
    whole = {"name": "v", "secret": {"secretName": "s", "defaultMode": 0o400}}
    chosen = {"name": "v", "secret": {"secretName": "s", "items": [{"key": "b", "path": "dir/b", "mode": 0o440}]}}
    assert files(whole) == {"a": File(b"1", 0o400), "b": File(b"2", 0o400)}
    assert files(chosen) == {"dir/b": File(b"2", 0o440)}
    assert files({"name": "v", "emptyDir": {}}) is None
    assert files({"name": "v", "configMap": {"name": "none", "optional": True}}) == {}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"name": "v", "configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"name": "v", "secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}}, "couldn't find key z"),
        ({"name": "v", "hostPath": {"path": "/"}}, 'volume "v": hostPath is not supported here'),
        ({"name": "v", "secret": {"secretName": "s", "items": [{"key": "a", "path": "../a"}]}}, "leads out"),
    ],
)
def test_what_a_volume_cannot_hold_is_named(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        files(volume)


def test_mounts_lie_in_the_volumes_folder() -> None:
    mounts = [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b", "subPath": "in/side"}]
    places = mount_places({"volumeMounts": mounts}, Path("/volumes"))
    assert places == {"/a": Path("/volumes/v"), "/b": Path("/volumes/v/in/side")}
    with pytest.raises(ConfigError, match="leads out"):
        mount_places({"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "../x"}]}, Path("/volumes"))


def test_a_volume_on_disk_follows_its_content_and_an_empty_dir_is_left_alone(tmp_path: Path) -> None:
    folder = PodFolder(tmp_path, "u")
    folder.write_volume("v", {"a": File(b"1", 0o400), "dir/b": File(b"2")})
    root = folder.volumes / "v"
    assert (root / "a").stat().st_mode & 0o777 == 0o400
    before = (root / "dir/b").stat().st_ino

    folder.write_volume("v", {"a": File(b"new", 0o400), "dir/b": File(b"2")})
    assert (root / "a").read_bytes() == b"new"
    assert (root / "dir/b").stat().st_ino == before

    folder.write_volume("v", {"a": File(b"new", 0o400)})
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["a"]

    folder.write_volume("work", None)
    (folder.volumes / "work" / "kept").touch()
    folder.write_volume("work", None)
    assert (folder.volumes / "work" / "kept").exists()
