"""The cluster's certificate authority, the certificate its servers show, and the key that signs service-account tokens.

Made once per cluster and kept: service-account tokens and kubeconfigs must survive `down` and `up`.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from neuron_localcluster.files import write_whole

_VALID_FOR = datetime.timedelta(days=3650)
_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True)
class Certificates:
    """PEM files of one cluster."""

    authority: Path
    server: Path
    server_key: Path
    service_account_key: Path


def ensure_certificates(folder: Path, addresses: tuple[str, ...]) -> Certificates:
    """The cluster's certificates, made when the folder does not hold them; `addresses` are the servers' IPs."""
    files = Certificates(
        folder / "ca.crt", folder / "server.crt", folder / "server.key", folder / "service-account.key"
    )
    if files.server.exists():
        return files
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("neuron-localcluster")
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in _SERVER_NAMES]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    server = (
        _builder(_name("kube-apiserver"), authority_name, server_key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_whole(files.authority, authority.public_bytes(serialization.Encoding.PEM))
    _write_key(files.service_account_key, ec.generate_private_key(ec.SECP256R1()))
    _write_key(files.server_key, server_key)
    # Last: its presence says that the set is complete.
    write_whole(files.server, server.public_bytes(serialization.Encoding.PEM))
    return files


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _authority_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    format_ = serialization.PrivateFormat.TraditionalOpenSSL
    write_whole(path, key.private_bytes(serialization.Encoding.PEM, format_, serialization.NoEncryption()))
