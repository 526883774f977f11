"""What a cluster remembers about itself in its state folder: ports, nodes and images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from neuron_localcluster.errors import ClusterError
from neuron_localcluster.files import write_whole


class Image(TypedDict):
    """What an image reference stands for: a folder put first on PATH, and the environment its config would set."""

    path: str
    env: NotRequired[dict[str, str]]


@dataclass(frozen=True)
class ClusterRecord:
    """The content of `cluster.json`; nodes and images as the node agent reads them."""

    ports: Mapping[str, int] = field(default_factory=dict)
    nodes: tuple[Mapping[str, Any], ...] = ()
    images: Mapping[str, Image] = field(default_factory=dict)
    hub_root: str = ""

    def save(self, path: Path) -> None:
        write_whole(path, json.dumps(dataclasses.asdict(self), indent=2).encode())


def load(path: Path) -> ClusterRecord | None:
    """The record, None where no cluster has been; raises ClusterError when the file is not one of ours."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return ClusterRecord(**{**content, "nodes": tuple(content["nodes"])})
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ClusterError(f"{path} is not a cluster's record ({error}); delete the folder it lies in") from error
