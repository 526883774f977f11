"""Ours, without a server: the graphs of an artifact, called as the scheduler calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.engines import open_engine
from neuron_runtime.engines.base import DecodeRow, GenerationSession, PrefillRow
from serving.contestants import Generated


class Graphs:
    """A session of the artifact's engine."""

    def __init__(self, source: Path, artifact: Path, manifest: Path) -> None:
        self._manifest = ArtifactManifest.model_validate_json(manifest.read_text("utf-8"))
        engine = open_engine(self._manifest.request.engine)
        session = engine.load(self._manifest, artifact, source, threads=1)
        if not isinstance(session, GenerationSession):
            raise TypeError(f"{self._manifest.request.task.value} generates nothing")
        session.warm_up()
        self._session = session

    def versions(self) -> Mapping[str, str]:
        """What the graphs were compiled with."""
        return self._manifest.request.toolchain

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        """One prompt after the other, each in chunks of what the largest graph takes; then all of them together."""
        started = perf_counter()
        answers = [[self._prefill(slot, prompt)] for slot, prompt in enumerate(prompts)]
        at = perf_counter()
        prefill, steps = at - started, []
        for position in range(len(prompts[0]), len(prompts[0]) + tokens - 1):
            step = self._session.decode([DecodeRow(slot, answer[-1], position) for slot, answer in enumerate(answers)])
            for answer, token in zip(answers, step.tokens.tolist(), strict=True):
                answer.append(token)
            now = perf_counter()
            steps.append(now - at)
            at = now
        for slot in range(len(prompts)):
            self._session.release(slot)
        return Generated(prefill, tuple(steps), tuple(map(tuple, answers)))

    def _prefill(self, slot: int, prompt: Sequence[int]) -> int:
        chunk = self._session.capabilities.prefill_tokens
        for start in range(0, len(prompt), chunk):
            step = self._session.prefill([PrefillRow(slot, prompt[start : start + chunk], start)])
        return int(step.tokens[0])
