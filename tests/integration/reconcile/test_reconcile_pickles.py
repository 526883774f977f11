"""Pickled weights: refused by name, taken by those who say so, and never because of a default."""

from __future__ import annotations

from neuron_operator.api.objects import JOB, Manifest
from neuron_runtime.contract.launch import COMPILE_SPEC_VARIABLE, CompileSpec
from neuron_runtime.contract.source import source_digest
from support.hub import Hub
from support.reconciling import World, condition


def _spec(job: Manifest) -> CompileSpec:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (value,) = (entry["value"] for entry in container["env"] if entry["name"] == COMPILE_SPEC_VARIABLE)
    return CompileSpec.model_validate_json(value)


async def test_pickled_weights_need_a_word_of_the_spec(world: World, hub: Hub) -> None:
    hub.weights = "pytorch_model.bin"
    world.create_model()
    status = await world.settle()
    assert condition(status, "SourceResolved") == ("False", "UnsupportedFormat")
    assert "model.allowPickle" in status["lastFailure"]["remedy"]
    assert "trust" in status["lastFailure"]["remedy"], "the risk is named with the remedy"
    assert not await world.all(JOB)

    world.edit({"model": {"allowPickle": True}})
    status = await world.settle()
    assert condition(status, "SourceResolved") == ("True", "Resolved")
    spec = _spec(await world.one(JOB))
    assert spec.allow_pickle is True
    assert spec.request.source_digest == source_digest(hub.files(), allow_pickle=True) == status["source"]["digest"]


async def test_allowing_pickles_takes_none_where_there_are_safetensors(world: World, hub: Hub) -> None:
    world.create_model(model={"huggingFace": {"repo": "org/llama"}, "allowPickle": True})
    await world.settle()
    assert _spec(await world.one(JOB)).request.source_digest == hub.digest


async def test_neither_weights_nor_leave_to_take_pickles_help_each_other(world: World, hub: Hub) -> None:
    hub.weights = None
    world.create_model(model={"huggingFace": {"repo": "org/llama"}, "allowPickle": True})
    status = await world.settle()
    assert condition(status, "SourceResolved") == ("False", "UnsupportedFormat")
    assert "pytorch_model*.bin" in status["lastFailure"]["remedy"]
    assert "allowPickle" not in status["lastFailure"]["remedy"]
