"""The planner: from a model's facts and what the user asked for to shapes, memory and engine.

Here for the CPU engine, which runs one replica on one node, holds the KV cache in float32, and weights in that or in
int8. Encoders have no KV cache, and no graphs but those of their steps.
"""

from dataclasses import dataclass

from neuron_runtime.contract.request import DType, Engine, Quantization, Shapes, Target

from .encoder_facts import EncoderFacts
from .model_facts import ModelFacts
from .refusal import DoesNotFit

MIB = 1024 * 1024

_ELEMENT_BYTES = {DType.FLOAT32: 4}
# Which engine runs where, the best first.
_COMBINATIONS = ((Engine.CPU, Target.CPU),)
# Prompts are taken in steps of this many tokens: one graph serves every prompt length.
_PREFILL_TOKENS = 64
# Least tokens of prompts that a step takes beside the sequences that it advances.
_PROMPT_TOKENS_BESIDE = 8
# Texts of an encoder are filled up to a graph's length, of which this is the first.
_SHORTEST_TEXT = 32
# A compile's time grows with the context, and so does each decode step; longer contexts are asked for by name.
_DEFAULT_CPU_MODEL_LENGTH = 512
# Interpreter, torch's libraries, tokenizer, graph workspace: what a serving process holds besides weights and cache.
_SERVING_PROCESS_BYTES = 1024 * MIB
# Peak of one graph's compilation besides the weights: export, code generation and the C++ compiler.
_COMPILE_PROCESS_BYTES = 2048 * MIB
_COMPILE_WORKERS = 2
# A configuration may claim anything; what is planned has to fit the 64 bits that a status has for a size.
_LARGEST_NODE_BYTES = 64 * 1024 * 1024 * MIB


@dataclass(frozen=True)
class Wishes:
    """What the spec asks for; None where the user left the choice to the planner."""

    max_model_length: int | None
    max_batch_size: int
    dtype: DType
    quantization: Quantization = Quantization.NONE
    context_lengths: tuple[int, ...] = ()
    """Ascending; empty where the planner is to choose."""
    engine: Engine | None = None
    target: Target | None = None


@dataclass(frozen=True)
class Memory:
    """Where a serving replica's memory goes, in bytes."""

    weights: int
    kv_cache: int
    workspace: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.workspace


@dataclass(frozen=True)
class Plan:
    """What is compiled, and what a compile Job and a serving replica need."""

    engine: Engine
    target: Target
    dtype: DType
    quantization: Quantization
    shapes: Shapes
    memory: Memory
    compile_memory: int
    """Bytes that the compile Job asks for."""
    compile_workers: int
    """Graphs that are compiled at the same time."""
    explanation: str
    """One sentence for a person."""


def plan(facts: ModelFacts | EncoderFacts, wishes: Wishes) -> Plan:
    """Plan a model. Raises DoesNotFit."""
    engine, target = _engine_and_target(wishes)
    length = wishes.max_model_length or min(facts.max_position, _DEFAULT_CPU_MODEL_LENGTH)
    if length > facts.max_position:
        raise DoesNotFit(
            f"shapes.maxModelLength is {length}, but the model's max_position_embeddings is {facts.max_position}",
            f"Set shapes.maxModelLength to {facts.max_position} or less",
        )
    if max(wishes.context_lengths, default=0) > length:
        raise DoesNotFit(
            f"shapes.buckets.contextLengths has {max(wishes.context_lengths)}, but a sequence holds {length} tokens",
            f"Leave lengths beyond {length} out of shapes.buckets.contextLengths"
            + (", or raise shapes.maxModelLength" if max(wishes.context_lengths) <= facts.max_position else ""),
        )
    if isinstance(facts, EncoderFacts) and wishes.quantization is not Quantization.NONE:
        raise DoesNotFit(
            f"shapes.quantization is {wishes.quantization.value}, but encoders are compiled without",
            "Set shapes.quantization to None",
        )
    memory = _memory(facts, wishes, length)
    if memory.total > _LARGEST_NODE_BYTES:
        raise DoesNotFit(
            f"{facts.parameters} parameters, and {wishes.max_batch_size} sequences of {length} tokens, need "
            f"{_mib(memory.total)}, which no node has",
            "Reduce shapes.maxModelLength or shapes.maxBatchSize, or set model.huggingFace.repo to a smaller model",
        )
    return Plan(
        engine=engine,
        target=target,
        dtype=wishes.dtype,
        quantization=wishes.quantization,
        shapes=_shapes(facts, wishes, length),
        memory=memory,
        # Weights are read as they are published, whatever becomes of them.
        compile_memory=2 * facts.parameters * _ELEMENT_BYTES[wishes.dtype] + _COMPILE_WORKERS * _COMPILE_PROCESS_BYTES,
        compile_workers=_COMPILE_WORKERS,
        explanation=_explain(facts, wishes, memory, length),
    )


