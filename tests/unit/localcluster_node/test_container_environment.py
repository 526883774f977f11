"""Environment, command line and paths of a container, from its manifest."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from neuron_localcluster.node.environment import (
    ConfigError,
    Objects,
    PodFacts,
    command_line,
    expand,
    field_value,
    references,
    variables,
)
from neuron_localcluster.node.quantity import divided, parse
from neuron_localcluster.node.substitution import Paths

FACTS = PodFacts(ip="127.77.0.5", host_ip="127.0.0.1", allocatable={"cpu": "4", "memory": "16Gi"})
OBJECTS = Objects(
    config_maps={"settings": {"data": {"a": "1", "b": "two"}, "binaryData": {"c": base64.b64encode(b"3").decode()}}},
    secrets={"token": {"data": {"key": base64.b64encode(b"hush").decode()}}},
)


def pod(*containers: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "p",
            "namespace": "ns",
            "uid": "u",
            "labels": {"app": "web", "x/y": 'say "hi"'},
            "annotations": {"note": "n"},
        },
        "spec": {"nodeName": "cpu", "serviceAccountName": "sa", "containers": list(containers)},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$(B)", "$(A)"),
    ],
)
def test_expand_is_kubernetes_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "$(A)"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", "/vol/data"),
        ("/data/", "/vol/data/"),
        ("/data/x", "/vol/data/x"),
        ("/data/inner/x", "/vol/inner/x"),
        ("/database", "/database"),
        ("/data.old", "/data.old"),
        ("/data-old/x", "/data-old/x"),
        ("/var/data", "/var/data"),
        ("s3://bucket/data", "s3://bucket/data"),
        ("https://host//data", "https://host//data"),
        ("file:///data/x", "file:///vol/data/x"),
        ("${HOME}/data ~/data ../data", "${HOME}/data ~/data ../data"),
        ("--dir=/data:/data/inner", "--dir=/vol/data:/vol/inner"),
        ('{"path": "/data/x"}', '{"path": "/vol/data/x"}'),
        ("cat /data/x > /data/y", "cat /vol/data/x > /vol/data/y"),
    ],
)
def test_only_whole_paths_are_replaced_and_the_longest_wins(text: str, expected: str) -> None:
    places = {"/data": Path("/vol/data"), "/data/inner/": Path("/vol/inner")}
    assert Paths(places).localize(text) == expected


def test_what_was_replaced_is_not_replaced_again() -> None:
    assert Paths({"/tmp": Path("/tmp/pods/1")}).localize("/tmp/x") == "/tmp/pods/1/x"  # noqa: S108
    assert Paths({}).localize("/tmp/x") == "/tmp/x"  # noqa: S108


def test_variables_come_from_every_kind_of_source_in_order() -> None:
    container = {
        "name": "c",
        "resources": {"limits": {"memory": "1Gi", "cpu": "1500m"}},
        "envFrom": [{"prefix": "S_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "token"}}],
        "env": [
            {"name": "FIRST", "value": "1"},
            {"name": "SECOND", "value": "$(FIRST)-$(S_a)-$(LATER)"},
            {"name": "LATER"},
            {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x/y']"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "REQUEST", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
            {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
        ],
    }
    assert variables(pod(container), container, OBJECTS, FACTS) == {
        "S_a": "1",
        "S_b": "two",
        "S_c": "3",
        "key": "hush",
        "FIRST": "1",
        "SECOND": "1-1-$(LATER)",
        "LATER": "",
        "FROM_SECRET": "hush",
        "LABEL": 'say "hi"',
        "CPU": "2",
        "MEMORY": "1024",
        "REQUEST": "0",
    }
    assert references([container]) == ({"settings", "none"}, {"token"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"secretKeyRef": {"name": "token", "key": "k"}}, 'couldn\'t find key k in secret "token"'),
        ({"fieldRef": {"fieldPath": "status.phase"}}, "fieldRef status.phase is not supported"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(source: dict[str, Any], message: str) -> None:
    container = {"name": "c", "env": [{"name": "A", "valueFrom": source}]}
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        variables(pod(container), container, OBJECTS, FACTS)


def test_the_downward_api_of_a_volume_lists_labels_quoted() -> None:
    assert field_value(pod(), "metadata.labels", FACTS) == 'app="web"\nx/y="say \\"hi\\""'


def test_an_unset_limit_is_what_the_node_has() -> None:
    container = {
        "name": "c",
        "env": [{"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
    }
    assert variables(pod(container), container, OBJECTS, FACTS) == {"CPU": "4"}


def test_the_command_line_needs_a_command() -> None:
    container = {"name": "c", "command": ["run", "$(A)"], "args": ["$(B)"]}
    assert command_line(container, {"A": "1"}) == ["run", "1", "$(B)"]
    with pytest.raises(ConfigError, match='container "c" has no command'):
        command_line({"name": "c", "args": ["x"]}, {})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100m", "0.1"),
        ("2", "2"),
        ("1.5Gi", "1610612736"),
        ("1e3", "1000"),
        ("3E", "3e18"),
        ("1Ei", str(2**60)),
        (4, "4"),
    ],
)
def test_quantities(text: str | int, number: str) -> None:
    assert parse(text) == type(parse(text))(number)


@pytest.mark.parametrize("text", ["", "Gi", "1X", "1ki", "one"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        parse(text)


def test_divided_rounds_up() -> None:
    assert divided("1025Ki", "1Mi") == 2
    assert divided("1500m", "0") == 2
