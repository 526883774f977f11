"""The lives that are led under faults. Each ends in a state that does not depend on what went wrong on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from faults.life import Life
from neuron_localcluster.simulator import ContainerEnd
from neuron_operator.model.resources import names
from neuron_runtime.contract.outcome import FailureCode, TerminationMessage, exit_code_of

Script = Callable[[Life], Awaitable[None]]

_OTHER_SHAPES = {"shapes": {"maxModelLength": 256}}
_ATTEMPT = "neuron-operator.dev/attempt"


async def create_to_ready(life: Life) -> None:
    """The shortest life."""
    await life.create()
    await life.until_phase("Ready")


async def two_revisions_and_the_end(life: Life) -> None:
    """All that there is in a model's life: a first revision, a second one, and its deletion."""
    await create_to_ready(life)
    await life.edit(**_OTHER_SHAPES)
    await life.until_phase("Ready")
    await life.delete()
    await life.until_gone()


async def two_revisions(life: Life) -> None:
    """The second revision takes over."""
    await create_to_ready(life)
    await life.edit(**_OTHER_SHAPES)
    await life.until_phase("Ready")


async def failure_and_success(life: Life) -> None:
    """The first attempt at the artifact fails for no lasting reason."""

    async def fail_once(job: dict[str, Any]) -> ContainerEnd:
        if job["metadata"]["annotations"][_ATTEMPT] != "1":
            return await life.bed.compile(job)
        message = TerminationMessage(code=FailureCode.COMPILER_FAILED, message="It broke")
        return ContainerEnd(int(exit_code_of(FailureCode.COMPILER_FAILED)), message.encode())

    life.bed.compiles[life.namespace] = fail_once
    await create_to_ready(life)


async def change_during_compile(life: Life) -> None:
    """The spec asks for something else while a compile runs that nobody wants any more."""
    first: list[str] = []

    async def first_takes_long(job: dict[str, Any]) -> ContainerEnd:
        label = job["metadata"]["labels"][names.ARTIFACT_LABEL]
        first[:] = first or [label]
        if label in first:
            await asyncio.sleep(3600)
        return await life.bed.compile(job)

    life.bed.compiles[life.namespace] = first_takes_long
    await life.create()
    await life.until_jobs(1)
    await life.until_phase("Compiling")
    await life.edit(**_OTHER_SHAPES)
    await life.until_phase("Ready")


async def holder_deleted(life: Life) -> None:
    """Two models want one artifact; the one that compiles it goes, and the other goes on."""
    released = asyncio.Event()

    async def when_released(job: dict[str, Any]) -> ContainerEnd:
        if job["metadata"]["labels"][names.MODEL_LABEL] == "first":
            await released.wait()
        return await life.bed.compile(job)

    life.bed.compiles[life.namespace] = when_released
    await life.create("first")
    await life.until_jobs(1)
    await life.create("second")
    await life.until_phase("Compiling", "second")
    await life.delete("first")
    await life.until_phase("Ready", "second")


async def suspended_and_resumed(life: Life) -> None:
    """Serving stops and starts again; nothing is compiled for it."""
    await create_to_ready(life)
    await life.edit(suspend=True)
    await life.until_phase("Suspended")
    await life.edit(suspend=None)
    await life.until_phase("Ready")


async def scaled_to_zero_and_back(life: Life) -> None:
    """No replicas, then two."""
    await create_to_ready(life)
    await life.edit(serving={"replicas": 0})
    await life.until_phase("Ready")
    await life.edit(serving={"replicas": 2})
    await life.until_phase("Ready")


async def deleted_while_compiling(life: Life) -> None:
    """Deletion in the middle, and the same name again."""
    running = asyncio.Event()

    async def never(job: dict[str, Any]) -> ContainerEnd:
        running.set()
        await asyncio.sleep(3600)
        raise AssertionError

    life.bed.compiles[life.namespace] = never
    await life.create()
    await life.until_jobs(1)
    await running.wait()
    await life.delete()
    await life.until_gone()
    del life.bed.compiles[life.namespace]
    await create_to_ready(life)


async def status_wiped(life: Life) -> None:
    """Somebody takes the status away."""
    await create_to_ready(life)
    await life.wipe_status()
    await life.until_phase("Ready")


LIVES: dict[str, Script] = {
    script.__name__: script
    for script in (
        create_to_ready,
        two_revisions,
        two_revisions_and_the_end,
        failure_and_success,
        change_during_compile,
        holder_deleted,
        suspended_and_resumed,
        scaled_to_zero_and_back,
        deleted_while_compiling,
        status_wiped,
    )
}
