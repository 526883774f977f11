"""The command line's words and exit codes, where no cluster has to run."""

import io
from pathlib import Path

import pytest

from neuron_localcluster.cli import main
from neuron_localcluster.progress import LinePrinter, Step


def test_the_status_of_a_cluster_that_never_was_lists_what_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--state-dir", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert all("not running" in line for line in lines)


def test_ending_a_cluster_that_never_was_is_no_error(tmp_path: Path) -> None:
    assert main(["down", "--state-dir", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()


def test_a_log_that_does_not_exist_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "etcd", "--state-dir", str(tmp_path)]) == 1
    assert "etcd has no log" in capsys.readouterr().err


def test_the_end_of_a_log_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "etcd.log").write_text("one\ntwo\nthree\n")
    assert main(["logs", "etcd", "--lines", "2", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "two\nthree\n"


@pytest.mark.parametrize("text", ["{", "[]", '{"image:1": {"env": {}}}'])
def test_an_image_table_that_is_none_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    table = tmp_path / "images.json"
    table.write_text(text)
    assert main(["up", "--state-dir", str(tmp_path / "state"), "--images", str(table)]) == 1
    assert f"error: --images {table}" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_an_unknown_component_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["logs", "kubelet", "--state-dir", str(tmp_path)])
    assert end.value.code == 2


def test_progress_is_printed_when_it_is_news() -> None:
    stream = io.StringIO()
    show = LinePrinter(stream)
    for percent in range(30):
        show(Step("build", "compiling", percent / 100, elapsed=percent / 100))
    show(Step("build", "compiling", 0.3, elapsed=30.0))
    show(Step("build", "done", 1.0, elapsed=31.0, finished=True))
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["..", "..", "..", "..", "ok"]
    assert lines[-1].split() == ["ok", "build", "31.0", "s", "done"]
