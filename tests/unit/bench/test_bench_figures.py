"""From rounds to figures: every ratio within its round, and targets held against medians."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from serving.chart import svg
from serving.contestants import Generated
from serving.figures import (
    ALONE,
    ARRIVALS,
    FULL,
    TWICE,
    Figure,
    LoadFigures,
    Measured,
    Round,
    Start,
    agreement,
    load_figures,
    raw_figures,
    summarize,
)
from serving.load import Answer, LoadResult
from serving.pictured import groups
from serving.report import document, table
from serving.spread import percentile, spread

_MEGA = 10**6


def _generated(step: float, batch: int = 1, token: int = 7) -> Generated:
    return Generated(0.5, (step,) * 3, ((token, 8, 9, 10),) * batch)


def _load(streams: int, rate: float, **changes: float) -> LoadFigures:
    figures = LoadFigures(
        streams=streams,
        tokens_per_second=rate,
        wall=10.0,
        first_p50=0.502,
        first_p99=0.9,
        gap_p50=0.1,
        gap_p99=0.15,
        requests=2,
        tokens=80,
        errors=(),
        client_busy=0.1,
        graph_seconds=9.7,
    )
    return replace(figures, **changes)  # type: ignore[arg-type]


def _round(slowness: float = 1.0, **changes: float) -> Round:
    """Everything takes so many times longer, as when a neighbor disturbs a whole round."""
    return Round(
        bytes_per_second=20 * _MEGA / slowness,
        raw={
            "graphs": {1: raw_figures(_generated(0.1 * slowness)), 4: raw_figures(_generated(0.2 * slowness, 4))},
            "transformers": {
                1: raw_figures(_generated(0.25 * slowness)),
                4: raw_figures(_generated(0.3 * slowness, 4, token=1)),
            },
        },
        loads={
            "ours": {
                ALONE: _load(1, 9 / slowness, **changes),
                FULL: _load(4, 18 / slowness, **changes),
                TWICE: _load(8, 18 / slowness, **changes),
                ARRIVALS: _load(4, 17 / slowness, **changes),
            }
        },
    )


def _measured(*rounds: Round, judged: bool = True) -> Measured:
    return Measured(
        settings={"model": "m"},
        versions={"graphs": {"torch": "2"}},
        slots=4,
        judged=judged,
        weight_bytes=3 * _MEGA,
        step_bytes=2 * _MEGA,
        starts=[Start(1.2, 100 * _MEGA), Start(1.8, 101 * _MEGA)],
        rounds=rounds,
    )


def _named(measured: Measured) -> dict[str, Figure]:
    return {figure.name: figure for figure in summarize(measured)}


def test_a_disturbance_of_a_whole_round_does_not_change_ratios() -> None:
    figures = _named(_measured(_round(), _round(slowness=2.0), _round(slowness=1.5)))
    expected = {"decode B1 / roofline": 1.0, "decode B1 / transformers": 2.5, "decode B4 / transformers": 1.5}
    for name, ratio in expected.items():
        value = figures[name].value
        assert (value.minimum, value.median, value.maximum) == pytest.approx((ratio, ratio, ratio))
        assert figures[name].met
    rates = figures["decode B1 graphs"].value
    assert (rates.minimum, rates.median, rates.maximum) == pytest.approx((5.0, 10 / 1.5, 10.0))


def test_served_figures_and_their_targets() -> None:
    figures = _named(_measured(_round(), _round()))
    assert figures["TTFT alone - prefill graph"].value.median == pytest.approx(2.0)
    assert figures["TTFT alone - prefill graph"].met
    assert figures["inter-token p99/p50 with arrivals"].value.median == pytest.approx(1.5)
    assert figures["overhead full"].value.median == pytest.approx(3.0)
    assert figures["exec to ready"].value.median == pytest.approx(1.5)
    assert figures["resident memory beyond the weights"].value.median == pytest.approx(97.5)
    assert figures["errors in a round"].met
    slow = _named(_measured(_round(first_p50=0.6)))
    assert slow["TTFT alone - prefill graph"].met is False


def test_a_server_that_does_not_tell_its_graphs_time_is_held_against_the_bare_graphs() -> None:
    """2 prompts of 0.5 s; the 78 tokens that remain of 80 came in steps of 0.1 s each, or of 0.2 s for 4 together."""
    figures = _named(_measured(_round(graph_seconds=None)))  # type: ignore[arg-type]
    assert figures["overhead alone"].value.median == pytest.approx(100 * (10 - 1 - 7.8) / 10)
    assert figures["overhead full"].value.median == pytest.approx(100 * (10 - 1 - 3.9) / 10)


def test_errors_are_counted_in_every_load() -> None:
    figures = _named(_measured(_round(errors=("status 503",))))  # type: ignore[arg-type]
    assert figures["errors in a round"].value.median == 4
    assert figures["errors in a round"].met is False


def test_a_model_that_is_all_overhead_is_not_judged() -> None:
    assert all(figure.met is None for figure in summarize(_measured(_round(), judged=False)))


def test_agreement_is_the_share_of_equal_tokens() -> None:
    """Of 5 answers with 4 tokens each, 4 differ in one token."""
    assert agreement([_round()]) == {"graphs": 1.0, "transformers": pytest.approx(16 / 20)}


def test_a_load_is_summed_up_from_what_the_client_saw() -> None:
    answers = (
        Answer(10.0, (10.4, 10.5, 10.7), 10.7, 5, 3),
        Answer(10.1, (10.6, 10.7, 10.8), 10.9, 5, 3),
        Answer(10.2, (), 10.2, 0, 0, "status 429"),
    )
    figures = load_figures(2, LoadResult(answers, 0.2), 0.75)
    assert figures.wall == pytest.approx(0.9)
    assert figures.tokens_per_second == pytest.approx(6 / 0.9)
    assert (figures.first_p50, figures.first_p99) == pytest.approx((0.4, 0.5))
    assert (figures.gap_p50, figures.gap_p99) == pytest.approx((0.1, 0.2))
    assert (figures.requests, figures.errors) == (3, ("status 429",))
    assert figures.overhead == pytest.approx((0.9 - 0.75) / 0.9)
    with pytest.raises(ValueError, match="status 429"):
        load_figures(1, LoadResult(answers[2:], 0.2), None)


def test_spreads_and_percentiles() -> None:
    value = spread([3.0, 1.0, 2.0, 4.0])
    assert (value.minimum, value.median, value.maximum, value.rounds) == (1.0, 2.5, 4.0, 4)
    hundred = [float(number) for number in range(100, 0, -1)]
    assert (percentile(hundred, 50), percentile(hundred, 99), percentile([5.0], 99)) == (50.0, 99.0, 5.0)
    for nothing in (spread, lambda values: percentile(values, 50)):
        with pytest.raises(ValueError, match="nothing was measured"):
            nothing([])


def test_the_report_has_every_figure_and_json_without_tokens() -> None:
    measured = _measured(_round(), _round(slowness=3.0))
    figures = summarize(measured)
    text = table(figures)
    assert all(figure.name in text for figure in figures)
    assert "2.50      2.50      2.50 x         >= 2: met" in text
    written = json.loads(json.dumps(document(measured, figures, {"cpu": "c"})))
    assert written["rounds"][1]["loads"]["ours"]["full"]["tokens_per_second"] == pytest.approx(6.0)
    assert "answers" not in written["rounds"][0]["raw"]["graphs"]["1"]


def test_bars_reach_to_medians_on_the_scale_of_their_group() -> None:
    from xml.etree import ElementTree

    drawing = ElementTree.fromstring(svg("a < b", groups(_measured(_round()))))  # noqa: S314 - our own output
    space = "{http://www.w3.org/2000/svg}"
    bars = [float(bar.attrib["width"]) for bar in drawing.iter(f"{space}rect")][1:]
    # ours 10, transformers 4, bandwidth 10 tokens/s; then ours 20, transformers 13.3; then served 9, 18, 18.
    assert bars == pytest.approx([540, 216, 540, 540, 360, 270, 540, 540])
    assert "a < b" in [text.text for text in drawing.iter(f"{space}text")]
