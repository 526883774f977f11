"""One run: everything is started, then measured round by round, so that a disturbance meets all contestants alike."""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.compiled import CompiledModel, compiled, source_folder, weights
from serving.figures import (
    ALONE,
    ARRIVALS,
    FULL,
    GRAPHS,
    LLAMA_CPP,
    TRANSFORMERS,
    TWICE,
    LoadFigures,
    Measured,
    Round,
    Start,
    load_figures,
    raw_figures,
)
from serving.load import Load, LoadResult, Question
from serving.prompts import questions
from serving.servers import SERVED_NAME, Launch, Server, ServerFailed, own_server, started_server, vllm_server
from serving.settings import Settings
from serving.workers import Worker, environment, read_bandwidth, started_worker

Tell = Callable[[str], None]

_LOAD_SECONDS = 600.0
_WARM_UP_TOKENS = 8


class LengthsDiffer(Exception):
    """A server makes another prompt of a question than the other contestants were given."""


@dataclass(frozen=True)
class Peers:
    """Interpreters that have further contestants; None for those that are not installed."""

    llama_cpp: str | None
    vllm: str | None


@dataclass(frozen=True)
class _Prompt:
    text: str
    tokens: tuple[int, ...]


def run(settings: Settings, peers: Peers, folder: Path, tell: Tell) -> Measured:
    """Measure. Everything that is started writes its log into `folder`, and has ended when this returns."""
    source = source_folder(settings.model, folder / "source")
    model = compiled(settings, source, tell)
    prompts = _prompts(settings, source)
    sizes = weights(source)
    with ExitStack() as stack:
        launch = stack.enter_context(own_server(model, folder))
        starts = _starts(launch, settings.starts, folder, tell)
        servers = [stack.enter_context(started_server(launch, folder))]
        if peers.vllm:
            vllm = vllm_server(peers.vllm, source, settings.slots, settings.shapes.max_model_length)
            servers.append(stack.enter_context(started_server(vllm, folder)))
        workers = _workers(stack, settings, model, peers, folder, tell)
        for server in servers:
            _warm_up(server, settings, prompts)
        for worker in workers:
            for batch in settings.batches:
                worker.generate([prompt.tokens for prompt in prompts[:batch]], _WARM_UP_TOKENS)
        rounds = []
        for number in range(settings.rounds):
            tell(f"round {number + 1} of {settings.rounds}")
            rounds.append(_round(settings, prompts, workers, servers, tell))
        starts.append(Start(servers[0].start_seconds, servers[0].memory_bytes()))
    return Measured(
        settings={**asdict(settings), "shapes": settings.shapes.to_document()},
        versions={worker.name: worker.versions for worker in workers},
        slots=settings.slots,
        judged=settings.judged,
        weight_bytes=sizes.total,
        step_bytes=sizes.step,
        starts=starts,
        rounds=rounds,
    )


def machine() -> dict[str, Any]:
    """What the figures depend on, beside the software: for people who compare runs."""
    names = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def _prompts(settings: Settings, source: Path) -> list[_Prompt]:
    """One for each stream of the heaviest load."""
    # Takes seconds to import, and no other process of ours needs it.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)

    def tokens(text: str) -> list[int]:
        messages = [{"role": "user", "content": text}]
        return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    texts = questions(2 * settings.slots, settings.prompt_tokens, lambda text: len(tokens(text)))
    return [_Prompt(text, tuple(tokens(text))) for text in texts]


def _starts(launch: Launch, count: int, folder: Path, tell: Tell) -> list[Start]:
    """The first start brings the files to local disk, and is not counted."""
    starts = []
    for number in range(count + 1):
        tell(f"start {number} of {count}")
        with started_server(launch, folder) as server:
            starts.append(Start(server.start_seconds, server.memory_bytes()))
    return starts[1:]


