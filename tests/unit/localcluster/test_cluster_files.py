"""What a cluster writes before anything runs: ports, certificates, tokens, kubeconfigs, its record."""

import base64
import json
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from neuron_localcluster import identities, ports, record
from neuron_localcluster.certificates import ensure_certificates
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.errors import ClusterError
from neuron_localcluster.node.log_server import server_context
from neuron_localcluster.nodes import CPU_NODE, NEURON_NODE
from neuron_localcluster.record import ClusterRecord


def test_ports_are_kept() -> None:
    kept = {"etcd": 20001, "api": 20002}
    assert ports.assign(["etcd", "api"], kept, free=lambda port: True) == kept


def test_a_port_that_a_stranger_took_is_replaced_but_not_one_of_our_own_running_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert ports.assign(["etcd"], {"etcd": port})["etcd"] != port
        assert ports.assign(["etcd"], {"etcd": port}, running={"etcd"})["etcd"] == port


def test_new_ports_are_distinct_and_below_the_ephemeral_range() -> None:
    assigned = ports.assign([str(number) for number in range(50)], {})
    assert len(set(assigned.values())) == 50
    assert all(20000 <= port < 32000 for port in assigned.values())


def test_no_free_port_is_an_error() -> None:
    with pytest.raises(OSError, match="no free port between"):
        ports.assign(["etcd"], {}, free=lambda port: False)


@contextmanager
def a_full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 100 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: identities.ensure_tokens(folder / "tokens.csv"),
        lambda folder: ensure_certificates(folder / "pki", ("127.0.0.1",)),
        lambda folder: identities.write_private(folder / "text", "x" * 200),
        lambda folder: ClusterRecord(hub_root="x" * 200).save(folder / "cluster.json"),
        server_context,
    ],
)
def test_what_a_full_disk_interrupts_is_made_again_later(tmp_path: Path, write: Callable[[Path], object]) -> None:
    with a_full_disk(), pytest.raises(OSError, match="File too large"):
        write(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")] == []
    write(tmp_path)
    assert not list(tmp_path.rglob("*.new"))


def test_the_server_certificate_is_trusted_for_its_addresses(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, ("127.0.0.1",))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.server, files.server_key)
    client = ssl.create_default_context(cafile=str(files.authority))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    answer = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (hello, answer, hello):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert hello.version() == "TLSv1.3"
    names = x509.load_pem_x509_certificate(files.server.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "kubernetes.default.svc" in names.value.get_values_for_type(x509.DNSName)


def test_certificates_are_made_once_and_keys_are_private(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, ("127.0.0.1",))
    before = files.service_account_key.read_bytes()
    assert ensure_certificates(tmp_path, ("127.0.0.1",)) == files
    assert files.service_account_key.read_bytes() == before
    assert files.server_key.stat().st_mode & 0o077 == 0


def test_tokens_are_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    tokens = identities.ensure_tokens(path)
    assert identities.ensure_tokens(path) == tokens
    assert len(set(tokens.values())) == len(identities.IDENTITIES)
    assert path.stat().st_mode & 0o077 == 0


def test_a_kubeconfig_carries_the_authority_and_the_token() -> None:
    text = identities.kubeconfig("https://127.0.0.1:1", b"PEM", identities.ADMIN, "secret")
    content = yaml.safe_load(text)
    cluster = content["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"PEM"
    assert content["users"][0]["user"] == {"token": "secret"}


def test_only_pods_that_tolerate_it_land_on_the_neuron_node() -> None:
    assert NEURON_NODE.to_json()["taints"] == [{"key": "aws.amazon.com/neuron", "value": "", "effect": "NoSchedule"}]
    assert CPU_NODE.to_json()["taints"] == []


def test_a_record_is_read_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    written = ClusterRecord({"etcd": 1}, (CPU_NODE.to_json(),), {"image:1": {"path": "/bin"}}, "/models")
    written.save(path)
    assert record.load(path) == written
    assert record.load(tmp_path / "none.json") is None


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"nodes": [], "colour": "red"})])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cluster.json"
    path.write_text(text)
    with pytest.raises(ClusterError, match=r"cluster\.json is not a cluster's record"):
        record.load(path)


def test_purging_a_folder_that_is_no_cluster_deletes_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    Cluster(tmp_path).down(purge=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_endpoints_of_a_cluster_that_never_was_say_so(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no cluster in .*bring it up first"):
        _ = Cluster(tmp_path).aws_endpoint
