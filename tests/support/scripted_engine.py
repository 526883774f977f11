"""A deterministic engine for the server's tests: it holds the caller to the protocol and says what it was told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.engines.base import Capabilities, DecodeRow, PrefillRow, Sampling, Step

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


class ScriptedSession:
    """Says `script` after every prompt, over and over; fails the test when it is not driven as an engine must be."""

    def __init__(self, script: str) -> None:
        self.tokenizer = byte_tokenizer()
        self.script = self.tokenizer.encode(script).ids
        self.capabilities = Capabilities(
            max_model_length=MAX_MODEL_LENGTH,
            slots=1,
            vocabulary=self.tokenizer.get_vocab_size(),
            prefill_tokens=PREFILL_TOKENS,
            prefill_batches=(1,),
            decode_batches=(1,),
            chunked_prefill=True,
            static_batch=False,
            sampling=Sampling.LOGITS,
        )
        self.prefills: list[tuple[int, int]] = []
        """(start, tokens) of every prefill step."""
        self.decodes = 0
        self.prompt: list[int] = []
        self.closed = False
        self.fail = False
        self.steps: threading.Semaphore | None = None
        """When set, each decode step takes one of these: the test decides how far the engine gets."""
        self._cached: list[int] = []

    def warm_up(self) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        self.closed = True

    def prefill(self, rows: Sequence[PrefillRow]) -> Step:
        if self.fail:
            raise RuntimeError("the device is gone")
        (row,) = rows
        assert row.slot == 0
        assert 0 < len(row.tokens) <= PREFILL_TOKENS
        assert row.start == 0 or row.start == len(self._cached)
        self._cached = [*self._cached[: row.start], *row.tokens]
        self.prompt = list(self._cached)
        self.prefills.append((row.start, len(row.tokens)))
        return self._step()

    def decode(self, rows: Sequence[DecodeRow]) -> Step:
        if self.steps is not None:
            self.steps.acquire()
        if self.fail:
            raise RuntimeError("the device is gone")
        (row,) = rows
        assert (row.slot, row.position) == (0, len(self._cached))
        assert row.position < MAX_MODEL_LENGTH
        self._cached.append(row.token)
        self.decodes += 1
        return self._step()

    def release(self, slot: int) -> None:
        assert slot == 0
        self._cached = []

    def _step(self) -> Step:
        logits = np.zeros((1, self.tokenizer.get_vocab_size()), dtype=np.float32)
        logits[0, self.script[(len(self._cached) - len(self.prompt)) % len(self.script)]] = 100.0
        return Step(tokens=logits.argmax(axis=1), logits=logits)


class ScriptedEngine:
    """Loads a text file as the script of its sessions."""

    def __init__(self, _kind: Any = None) -> None:
        pass

    def check(self, manifest: ArtifactManifest) -> None:
        if manifest.request.toolchain != {"script": "1"}:
            raise ContainerFailure(FailureCode.ARTIFACT_INCOMPATIBLE, f"toolchain {manifest.request.toolchain}")

    def reads_source(self, path: str) -> bool:
        return False

    def load(self, manifest: ArtifactManifest, artifact: Path, source: Path, threads: int) -> ScriptedSession:
        assert sorted(file.name for file in source.iterdir()) == [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        return ScriptedSession((artifact / "script.txt").read_text())
