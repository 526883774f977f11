"""A deterministic engine for the server's tests: it holds the caller to the protocol and says what it was told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.request import Task
from neuron_runtime.engines.base import Capabilities, DecodeRow, PrefillRow, Sampling, Session, Step, Wait
from support.scripted_encoder import ScriptedEncoder

END = "<|end|>"
PREFILL_TOKENS = 8
MAX_MODEL_LENGTH = 64

_TEMPLATE = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{{ eos_token }}{% endfor %}a:"


def byte_tokenizer() -> Tokenizer:
    """One token for each byte, so that every character beyond ASCII takes several; and one that ends answers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    return tokenizer


def write_snapshot(folder: Path) -> None:
    """The files of a source that a server reads."""
    folder.mkdir(parents=True, exist_ok=True)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, "chat_template": _TEMPLATE}))
    (folder / "config.json").write_text("{}")


@dataclass
class _Slot:
    """What the engine holds of one sequence."""

    prompt: list[int] = field(default_factory=list)
    said: list[int] = field(default_factory=list)


Speak = Callable[[Sequence[int], Sequence[int]], npt.NDArray[np.float32]]
"""Logits of what follows a prompt and what was said after it."""


class ScriptedSession:
    """Says `script` after every prompt, over and over, or what `speak` says.

    It holds the caller to the protocol: what breaks it is in `broken_rules`, for an engine's errors are caught.
    """

    def __init__(self, script: str, **capabilities: Any) -> None:
        self.tokenizer = byte_tokenizer()
        self.script = self.tokenizer.encode(script).ids
        self.speak: Speak = self._recite
        limits: dict[str, Any] = {
            "max_model_length": MAX_MODEL_LENGTH,
            "slots": 1,
            "vocabulary": self.tokenizer.get_vocab_size(),
            "prefill_tokens": PREFILL_TOKENS,
            "prefill_batches": (1,),
            "decode_batches": (1,),
            "mixed_steps": False,
            "chunked_prefill": True,
            "static_batch": False,
            "sampling": Sampling.LOGITS,
        }
        self.capabilities = Capabilities(**(limits | capabilities))
        self.calls: list[Sequence[PrefillRow | DecodeRow]] = []
        """The rows of every step that ran."""
        self.prompt: list[int] = []
        """That of the newest prefill step's last row."""
        self.broken_rules: list[str] = []
        self.closed = False
        self.fail = False
        self.fail_decodes = False
        self.fail_slots: set[int] = set()
        """Steps with a row in one of these fail."""
        self.steps: threading.Semaphore | None = None
        """When set, each decode step takes one of these: the test decides how far the engine gets."""
        self._slots: dict[int, _Slot] = {}
        self._results: list[npt.NDArray[Any]] = []

    @property
    def prefills(self) -> list[tuple[int, int]]:
        """(start, tokens) of every row of every prefill step."""
        return [(row.start, len(row.tokens)) for call in self.calls for row in call if isinstance(row, PrefillRow)]

    @property
    def decodes(self) -> int:
        """Decode steps that ran."""
        return sum(isinstance(call[0], DecodeRow) for call in self.calls)

    @property
    def held(self) -> set[int]:
        """Slots that were not released."""
        return set(self._slots)

    def warm_up(self) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        self.closed = True

    def prefill(self, rows: Sequence[PrefillRow]) -> Step:
        limits = self.capabilities
        self._begin(rows, limits.prefill_batches[-1])
        for row in rows:
            self._rule(0 < len(row.tokens) <= limits.prefill_tokens, f"{row}: too few tokens, or too many")
            others = (other for number, other in self._slots.items() if number not in {row.slot for row in rows})
            self._rule(not limits.static_batch or not any(other.said for other in others), f"{row} comes too late")
            self._take(row)
        return self._step(rows)

    def _take(self, row: PrefillRow) -> None:
        """Tokens of a prompt."""
        slot = self._slots.setdefault(row.slot, _Slot())
        self._rule(row.start == len(slot.prompt) and not slot.said, f"{row} follows {slot}")
        self._rule(self.capabilities.chunked_prefill or row.start == 0, f"{row}: prompts are not taken in pieces")
        slot.prompt.extend(row.tokens)
        self.prompt = list(slot.prompt)

    def decode(self, rows: Sequence[DecodeRow], prompts: Sequence[PrefillRow] = ()) -> Step:
        if self.steps is not None:
            self.steps.acquire()
        limits = self.capabilities
        if self.fail_decodes:
            raise RuntimeError("the device is gone")
        self._begin([*rows, *prompts], limits.decode_batches[-1])
        taken = len(rows) + sum(len(row.tokens) for row in prompts)
        self._rule(taken <= limits.decode_batches[-1], f"{taken} tokens")
        self._rule(bool(rows) and (limits.mixed_steps or not prompts), f"{len(rows)} rows, {len(prompts)} prompts")
        listed = {row.slot for row in rows}
        self._rule(not limits.static_batch or listed == self.held, f"of {self.held} only {listed} are advanced")
        for row in rows:
            slot = self._slots.setdefault(row.slot, _Slot())
            self._rule(bool(slot.prompt), f"{row} follows nothing")
            self._rule(row.position == len(slot.prompt) + len(slot.said), f"{row} follows {slot}")
            self._rule(row.position < limits.max_model_length, f"{row} is beyond the context")
            slot.said.append(row.token)
        for prompt in prompts:
            self._rule(bool(prompt.tokens), f"{prompt}: too few tokens")
            self._take(prompt)
        return self._step([*rows, *prompts])

    def release(self, slot: int) -> None:
        self._slots.pop(slot, None)

    def _begin(self, rows: Sequence[PrefillRow | DecodeRow], most: int) -> None:
        # What a step returned is gone with the next one.
        for result in self._results:
            result.fill(-1)
        slots = [row.slot for row in rows]
        if self.fail or self.fail_slots & set(slots):
            raise RuntimeError("the device is gone")
        self._rule(0 < len(rows) <= most, f"{len(rows)} rows")
        self._rule(len(set(slots)) == len(slots), f"slots {slots}")
        self._rule(all(0 <= slot < self.capabilities.slots for slot in slots), f"slots {slots}")

    def _step(self, rows: Sequence[PrefillRow | DecodeRow]) -> Step:
        self.calls.append(tuple(rows))
        slots = [self._slots[row.slot] for row in rows]
        logits = np.stack([self.speak(slot.prompt, slot.said) for slot in slots])
        tokens = logits.argmax(axis=1)
        self._results = [logits, tokens]
        return Step(tokens=tokens, logits=logits if self.capabilities.sampling is Sampling.LOGITS else None)

    def _recite(self, _prompt: Sequence[int], said: Sequence[int]) -> npt.NDArray[np.float32]:
        logits = np.zeros(self.tokenizer.get_vocab_size(), dtype=np.float32)
        logits[self.script[len(said) % len(self.script)]] = 100.0
        return logits

    def _rule(self, kept: bool, message: str) -> None:
        if not kept:
            self.broken_rules.append(message)
            raise AssertionError(message)


class ScriptedEngine:
    """Loads a text file as the script of its sessions; for embeddings, an encoder that has none."""

    def __init__(self, _kind: Any = None) -> None:
        pass

    def check(self, manifest: ArtifactManifest) -> None:
        if manifest.request.toolchain != {"script": "1"}:
            raise ContainerFailure(FailureCode.ARTIFACT_INCOMPATIBLE, f"toolchain {manifest.request.toolchain}")

    def reads_source(self, path: str) -> bool:
        return False

    def load(self, manifest: ArtifactManifest, artifact: Path, source: Path, threads: int, wait: Wait) -> Session:
        for file in manifest.files:
            wait(file.path)
        assert sorted(file.name for file in source.iterdir()) == [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        if manifest.request.task is Task.EMBEDDING:
            return ScriptedEncoder()
        return ScriptedSession((artifact / "script.txt").read_text())
