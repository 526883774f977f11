"""The snapshot holds the newest form of every object, in whatever order and however often it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_operator.api.objects import JOB, POD, Key, Kind, Manifest
from neuron_operator.loop.snapshot import Snapshot

_KEY = Key("ml", "a")


def _pod(version: int, *, name: str = "a", uid: str = "u1", namespace: str = "ml", **labels: str) -> Manifest:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata | ({"labels": labels} if labels else {})}


def _snapshot(*manifests: Manifest) -> Snapshot:
    snapshot = Snapshot([POD, JOB], ["team", "shape"])
    for manifest in manifests:
        snapshot.observe("ADDED", manifest)
    return snapshot


def _version(snapshot: Snapshot) -> str | None:
    found = snapshot.get(POD, _KEY)
    return None if found is None else found["metadata"]["resourceVersion"]


def test_an_object_is_found_by_its_kind_and_key() -> None:
    snapshot = _snapshot(_pod(1))
    assert snapshot.get(POD, _KEY) == _pod(1)
    assert snapshot.get(JOB, _KEY) is None
    assert snapshot.get(POD, Key("other", "a")) is None


def test_versions_are_compared_as_numbers() -> None:
    snapshot = _snapshot(_pod(9))
    assert snapshot.observe("MODIFIED", _pod(10))
    assert not snapshot.observe("MODIFIED", _pod(9))
    assert _version(snapshot) == "10"


@pytest.mark.parametrize("event_type", [None, "ADDED", "MODIFIED"])
def test_the_same_form_again_says_nothing_new(event_type: str | None) -> None:
    snapshot = _snapshot(_pod(5))
    assert not snapshot.observe(event_type, _pod(5))


def test_an_event_from_before_an_own_write_is_ignored() -> None:
    snapshot = _snapshot(_pod(5))
    snapshot.remember(_pod(8, team="x"))
    assert not snapshot.observe("MODIFIED", _pod(6))
    assert not snapshot.observe("MODIFIED", _pod(8, team="x"))
    assert _version(snapshot) == "8"


def test_a_deleted_object_is_gone_and_does_not_come_back_with_a_late_event() -> None:
    snapshot = _snapshot(_pod(5, team="x"))
    assert snapshot.observe("DELETED", _pod(7))
    assert snapshot.get(POD, _KEY) is None
    assert snapshot.list(POD, label=("team", "x")) == []
    assert not snapshot.observe("MODIFIED", _pod(6))
    assert not snapshot.observe(None, _pod(6))
    assert snapshot.get(POD, _KEY) is None


def test_a_deletion_that_comes_before_its_object_keeps_it_out() -> None:
    snapshot = _snapshot()
    assert not snapshot.observe("DELETED", _pod(7))
    assert not snapshot.observe("ADDED", _pod(5))
    assert snapshot.get(POD, _KEY) is None


def test_an_object_that_loses_the_watched_label_comes_back_with_a_newer_form() -> None:
    snapshot = _snapshot(_pod(5, team="x"))
    snapshot.observe("DELETED", _pod(7, team="x"))
    snapshot.remember(_pod(8, team="x"))
    assert snapshot.list(POD, label=("team", "x")) == [_pod(8, team="x")]
    assert not snapshot.observe("DELETED", _pod(7, team="x"))
    assert _version(snapshot) == "8"


def test_an_object_created_anew_takes_the_place_of_the_old_one() -> None:
    snapshot = _snapshot(_pod(5, team="x"))
    assert snapshot.observe("ADDED", _pod(9, uid="u2", team="y"))
    assert snapshot.list(POD, label=("team", "x")) == []
    assert snapshot.list(POD, label=("team", "y")) == [_pod(9, uid="u2", team="y")]


def test_the_end_of_the_old_object_leaves_the_new_one_alone() -> None:
    snapshot = _snapshot(_pod(5), _pod(9, uid="u2"))
    assert not snapshot.observe("DELETED", _pod(8, uid="u1"))
    assert _version(snapshot) == "9"


def test_an_own_delete_that_left_nothing_is_forgotten_and_stays_so() -> None:
    snapshot = _snapshot(_pod(5))
    snapshot.forget(POD, _KEY, "another")
    assert _version(snapshot) == "5"
    snapshot.forget(POD, _KEY, "u1")
    assert snapshot.get(POD, _KEY) is None
    assert not snapshot.observe("MODIFIED", _pod(6))


def test_the_event_of_an_own_delete_is_told_once() -> None:
    snapshot = _snapshot(_pod(5))
    snapshot.forget(POD, _KEY, "u1")
    assert snapshot.observe("DELETED", _pod(7))
    assert not snapshot.observe("DELETED", _pod(7))
    assert not snapshot.observe("MODIFIED", _pod(6))


def test_objects_are_listed_by_namespace_and_by_indexed_label() -> None:
    a, b, c = (
        _pod(1, name="a", team="x", shape="round"),
        _pod(2, name="b", uid="u2", team="x"),
        _pod(3, name="c", uid="u3", namespace="other", team="x"),
    )
    snapshot = _snapshot(a, b, c)
    assert snapshot.list(POD) == [a, b, c]
    assert snapshot.list(POD, namespace="other") == [c]
    assert snapshot.list(POD, label=("team", "x")) == [a, b, c]
    assert snapshot.list(POD, namespace="ml", label=("team", "x")) == [a, b]
    assert snapshot.list(POD, label=("shape", "round")) == [a]
    assert snapshot.list(POD, label=("team", "nobody")) == []
    assert snapshot.list(JOB, label=("team", "x")) == []


def test_a_label_that_is_not_indexed_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="label size is not indexed"):
        _snapshot().list(POD, label=("size", "big"))


def test_the_index_follows_the_labels() -> None:
    snapshot = _snapshot(_pod(1, team="x"))
    snapshot.observe("MODIFIED", _pod(2, team="y"))
    assert snapshot.list(POD, label=("team", "x")) == []
    assert snapshot.list(POD, label=("team", "y")) == [_pod(2, team="y")]
    snapshot.observe("MODIFIED", _pod(3))
    assert snapshot.list(POD, label=("team", "y")) == []


def test_objects_share_their_names_and_short_texts() -> None:
    snapshot = _snapshot()
    for name in ("a", "b"):
        manifest = _pod(1, name=name, uid=name) | {"spec": {"containers": [{"terminationMessagePolicy": "File"}]}}
        snapshot.observe("ADDED", json.loads(json.dumps(manifest)))
    pairs = [
        next(iter(found["spec"]["containers"][0].items()))
        for found in (snapshot.get(POD, Key("ml", name)) for name in ("a", "b"))
        if found is not None
    ]
    assert pairs[0] == pairs[1] == ("terminationMessagePolicy", "File")
    assert all(one is other for one, other in zip(*pairs, strict=True))


def test_managed_fields_are_not_kept_and_the_event_is_not_touched() -> None:
    manifest = _pod(1)
    manifest["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    snapshot = _snapshot(manifest)
    assert snapshot.get(POD, _KEY) == _pod(1)
    assert "managedFields" in manifest["metadata"]


class _Cluster:
    """Answers LISTs; `meanwhile` happens while the one of pods is under way."""

    def __init__(self, *pods: Manifest) -> None:
        self.pods = list(pods)
        self.asked: list[Kind] = []
        self.meanwhile: list[Any] = []
        self.failing: Kind | None = None

    async def list(self, kind: Kind) -> list[Manifest]:
        self.asked.append(kind)
        if kind == self.failing:
            raise ConnectionError
        if kind != POD:
            return []
        answer = list(self.pods)
        for action in self.meanwhile:
            action()
        return answer


async def test_a_relist_asks_for_every_kind_and_returns_what_is_new() -> None:
    snapshot, cluster = _snapshot(_pod(5)), _Cluster(_pod(5), _pod(7, name="b", uid="u2"))
    assert await snapshot.relist(cluster.list) == [_pod(7, name="b", uid="u2")]
    assert cluster.asked == [POD, JOB]
    assert await snapshot.relist(cluster.list) == []


async def test_a_relist_returns_both_forms_of_what_has_changed() -> None:
    snapshot, cluster = _snapshot(_pod(5, team="x")), _Cluster(_pod(6, team="y"))
    assert await snapshot.relist(cluster.list) == [_pod(5, team="x"), _pod(6, team="y")]
    assert snapshot.list(POD, label=("team", "y")) == [_pod(6, team="y")]


async def test_a_relist_finds_a_deletion_that_no_event_told() -> None:
    snapshot, cluster = _snapshot(_pod(5, team="x")), _Cluster()
    assert await snapshot.relist(cluster.list) == [_pod(5, team="x")]
    assert snapshot.list(POD, label=("team", "x")) == []
    assert not snapshot.observe("MODIFIED", _pod(5))
    assert snapshot.observe("ADDED", _pod(6))


async def test_what_is_written_during_a_relist_does_not_count_as_vanished() -> None:
    snapshot, cluster = _snapshot(), _Cluster()
    cluster.meanwhile = [lambda: snapshot.remember(_pod(9))]
    assert await snapshot.relist(cluster.list) == []
    assert _version(snapshot) == "9"


async def test_what_is_deleted_during_a_relist_does_not_come_back_with_its_answer() -> None:
    snapshot, cluster = _snapshot(_pod(5)), _Cluster(_pod(5))
    cluster.meanwhile = [lambda: snapshot.observe("DELETED", _pod(8))]
    assert await snapshot.relist(cluster.list) == []
    assert snapshot.get(POD, _KEY) is None


async def test_what_is_created_anew_during_a_relist_stays() -> None:
    snapshot, cluster = _snapshot(_pod(5)), _Cluster()
    cluster.meanwhile = [lambda: snapshot.observe("ADDED", _pod(9, uid="u2"))]
    assert await snapshot.relist(cluster.list) == []
    assert _version(snapshot) == "9"


async def test_a_relist_that_fails_loses_no_change_for_the_next_one() -> None:
    snapshot, cluster = _snapshot(_pod(5)), _Cluster(_pod(6))
    cluster.failing = JOB
    with pytest.raises(ConnectionError):
        await snapshot.relist(cluster.list)
    cluster.failing = None
    assert await snapshot.relist(cluster.list) == [_pod(5), _pod(6)]


@st.composite
def _histories(draw: st.DrawFn) -> tuple[list[tuple[str, Manifest]], Manifest | None]:
    """Events of one name's objects in the order they happened, and what is there in the end."""
    events: list[tuple[str, Manifest]] = []
    version, present = 0, None
    incarnations = draw(st.integers(1, 3))
    for incarnation in range(incarnations):
        # Deleted more than once: that is how a lost label looks that is then put back.
        appearances = draw(st.integers(1, 2))
        for appearance in range(appearances):
            for number in range(draw(st.integers(1, 3))):
                version += 1
                present = _pod(version, uid=f"u{incarnation}", team=draw(st.sampled_from("xyz")))
                events.append(("MODIFIED" if number else "ADDED", present))
            if (incarnation, appearance) != (incarnations - 1, appearances - 1) or draw(st.booleans()):
                version += 1
                events.append(("DELETED", _pod(version, uid=f"u{incarnation}")))
                present = None
    return events, present


@given(history=_histories(), data=st.data())
def test_any_order_and_any_repetition_of_events_ends_in_the_truth(
    history: tuple[list[tuple[str, Manifest]], Manifest | None], data: st.DataObject
) -> None:
    events, truth = history
    repeated = data.draw(st.lists(st.sampled_from(events)))
    snapshot = _snapshot()
    for event in data.draw(st.permutations(events + repeated)):
        snapshot.observe(*event)
    assert snapshot.get(POD, _KEY) == truth
    assert snapshot.list(POD) == ([] if truth is None else [truth])
    for team in "xyz":
        expected = [truth] if truth is not None and truth["metadata"]["labels"]["team"] == team else []
        assert snapshot.list(POD, label=("team", team)) == expected