def _memory(facts: ModelFacts | EncoderFacts, wishes: Wishes, length: int) -> Memory:
    element, rows = _ELEMENT_BYTES[wishes.dtype], wishes.max_batch_size
    if isinstance(facts, EncoderFacts):
        weights = facts.parameters * element
        step = facts.activation_bytes(texts=rows, length=length, element_bytes=element)
        return Memory(weights=weights, kv_cache=0, workspace=_SERVING_PROCESS_BYTES + step)
    weights = facts.weight_bytes(wishes.quantization, element_bytes=element)
    cache = facts.kv_cache_bytes(slots=rows, length=length, element_bytes=element)
    shapes = _shapes(facts, wishes, length)
    step = max(
        facts.activation_bytes(tokens=max(shapes.context_lengths), answers=1, element_bytes=element),
        *(
            facts.activation_bytes(tokens=batch, answers=batch, element_bytes=element)
            for batch in shapes.token_generation_batches
        ),
    )
    return Memory(weights=weights, kv_cache=cache, workspace=_SERVING_PROCESS_BYTES + step)


def _shapes(facts: ModelFacts | EncoderFacts, wishes: Wishes, length: int) -> Shapes:
    is_encoder = isinstance(facts, EncoderFacts)
    return Shapes(
        max_model_length=length,
        max_batch_size=wishes.max_batch_size,
        context_lengths=_context_lengths(is_encoder, wishes.context_lengths, length),
        token_generation_batches=() if is_encoder else _decode_batches(wishes.max_batch_size),
    )


def _context_lengths(is_encoder: bool, wished: tuple[int, ...], longest: int) -> tuple[int, ...]:
    """What is wished; texts are not taken in pieces, and need a graph for the longest of them in any case."""
    if is_encoder:
        return tuple(sorted({*wished, longest})) if wished else _text_lengths(longest)
    return wished or (min(_PREFILL_TOKENS, longest),)


def _text_lengths(longest: int) -> tuple[int, ...]:
    """32, 64, 128 and so on, and the longest: a text does not pay for much more than itself."""
    powers = (_SHORTEST_TEXT * 2**exponent for exponent in range(longest.bit_length()))
    return (*(length for length in powers if length < longest), longest)


def _decode_batches(slots: int) -> tuple[int, ...]:
    """1, 4, 16 and so on, all slots, and with several slots more than those: few sequences must not pay for many, and
    each more graph is compiled for a minute. What is beyond the slots takes prompts beside the answers that run: of
    those, no step then takes much longer than the others."""
    powers = (4**exponent for exponent in range(slots.bit_length()))
    batches = (*(batch for batch in powers if batch < slots), slots)
    return batches if slots == 1 else (*batches, slots + max(_PROMPT_TOKENS_BESIDE, slots // 2))


def _engine_and_target(wishes: Wishes) -> tuple[Engine, Target]:
    for engine, target in _COMBINATIONS:
        if wishes.engine in (None, engine) and wishes.target in (None, target):
            return engine, target
    engine_text, target_text = (wish.value if wish is not None else "Auto" for wish in (wishes.engine, wishes.target))
    raise DoesNotFit(
        f"runtime.engine {engine_text} does not run on hardware.target {target_text}",
        "Set runtime.engine or hardware.target to Auto",
    )


def _explain(facts: ModelFacts | EncoderFacts, wishes: Wishes, memory: Memory, length: int) -> str:
    kept = wishes.dtype.value if wishes.quantization is Quantization.NONE else wishes.quantization.value
    weights = f"{_millions(facts.parameters)} parameters in {kept} on CPU: {_mib(memory.weights)} of weights, "
    if isinstance(facts, EncoderFacts):
        return weights + (
            f"{_mib(memory.workspace)} for the process and its steps of {wishes.max_batch_size} texts of {length} "
            f"tokens, {_mib(memory.total)} in all"
        )
    return weights + (
        f"{_mib(memory.kv_cache)} of KV cache for {wishes.max_batch_size} sequences of {length} tokens, "
        f"{_mib(memory.workspace)} for the process, {_mib(memory.total)} in all"
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.0f}M" if count >= 10_000_000 else f"{count / 1e6:.1f}M"


def _mib(size: int) -> str:
    return f"{-(-size // MIB)} MiB"
