"""The process of one contestant: `python -m serving.worker NAME JSON`, where JSON has the arguments that it takes.

It says `{"versions": ...}` once it has loaded, then answers each line `{"prompts": ..., "tokens": ...}` with one line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from serving.contestants import Contestant


def load(name: str, described: Mapping[str, str | int]) -> Contestant:
    """Load one contestant; imports its library. Texts are paths."""
    arguments: dict[str, Any] = {
        key: Path(value) if isinstance(value, str) else value for key, value in described.items()
    }
    if name == "graphs":
        from serving.contestants.graphs import Graphs

        return Graphs(**arguments)
    if name == "transformers":
        from serving.contestants.transformers_generate import TransformersGenerate

        return TransformersGenerate(**arguments)
    if name == "llama.cpp":
        from serving.contestants.llama_cpp_batch import LlamaCppBatch

        return LlamaCppBatch(**arguments)
    raise ValueError(f"no contestant {name}")


def work(contestant: Contestant, questions: IO[str], answers: IO[str]) -> None:
    """Until the questions end."""
    _say(answers, {"versions": dict(contestant.versions())})
    for line in questions:
        question = json.loads(line)
        _say(answers, contestant.generate(question["prompts"], question["tokens"]).document())


def _say(answers: IO[str], document: Mapping[str, object]) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


def main() -> None:
    """Run as the process."""
    # Libraries print what they like; it must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    work(load(sys.argv[1], json.loads(sys.argv[2])), sys.stdin, answers)


if __name__ == "__main__":
    main()
