"""How programs are found, downloaded and built; the sites are local servers, and Go is a script that plays its part."""

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from neuron_localcluster.binaries import build, cache, download, locate, pins, toolchain
from neuron_localcluster.binaries.download import DownloadFailed
from neuron_localcluster.errors import BinariesUnavailable, ClusterError, StageFailed
from neuron_localcluster.progress import StageClock, Step, silent

CLOCK = StageClock("test", silent)
Script = Callable[[Path, str], Path]


@pytest.fixture
def script() -> Script:
    def write(path: Path, body: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(locate.ASSETS_VARIABLE, raising=False)
    (tmp_path / "cache" / "neuron-operator").mkdir(parents=True)
    return tmp_path / "cache" / "neuron-operator"


def write_servers(script: Script, folder: Path, kubernetes: str = "v1.34.9", etcd: str = "3.6.4") -> None:
    script(folder / "etcd", f"echo 'etcd Version: {etcd}'")
    for name in pins.SERVERS[1:]:
        script(folder / name, f"echo 'Kubernetes {kubernetes}'")


def test_servers_of_the_wanted_versions_are_accepted(tmp_path: Path, script: Script) -> None:
    write_servers(script, tmp_path)
    assert locate.objection_to(tmp_path) is None


def test_an_incomplete_folder_says_what_is_missing(tmp_path: Path, script: Script) -> None:
    write_servers(script, tmp_path)
    (tmp_path / "kube-scheduler").unlink()
    assert locate.objection_to(tmp_path) == f"{tmp_path} holds no kube-scheduler"


def test_another_version_is_refused(tmp_path: Path, script: Script) -> None:
    write_servers(script, tmp_path, kubernetes="v1.35.0")
    assert locate.objection_to(tmp_path) == f"{tmp_path}/kube-apiserver is Kubernetes v1.35.0, wanted v1.34.x"


def test_a_program_that_does_not_run_is_refused(tmp_path: Path, script: Script) -> None:
    write_servers(script, tmp_path)
    script(tmp_path / "etcd", "echo 'wrong architecture' >&2; exit 1")
    assert locate.objection_to(tmp_path) == f"{tmp_path}/etcd --version failed: wrong architecture"


def test_a_program_for_another_processor_is_refused(tmp_path: Path, script: Script) -> None:
    write_servers(script, tmp_path)
    (tmp_path / "etcd").write_bytes(b"\x7fELF of another machine")
    assert "Exec format error" in str(locate.objection_to(tmp_path))


def test_a_program_that_does_not_answer_is_refused(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_servers(script, tmp_path)
    script(tmp_path / "etcd", "exec sleep 600")
    monkeypatch.setattr(locate, "_VERSION_SECONDS", 0.1)
    assert "timed out" in str(locate.objection_to(tmp_path))


def test_a_home_that_cannot_be_written_names_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    with pytest.raises(ClusterError, match=r"cannot write in /proc.*set XDG_CACHE_HOME"):
        locate.ensure_binaries()


def test_no_home_at_all_names_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ClusterError, match="set XDG_CACHE_HOME"):
        locate.ensure_binaries()


def fill_clients(script: Script, home: Path) -> None:
    folder = home / "clients" / f"kubectl-{pins.KUBECTL_VERSION}-helm-{pins.HELM_VERSION}"
    for name in pins.CLIENTS:
        script(folder / name, "true")


def test_assets_come_first_and_the_cache_when_they_do_not_fit(
    tmp_path: Path, home: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_clients(script, home)
    cached = home / "controlplane" / pins.KUBERNETES_VERSION
    write_servers(script, cached)
    assets = tmp_path / "assets"
    write_servers(script, assets)
    monkeypatch.setenv(locate.ASSETS_VARIABLE, str(assets))
    assert locate.ensure_binaries().servers == assets

    (assets / "kube-scheduler").unlink()
    steps: list[Step] = []
    assert locate.ensure_binaries(steps.append).servers == cached
    assert any("passed over" in step.detail and "kube-scheduler" in step.detail for step in steps)


def test_nothing_is_ever_taken_from_path(
    tmp_path: Path, home: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in pins.CLIENTS:
        script(tmp_path / "bin" / name, "true")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    fill_clients(script, home)
    write_servers(script, home / "controlplane" / pins.KUBERNETES_VERSION)
    found = locate.ensure_binaries()
    assert found.kubectl.is_relative_to(home)
    assert found.helm.is_relative_to(home)


def test_a_failed_installation_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "etcd").touch()
        raise BinariesUnavailable("no")

    with pytest.raises(BinariesUnavailable):
        cache.install(tmp_path / "v1", fail)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_installation_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".v1.killed" / "staged").mkdir(parents=True)
    cache.install(tmp_path / "v1", lambda folder: (folder / "etcd").touch())
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server of files shaped like the two projects' sites."""
    root = tmp_path / "site"
    root.mkdir()
    for name in pins.SERVERS[1:]:
        (root / name).write_text(name)
        (root / f"{name}.sha256").write_text(hashlib.sha256(name.encode()).hexdigest())
    archive = f"etcd-v{pins.ETCD_VERSION}-linux-amd64"
    with tarfile.open(root / f"{archive}.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo(f"{archive}/etcd")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"etcd"))
    digest = hashlib.sha256((root / f"{archive}.tar.gz").read_bytes()).hexdigest()
    (root / "SHA256SUMS").write_text(f"{'0' * 64}  other.zip\n{digest}  {archive}.tar.gz\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", root
        server.shutdown()
        thread.join()


def test_a_download_is_checked_and_executable(site: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = site
    target = tmp_path / "bin"
    target.mkdir()
    download.install_servers(target, CLOCK, kubernetes_site=url, etcd_site=url)
    assert {path.name: path.read_text() for path in target.iterdir()} == {name: name for name in pins.SERVERS}
    assert cache.holds(target, pins.SERVERS)


def test_a_download_with_another_checksum_is_refused(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    (root / "kube-scheduler").write_text("something else")
    with pytest.raises(DownloadFailed, match="kube-scheduler has SHA-256"):
        download.install_servers(tmp_path, CLOCK, kubernetes_site=url, etcd_site=url)


def test_a_site_out_of_reach_fails_the_download(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="refused"):
        download.install_servers(tmp_path, CLOCK, kubernetes_site="http://127.0.0.1:9", etcd_site="")


def test_a_connection_that_breaks_off_fails_the_download(tmp_path: Path) -> None:
    class Breaking(_Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "64")
            self.end_headers()
            self.wfile.write(b"half")

    with ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            with pytest.raises(DownloadFailed, match="IncompleteRead"):
                download.install_servers(tmp_path, CLOCK, kubernetes_site=url, etcd_site=url)
        finally:
            server.shutdown()
            thread.join()


GO = """
case "$1" in
env) echo go1.26.8 ;;
list) echo 'go: downloading k8s.io/api v0.34.4'; printf 'fmt\\nos\\n' ;;
build) {build} ;;
esac
"""


def play_go(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_step: str) -> None:
    script(tmp_path / "go" / "go", GO.replace("{build}", build_step))
    monkeypatch.setenv("PATH", f"{tmp_path / 'go'}:{os.environ['PATH']}")


def test_a_build_reports_how_far_it_is(
    home: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = 'echo fmt; for last; do :; done; while [ "$1" != -o ]; do shift; done; touch "$2server" "$2kube-apiserver"'
    play_go(script, tmp_path, monkeypatch, make)
    steps: list[Step] = []
    target = tmp_path / "bin"
    target.mkdir()
    build.install_servers(target, StageClock("build", steps.append))
    assert "downloading Go modules (1)" in [step.detail for step in steps]
    assert (steps[-1].detail, steps[-1].fraction) == ("compiling with go1.26.8: 1 of 2 packages", 0.5)
    assert (target / "etcd").exists()


def test_what_the_caller_builds_for_does_not_matter(
    home: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_go(script, tmp_path, monkeypatch, "true")
    for name, value in {"GOROOT": "/old/go", "GOOS": "darwin", "GOARCH": "arm64", "GOPROXY": "http://own"}.items():
        monkeypatch.setenv(name, value)
    environment = toolchain.ensure_go(CLOCK).environment
    assert "GOROOT" not in environment
    assert [environment[name] for name in ("GOOS", "GOARCH", "GOPROXY")] == ["linux", "amd64", "http://own"]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("compile: signal: killed", "lack of memory"),
        ("write: no space left on device", "the disk is full"),
        ("dial tcp: lookup proxy: no such host", "check the network"),
        ("undefined: Foo", "exit code 1"),
    ],
)
def test_a_build_that_fails_says_why_and_where_its_log_is(
    home: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, output: str, reason: str
) -> None:
    play_go(script, tmp_path, monkeypatch, f"echo '{output}'; exit 1")
    with pytest.raises(StageFailed, match=reason) as failure:
        build.install_servers(tmp_path, CLOCK)
    assert failure.value.log == home / "logs" / "controlplane-build.log"
    assert output in str(failure.value)


@pytest.mark.parametrize(
    ("version", "suitable"),
    [("go1.24.0", True), ("go1.26.8", True), ("go1.23.9", False), ("go1.27.3", False), ("", False), ("devel", False)],
)
def test_only_versions_of_go_that_were_tried_are_suitable(version: str, suitable: bool) -> None:
    assert toolchain.is_suitable(version) is suitable


def test_only_package_names_count_as_progress() -> None:
    assert build.is_package("k8s.io/api/core/v1\n")
    assert not build.is_package("# k8s.io/api/core/v1\n")
    assert not build.is_package("go: downloading k8s.io/api v0.34.4\n")
