"""Where the API server is, and with which credentials: KUBECONFIG before the pod's service account."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuron_operator.kube import access
from neuron_operator.kube.access import NoClusterAccess, cluster_access

_PEM = "-----BEGIN CERTIFICATE-----\n..."


@pytest.fixture(autouse=True)
def _outside_of_any_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def write(user: dict[str, Any], **cluster: Any) -> Path:
        path = tmp_path / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "current-context": "here",
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443", **cluster}}],
                    "users": [{"name": "other", "user": {}}, {"name": "u", "user": user}],
                }
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(path))
        return path

    return write


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("pod-token\n")
    monkeypatch.setattr(access, "_SERVICE_ACCOUNT", folder)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return folder


def test_a_token_file_beside_the_kubeconfig_is_read_anew_each_time(kubeconfig: Any, tmp_path: Path) -> None:
    kubeconfig({"tokenFile": "token"}, **{"certificate-authority-data": base64.b64encode(_PEM.encode()).decode()})
    found = cluster_access()
    assert (found.server, found.ca_data, found.ca_file) == ("https://api.example:6443", _PEM, None)
    for token in ("first", "second"):
        (tmp_path / "token").write_text(f"{token}\n")
        assert found.current_token() == token
        assert found.connection()["token"] == token


def test_a_token_and_a_ca_file(kubeconfig: Any, tmp_path: Path) -> None:
    kubeconfig({"token": "t"}, **{"certificate-authority": "ca.crt"})
    found = cluster_access()
    assert (found.current_token(), found.ca_file) == ("t", str(tmp_path / "ca.crt"))


def test_client_certificates(kubeconfig: Any) -> None:
    kubeconfig({"client-certificate": "/pki/me.crt", "client-key": "/pki/me.key"})
    found = cluster_access()
    assert (found.certificate_file, found.key_file, found.current_token()) == ("/pki/me.crt", "/pki/me.key", None)


def test_the_kubeconfig_comes_before_the_service_account(kubeconfig: Any, pod: Path) -> None:
    kubeconfig({"token": "t"})
    assert cluster_access().server == "https://api.example:6443"


def test_a_pod_uses_its_service_account(pod: Path) -> None:
    found = cluster_access()
    assert (found.server, found.ca_file) == ("https://10.0.0.1:443", str(pod / "ca.crt"))
    assert found.current_token() == "pod-token"
    (pod / "token").write_text("next")
    assert found.current_token() == "next"


def test_an_ipv6_service_address_is_put_in_brackets(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert cluster_access().server == "https://[fd00::1]:443"


def test_outside_of_a_cluster_the_error_names_the_remedy() -> None:
    with pytest.raises(NoClusterAccess, match="set KUBECONFIG to a file"):
        cluster_access()


@pytest.mark.parametrize("content", ["", "a: [", "current-context: x\ncontexts: []"])
def test_a_broken_kubeconfig_is_named(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broken"
    path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(NoClusterAccess, match="broken"):
        cluster_access()


def test_credentials_that_are_not_read_here_are_refused_with_the_ones_that_are(kubeconfig: Any) -> None:
    kubeconfig({"exec": {"command": "aws"}})
    with pytest.raises(NoClusterAccess, match="use token, tokenFile"):
        cluster_access()


def test_clients_look_at_the_environment_only_where_it_names_a_proxy_for_the_server(
    kubeconfig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig({"token": "t"})
    found = cluster_access()
    assert found.connection()["trust_env"] is False
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert found.connection()["trust_env"] is True
    monkeypatch.setenv("no_proxy", "api.example")
    assert found.connection()["trust_env"] is False