def _workers(
    stack: ExitStack, settings: Settings, model: CompiledModel, peers: Peers, folder: Path, tell: Tell
) -> list[Worker]:
    tell("loading the contestants")
    paths = {"source": model.source, "artifact": model.artifact, "manifest": model.manifest_path}
    started = [
        started_worker(GRAPHS, paths, folder),
        started_worker(TRANSFORMERS, {"source": model.source}, folder),
    ]
    if peers.llama_cpp:
        from serving.gguf_file import write_gguf

        path = folder / "model.gguf"
        write_gguf(model.source, path)
        sizes: dict[str, Path | int] = {
            "model": path,
            "slots": settings.slots,
            "context": settings.shapes.max_model_length,
        }
        started.append(started_worker(LLAMA_CPP, sizes, folder, peers.llama_cpp))
    return [stack.enter_context(worker) for worker in started]


def _warm_up(server: Server, settings: Settings, prompts: Sequence[_Prompt]) -> None:
    """Raises ServerFailed or LengthsDiffer."""
    result = _put(server, settings.slots, [Question(prompt.text, _WARM_UP_TOKENS) for prompt in prompts])
    for answer in result.answers:
        if answer.error is not None:
            raise ServerFailed(f"{server.name}: {answer.error}")
    lengths = {answer.prompt_tokens for answer in result.answers}
    if lengths - {settings.prompt_tokens}:
        raise LengthsDiffer(f"{server.name} counts {lengths} tokens for prompts of {settings.prompt_tokens}")


def _round(
    settings: Settings, prompts: Sequence[_Prompt], workers: Sequence[Worker], servers: Sequence[Server], tell: Tell
) -> Round:
    tell("memory")
    bandwidth = read_bandwidth()
    raw: dict[str, dict[int, Any]] = {worker.name: {} for worker in workers}
    for batch in settings.batches:
        for worker in workers:
            tell(f"decode B{batch} {worker.name}")
            tokens = [prompt.tokens for prompt in prompts[:batch]]
            raw[worker.name][batch] = raw_figures(worker.generate(tokens, settings.answer_tokens))
    loads: dict[str, dict[str, LoadFigures]] = {server.name: {} for server in servers}
    for name, (streams, asked) in _loads(settings, prompts).items():
        for server in servers:
            tell(f"served {name} {server.name}")
            before = server.graph_seconds()
            result = _put(server, streams, asked)
            after = server.graph_seconds()
            graphs = None if before is None or after is None else after - before
            loads[server.name][name] = load_figures(streams, result, graphs)
    return Round(bandwidth, raw, loads)


def _loads(settings: Settings, prompts: Sequence[_Prompt]) -> Mapping[str, tuple[int, list[Question]]]:
    """Streams and questions of each load, the same in every round."""

    def asked(streams: int, lengths: Callable[[], int]) -> list[Question]:
        count = streams * settings.questions_per_stream
        return [Question(prompts[number % len(prompts)].text, lengths()) for number in range(count)]

    def equal() -> int:
        return settings.answer_tokens

    # Answers of different lengths: from the first end on, prompts arrive while all other streams are being answered.
    lengths = random.Random(0)  # noqa: S311 - the same in every run
    low, high = settings.answer_tokens // 2, 3 * settings.answer_tokens // 2
    return {
        ALONE: (1, asked(1, equal)),
        FULL: (settings.slots, asked(settings.slots, equal)),
        TWICE: (2 * settings.slots, asked(2 * settings.slots, equal)),
        ARRIVALS: (settings.slots, asked(settings.slots, lambda: lengths.randint(low, high))),
    }


def _put(server: Server, streams: int, asked: Sequence[Question]) -> LoadResult:
    load = Load(server.port, SERVED_NAME, streams, tuple(asked), _LOAD_SECONDS)
    result = subprocess.run(
        [sys.executable, "-m", "serving.load_client"],
        env=environment(),
        input=json.dumps(load.document()),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_LOAD_SECONDS + 60,
    )
    return LoadResult.parse(json.loads(result.stdout))
