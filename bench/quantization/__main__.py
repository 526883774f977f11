"""`python -m quantization`: int8 weights against float32, round by round in one process: a table, and JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, thread_time
from typing import Any

from neuron_runtime.contract.request import Quantization
from neuron_runtime.engines import open_engine
from neuron_runtime.engines.base import DecodeRow, GenerationSession, PrefillRow
from neuron_runtime.engines.weight_file import WEIGHTS
from quantization.perplexity import judge
from quantization.settings import SIZES, Settings
from serving.compiled import CompiledModel, compiled, source_folder
from serving.run import machine
from serving.spread import Spread, spread, three_digits

_FLOAT32, _INT8 = Quantization.NONE, Quantization.INT8
_NAMES = {_FLOAT32: "float32", _INT8: "int8"}
_TEXT = Path(__file__).with_name("text.txt")
# Another process may be on the other core; one thread is what is compared.
_THREADS = 1

Times = Mapping[str, Mapping[Quantization, Sequence[float]]]
"""Seconds by what was done and with which weights, one of each round: those of the thread on a processor, since all is
done on one thread and other processes may want the processor as well."""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    settings, before, started = SIZES[options.model], machine(), monotonic()

    def tell(what: str) -> None:
        print(f"{monotonic() - started:6.0f} s  {what}", file=sys.stderr, flush=True)

    with TemporaryDirectory(prefix="neuron-operator-bench-") as folder:
        source = source_folder(options.model, Path(folder) / "source")
        models = {kind: compiled(settings.compiled, source, tell, kind) for kind in _NAMES}
        times = _measure(settings, models, options.rounds, tell)
        tell("reading the text")
        text = _tokens(source)[: settings.text_tokens]
        judged = {kind: judge(_load(model), text, settings.window) for kind, model in models.items()}
    ratios = {
        f"{what}: float32 / int8": spread(map(float.__truediv__, both[_FLOAT32], both[_INT8]))
        for what, both in times.items()
    }
    document = {
        "machine": before,
        "model": options.model,
        "rounds": options.rounds,
        "decodedTokens": settings.decoded,
        "weightFileBytes": {_NAMES[kind]: (model.artifact / WEIGHTS).stat().st_size for kind, model in models.items()},
        "seconds": {
            what: {_NAMES[kind]: asdict(spread(values)) for kind, values in both.items()}
            for what, both in times.items()
        },
        "ratios": {name: asdict(value) for name, value in ratios.items()},
        "text": {"tokens": len(text), "judged": len(judged[_INT8].losses), "window": settings.window},
        "perplexity": {_NAMES[kind]: found.perplexity for kind, found in judged.items()},
        "sameFavorite": judged[_FLOAT32].agreement(judged[_INT8]),
    }
    print(_table(document, ratios))
    options.out.mkdir(parents=True, exist_ok=True)
    result = options.out / f"quantization-{options.model}.json"
    result.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"\n{result}")
    return 0


def _measure(
    settings: Settings, models: Mapping[Quantization, CompiledModel], rounds: int, tell: Callable[[str], None]
) -> Times:
    """Time both, one after the other, in every round. What a round does first moves from round to round."""
    batches = settings.compiled.shapes.token_generation_batches
    things = ["load", "prefill", *(f"decode B{batch}" for batch in batches)]
    times: dict[str, dict[Quantization, list[float]]] = {thing: {kind: [] for kind in models} for thing in things}
    # The first load of a process is also that of torch's library.
    _load(models[_FLOAT32]).close()
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        order = sorted(models, key=list(_NAMES).index, reverse=number % 2 == 1)
        sessions = dict[Quantization, GenerationSession]()
        for kind in order:
            started = thread_time()
            sessions[kind] = _load(models[kind])
            times["load"][kind].append(thread_time() - started)
            sessions[kind].warm_up()
        for kind in order:
            times["prefill"][kind].append(_prefill(sessions[kind]))
        for batch in batches:
            for kind in order:
                times[f"decode B{batch}"][kind].append(_decode(sessions[kind], batch, settings.decoded))
        for session in sessions.values():
            session.close()
    return times


def _load(model: CompiledModel) -> GenerationSession:
    manifest = model.manifest
    session = open_engine(manifest.request.engine).load(manifest, model.artifact, model.source, _THREADS)
    assert isinstance(session, GenerationSession)
    return session


def _prefill(session: GenerationSession) -> float:
    """Seconds of one full prefill step."""
    started = thread_time()
    session.prefill([PrefillRow(0, range(session.capabilities.prefill_tokens), 0)])
    return thread_time() - started


def _decode(session: GenerationSession, batch: int, count: int) -> float:
    """Seconds of so many decode steps, each of a whole batch."""
    tokens = list(range(batch))
    started = thread_time()
    for position in range(count):
        step = session.decode([DecodeRow(slot, token, position) for slot, token in enumerate(tokens)])
        tokens = step.tokens.tolist()
    return thread_time() - started


def _tokens(source: Path) -> list[int]:
    # Takes seconds to import.
    from transformers import AutoTokenizer

    return list(AutoTokenizer.from_pretrained(source).encode(_TEXT.read_text("utf-8"), add_special_tokens=False))


def _table(document: Mapping[str, Any], ratios: Mapping[str, Spread]) -> str:
    lines = [f"{'':32}{'float32':>10}{'int8':>10}"]
    size = document["weightFileBytes"]
    lines.append(_line("weights, MiB", {name: bytes_ / 2**20 for name, bytes_ in size.items()}))
    for what, both in document["seconds"].items():
        batch = what.partition(" B")[2]
        if batch:
            rates = {name: int(batch) * document["decodedTokens"] / of["median"] for name, of in both.items()}
            lines.append(_line(f"{what}, tokens/s", rates))
        else:
            lines.append(_line(f"{what}, ms", {name: 1000 * of["median"] for name, of in both.items()}))
    lines.append(_line(f"perplexity of {document['text']['judged']} tokens", document["perplexity"]))
    lines.append(f"{'same likeliest token':32}{100 * document['sameFavorite']:>19.1f}%")
    lines.append(f"\n{'ratios of rounds':32}{'median':>10}{'min':>10}{'max':>10}")
    for name, value in ratios.items():
        numbers = "".join(f"{three_digits(number):>10}" for number in (value.median, value.minimum, value.maximum))
        lines.append(f"{name:32}{numbers}")
    return "\n".join(lines)


def _line(what: str, both: Mapping[str, float]) -> str:
    return f"{what:32}" + "".join(f"{three_digits(both[name]):>10}" for name in _NAMES.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="quantization", description=__doc__)
    parser.add_argument("--model", choices=sorted(SIZES), default="smollm2", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, choices=range(1, 51), metavar="N", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
