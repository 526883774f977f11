"""What the operator tells of itself: health over HTTP, metrics, log lines."""

from __future__ import annotations

import io
import json
import logging
import socket

import aiohttp
import pytest

from neuron_operator.api.objects import Key
from neuron_operator.telemetry.health import Heartbeat, health_server
from neuron_operator.telemetry.logging import JSONLines, configure, reconciling
from neuron_operator.telemetry.metrics import Metrics


async def _get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


def test_a_heartbeat_is_fresh_for_its_limit_from_the_first_beat_on() -> None:
    time = 0.0
    heartbeat = Heartbeat(30, clock=lambda: time)
    time = 100.0
    assert heartbeat.is_fresh()
    heartbeat.beat()
    time = 130.0
    assert heartbeat.is_fresh()
    time = 130.1
    assert not heartbeat.is_fresh()
    heartbeat.beat()
    assert heartbeat.is_fresh()


async def test_health_follows_what_holds_at_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIND_ADDRESS", "127.0.0.1")
    holds = {"live": True, "ready": False}
    async with health_server(
        Metrics(depth=lambda: 3), live=lambda: holds["live"], ready=lambda: holds["ready"], port=0
    ) as port:
        url = f"http://127.0.0.1:{port}"
        assert await _get(f"{url}/healthz") == (200, "ok\n")
        assert await _get(f"{url}/readyz") == (503, "no\n")
        holds.update(live=False, ready=True)
        assert await _get(f"{url}/healthz") == (503, "no\n")
        assert await _get(f"{url}/readyz") == (200, "ok\n")
        status, text = await _get(f"{url}/metrics")
        assert status == 200
        assert "neuron_operator_workqueue_depth 3.0" in text


async def test_without_an_address_it_listens_to_ipv4_and_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIND_ADDRESS", raising=False)
    async with health_server(Metrics(depth=lambda: 0), live=lambda: True, ready=lambda: True, port=0) as port:
        assert await _get(f"http://127.0.0.1:{port}/healthz") == (200, "ok\n")
        if _has_ipv6_loopback():
            assert await _get(f"http://[::1]:{port}/healthz") == (200, "ok\n")


def _has_ipv6_loopback() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_metrics_are_named_as_controller_runtime_names_them() -> None:
    metrics = Metrics(depth=lambda: 7)
    metrics.taken(0.3)
    metrics.reconciled("success", 0.02)
    metrics.reconciled("conflict", 0.02)
    metrics.reconciled("error", 4)
    metrics.leading(True)
    lines = set(metrics.exposition().decode().splitlines())
    assert {
        'neuron_operator_reconcile_total{result="success"} 1.0',
        'neuron_operator_reconcile_total{result="error"} 1.0',
        "neuron_operator_reconcile_errors_total 1.0",
        "neuron_operator_reconcile_time_seconds_count 3.0",
        "neuron_operator_workqueue_queue_duration_seconds_sum 0.3",
        "neuron_operator_workqueue_depth 7.0",
        "neuron_operator_leader 1.0",
    } <= lines
    metrics.leading(False)
    assert "neuron_operator_leader 0.0" in metrics.exposition().decode()


@pytest.fixture
def log_lines() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logger(log_lines: io.StringIO) -> logging.Logger:
    handler = logging.StreamHandler(log_lines)
    handler.setFormatter(JSONLines())
    logger = logging.Logger("neuron_operator.test")
    logger.addHandler(handler)
    return logger


def test_a_line_says_which_reconcile_of_which_model_it_is_about(logger: logging.Logger, log_lines: io.StringIO) -> None:
    with reconciling(Key("ml", "llama")):
        logger.info("compiling %s", "é")
        logger.info("again")
    with reconciling(Key("ml", "llama")):
        logger.info("next")
    logger.info("outside")
    first, again, following, outside = (json.loads(line) for line in log_lines.getvalue().splitlines())
    assert (first["namespace"], first["name"], first["message"]) == ("ml", "llama", "compiling é")
    assert (first["level"], first["logger"]) == ("INFO", "neuron_operator.test")
    assert first["reconcile_id"] == again["reconcile_id"] != following["reconcile_id"]
    assert "reconcile_id" not in outside


def test_a_traceback_stays_on_its_line(logger: logging.Logger, log_lines: io.StringIO) -> None:
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        logger.exception("unexpected\nerror")
    (line,) = log_lines.getvalue().splitlines()
    assert "RuntimeError: first\nsecond" in json.loads(line)["traceback"]


def test_libraries_are_heard_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure()
        logging.getLogger("kopf.objects").info("chatter")
        logging.getLogger("kopf.objects").warning("trouble")
        logging.getLogger("neuron_operator.loop").info("leading")
    finally:
        root.handlers, root.level = before
        root.setLevel(before[1])
    lines = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["trouble", "leading"]
