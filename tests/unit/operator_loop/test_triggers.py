"""kopf is asked for watches, and for nothing that writes."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime
from typing import Any

import kopf
import pytest
from kopf._cogs.aiokits import aiotasks

from neuron_operator.api.objects import JOB, NEURON_MODEL, Key, Manifest, key_of, kind_of, labels_of
from neuron_operator.loop import triggers
from neuron_operator.loop.snapshot import Snapshot
from neuron_operator.model.relations import CHILD_SELECTOR, WATCHED


def _affected(manifest: Manifest) -> set[Key]:
    if kind_of(manifest) == NEURON_MODEL:
        return {key_of(manifest)}
    return {Key("ml", labels_of(manifest)["model"])}


class _Bell:
    def __init__(self) -> None:
        self.rung: list[Key] = []
        self.snapshot = Snapshot([NEURON_MODEL, JOB], [])
        self.registry = triggers.registry(
            [NEURON_MODEL, JOB],
            self.snapshot,
            self.rung.append,
            _affected,
            lambda: {"server": "https://api.example", "token": "t"},
        )

    def handlers(self) -> list[Any]:
        return list(self.registry._watching.get_all_handlers())

    async def event(self, kind: str, type_: str | None, version: int, **labels: str) -> set[Key]:
        """Deliver an event as kopf does; returns whom it woke."""
        (handler,) = [handler for handler in self.handlers() if handler.id == kind]
        metadata = {"name": "a", "namespace": "ml", "uid": "u", "resourceVersion": str(version), "labels": labels}
        self.rung.clear()
        await handler.fn(event={"type": type_, "object": {"metadata": metadata}}, logger=None)
        assert len(self.rung) == len(set(self.rung))
        return set(self.rung)


def test_the_registry_holds_watching_handlers_and_the_login_alone() -> None:
    registry = _Bell().registry
    for part in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert list(part.get_all_handlers()) == []
    assert {handler.id for handler in registry._watching.get_all_handlers()} == {"neuronmodels", "jobs"}
    assert {(handler.id, handler.activity) for handler in registry._activities.get_all_handlers()} == {
        ("login", kopf._core.intents.causes.Activity.AUTHENTICATION)
    }


def test_a_login_expires_long_before_the_token_does() -> None:
    (login,) = _Bell().registry._activities.get_all_handlers()
    info: Any = login.fn()
    assert (info.server, info.token) == ("https://api.example", "t")
    assert 0 < (info.expiration - datetime.now(UTC)).total_seconds() <= 600


def test_kopf_stores_and_posts_nothing_and_every_wait_is_finite() -> None:
    settings = triggers.settings([JOB], CHILD_SELECTOR)
    assert settings.posting.enabled is False
    assert settings.scanning.disabled is True
    assert settings.persistence.finalizer.startswith("neuron-operator.dev/")
    body, patch = kopf.Body({"metadata": {"labels": {"a": "b"}}, "spec": {"c": "d"}}), kopf.Patch()
    essence = settings.persistence.diffbase_storage.build(body=body)
    settings.persistence.diffbase_storage.store(body=body, patch=patch, essence=essence)
    settings.persistence.progress_storage.touch(body=body, patch=patch, value="now")
    assert not patch
    waits = (
        settings.networking.request_timeout,
        settings.networking.connect_timeout,
        settings.watching.connect_timeout,
        settings.watching.inactivity_timeout,
    )
    assert all(wait is not None and wait <= 70 for wait in waits)


def test_children_are_watched_by_label_and_models_are_not() -> None:
    children = [kind for kind in WATCHED if kind != NEURON_MODEL]
    settings = triggers.settings(children, CHILD_SELECTOR)
    selectors = settings.watching.label_selectors
    for kind in WATCHED:
        resource = kopf.Resource(kind.group, kind.version, kind.plural)
        expected = [] if kind == NEURON_MODEL else ["app.kubernetes.io/managed-by=neuron-operator"]
        assert list(selectors.collect(resource)) == expected


async def test_an_event_is_known_before_it_rings() -> None:
    bell = _Bell()
    assert await bell.event("neuronmodels", None, 1) == {Key("ml", "a")}
    found = bell.snapshot.get(NEURON_MODEL, Key("ml", "a"))
    assert found is not None
    assert (found["apiVersion"], found["kind"]) == ("neuron-operator.dev/v1alpha1", "NeuronModel")


async def test_what_is_known_already_does_not_ring() -> None:
    bell = _Bell()
    await bell.event("neuronmodels", "ADDED", 5)
    assert await bell.event("neuronmodels", None, 5) == set()
    assert await bell.event("neuronmodels", "MODIFIED", 4) == set()


async def test_a_child_that_changes_hands_wakes_both() -> None:
    bell = _Bell()
    assert await bell.event("jobs", "ADDED", 5, model="x") == {Key("ml", "x")}
    assert await bell.event("jobs", "MODIFIED", 6, model="y") == {Key("ml", "x"), Key("ml", "y")}
    assert await bell.event("jobs", "DELETED", 7, model="y") == {Key("ml", "y")}
    assert bell.snapshot.list(JOB) == []


async def _fail() -> None:
    raise AssertionError("the connection is closed already")


async def test_an_error_that_kopf_abandons_is_none_of_ours_and_one_of_ours_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def errors() -> list[str]:
        gc.collect()
        return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]

    asyncio.get_running_loop().set_exception_handler(triggers.forget_what_kopf_forgets)

    await asyncio.wait({asyncio.create_task(aiotasks.guard(_fail(), name="kopf's"))})
    assert errors() == []

    await asyncio.wait({asyncio.create_task(_fail())})
    assert len(errors()) == 1
