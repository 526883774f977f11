"""When a live object differs from what is wanted of it."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_operator.model.resources.difference import differs

CONTAINER = {
    "name": "server",
    "image": "example:1",
    "command": ["python", "-m", "server"],
    "env": [{"name": "A", "value": "1"}],
    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
    "resources": {"requests": {"cpu": "1", "memory": "1024Mi"}},
    "volumeMounts": [{"name": "work", "mountPath": "/a"}, {"name": "work", "mountPath": "/b"}],
}
DESIRED: dict[str, Any] = {
    "metadata": {"name": "x", "labels": {"a": "b"}, "ownerReferences": [{"uid": "1", "controller": True}]},
    "spec": {
        "replicas": 1,
        "template": {"spec": {"containers": [CONTAINER], "volumes": [{"name": "w", "emptyDir": {}}]}},
    },
}


def edited(path: str, value: Any) -> dict[str, Any]:
    """DESIRED as it lives, with one place set to a value; None takes the place out."""
    live = deepcopy(DESIRED)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = live
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return live


BOX = "spec/template/spec/containers"

SAME = {
    "nothing": edited("metadata/name", "x"),
    "fields that the API server filled in": edited("metadata/uid", "123"),
    "a default in a list's item": edited(f"{BOX}/0/imagePullPolicy", "Always"),
    "a sidecar of somebody else": edited(f"{BOX}/1", {"name": "sidecar"}),
    "a sidecar that comes first": {
        **DESIRED,
        "spec": {
            **DESIRED["spec"],
            "template": {
                "spec": {"containers": [{"name": "z"}, CONTAINER], "volumes": [{"name": "w", "emptyDir": {}}]}
            },
        },
    },
    "a variable of somebody else": edited(f"{BOX}/0/env/1", {"name": "B", "value": "2"}),
    "another owner": edited("metadata/ownerReferences/1", {"uid": "2"}),
    "another label": edited("metadata/labels/mine", "1"),
    "an amount in other words": edited(f"{BOX}/0/resources/requests/memory", "1Gi"),
    "processors in other words": edited(f"{BOX}/0/resources/requests/cpu", "1000m"),
    "a whole number": edited(f"{BOX}/0/resources/requests/cpu", 1),
    "another resource": edited(f"{BOX}/0/resources/requests/pods", "1"),
}

DIFFERENT = {
    "a number": edited("spec/replicas", 2),
    "a removed leaf": edited("spec/replicas", None),
    "a removed label": edited("metadata/labels/a", None),
    "all labels": edited("metadata/labels", None),
    "no owner": edited("metadata/ownerReferences", []),
    "an owner of another UID": edited("metadata/ownerReferences/0/uid", "2"),
    "an image": edited(f"{BOX}/0/image", "example:2"),
    "a renamed container": edited(f"{BOX}/0/name", "other"),
    "a longer command": edited(f"{BOX}/0/command/3", "--debug"),
    "a shorter command": edited(f"{BOX}/0/command", ["python"]),
    "a variable's value": edited(f"{BOX}/0/env/0/value", "2"),
    "a removed variable": edited(f"{BOX}/0/env", []),
    "an amount": edited(f"{BOX}/0/resources/requests/memory", "1025Mi"),
    "a removed amount": edited(f"{BOX}/0/resources/requests/memory", None),
    "a mount": edited(f"{BOX}/0/volumeMounts/1/mountPath", "/c"),
    "a list that became a word": edited(f"{BOX}/0/command", "python"),
}


@pytest.mark.parametrize("case", SAME)
def test_what_is_not_ours_is_no_difference(case: str) -> None:
    assert not differs(DESIRED, SAME[case])


@pytest.mark.parametrize("case", DIFFERENT)
def test_each_leaf_of_ours_counts(case: str) -> None:
    assert differs(DESIRED, DIFFERENT[case])


AMOUNTS = [
    ("1024Mi", "1Gi", True),
    ("1024Ti", "1Pi", True),
    ("1000P", "1E", True),
    ("1e3", "1k", True),
    ("1E3", "1k", True),
    ("0.5", "500m", True),
    ("0.0001", "100u", True),
    (".5", "500m", True),
    ("1.", "1", True),
    ("128974848", "123Mi", True),
    ("1G", "1Gi", False),
    ("1", "1m", False),
    ("1M", "1m", False),
    ("2", "3", False),
]


@pytest.mark.parametrize(("wanted", "live", "same"), AMOUNTS)
def test_amounts_are_compared_as_amounts(wanted: str, live: str, same: bool) -> None:
    assert differs({"limits": {"memory": wanted}}, {"limits": {"memory": live}}) is not same


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_nothing_differs_from_itself(document: Any) -> None:
    assert not differs(document, deepcopy(document))


def test_a_selector_is_taken_as_a_whole() -> None:
    desired = {"spec": {"selector": {"app": "llama"}, "type": "ClusterIP"}}
    live = {"spec": {"selector": {"app": "llama"}, "type": "ClusterIP", "clusterIP": "127.96.0.1"}}
    assert not differs(desired, live)
    live["spec"]["selector"] = {"app": "llama", "only": "some"}
    assert differs(desired, live)
