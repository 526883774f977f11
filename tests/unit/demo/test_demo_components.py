"""The demo notices when a part of its cluster ends."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from demo import components
from demo.failure import DemoFailed
from demo.follow import Follower
from demo.screen import Screen
from neuron_localcluster.cluster import Cluster, ComponentStatus


class ScriptedCluster:
    """Says at each look what the next round of (name, pid) is; the last one stays."""

    def __init__(self, folder: Path, *rounds: dict[str, int | None], changing: bool = False) -> None:
        self._folder = folder
        self._rounds = list(rounds)
        self._changing = changing

    def status(self) -> list[ComponentStatus]:
        now = self._rounds.pop(0) if len(self._rounds) > 1 else self._rounds[0]
        return [ComponentStatus(name, pid, "", self._folder / f"{name}.log") for name, pid in now.items()]

    def is_changing(self) -> bool:
        return self._changing


class ScriptedTools:
    """A kubectl whose watch tells of one version of the model, if any, and then nothing."""

    def __init__(self, model: dict[str, Any] | None = None) -> None:
        self._model = model

    def watch(self, *_arguments: str) -> ScriptedTools:
        return self

    def newest(self, _seconds: float) -> dict[str, Any] | None:
        return self._model

    def kubectl_json(self, *_arguments: str) -> dict[str, Any]:
        raise DemoFailed("kubectl got no answer")

    def close(self) -> None:
        return None


def test_what_has_ended_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "etcd.log").write_text("no space left on device\n")
    cluster: Any = ScriptedCluster(tmp_path, {"etcd": None, "kube-apiserver": None, "hub": 7})

    with pytest.raises(DemoFailed, match="this has ended: etcd, kube-apiserver") as failed:
        components.check(cluster)

    assert failed.value.log == tmp_path / "etcd.log"
    assert failed.value.excerpt == ("no space left on device",)


def test_a_cluster_that_ends_while_the_model_is_followed_fails_the_demo(tmp_path: Path) -> None:
    alive: dict[str, int | None] = {"etcd": 1, "node-agent": 2}
    cluster: Any = ScriptedCluster(tmp_path, alive, alive, {**alive, "node-agent": None})
    tools: Any = ScriptedTools()

    with pytest.raises(DemoFailed, match="this has ended: node-agent"):
        Follower(tools, Screen(io.StringIO(), io.StringIO()), cluster).run()


def test_a_kubectl_that_fails_for_want_of_a_cluster_is_not_the_reason(tmp_path: Path) -> None:
    kinds = ("SourceResolved", "Planned", "Compiled", "Ready")
    status = {"observedGeneration": 1, "conditions": [{"type": kind, "status": "True"} for kind in kinds]}
    tools: Any = ScriptedTools({"metadata": {"generation": 1}, "status": status})
    cluster: Any = ScriptedCluster(tmp_path, {"kube-apiserver": 1}, {"kube-apiserver": None})

    with pytest.raises(DemoFailed, match="this has ended: kube-apiserver"):
        Follower(tools, Screen(io.StringIO(), io.StringIO()), cluster).run()


@pytest.mark.parametrize(
    ("last", "log"),
    [
        (
            {"stage": "Compile", "exitCode": 3},
            "kubectl logs --namespace=default --selector=neuron-operator.dev/model=smollm2 --prefix --tail=-1",
        ),
        ({"stage": "Resolve"}, None),
    ],
)
def test_a_failed_model_names_the_log_of_its_pods_where_there_is_one(
    tmp_path: Path, last: dict[str, Any], log: str | None
) -> None:
    conditions = [{"type": "Stalled", "status": "True", "message": "it failed"}]
    status = {"observedGeneration": 1, "conditions": conditions, "lastFailure": last}
    tools: Any = ScriptedTools({"metadata": {"generation": 1}, "status": status})
    cluster: Any = ScriptedCluster(tmp_path, {"etcd": 1})

    with pytest.raises(DemoFailed, match="it failed") as failed:
        Follower(tools, Screen(io.StringIO(), io.StringIO()), cluster).run()

    assert failed.value.log == log


def test_a_cluster_that_another_command_ends_is_no_failure(tmp_path: Path) -> None:
    rounds: list[dict[str, int | None]] = [{"etcd": 1, "hub": 2}, {"etcd": 1, "hub": None}, {"etcd": None, "hub": None}]
    alive, *_ = rounds
    cluster: Any = ScriptedCluster(tmp_path, alive, *rounds, changing=True)

    components.watch(cluster, pause=0)


def test_a_cluster_of_which_a_part_ends_by_itself_is_one(tmp_path: Path) -> None:
    cluster: Any = ScriptedCluster(tmp_path, {"etcd": 1, "hub": 2}, {"etcd": 1, "hub": None})

    with pytest.raises(DemoFailed, match="this has ended: hub"):
        components.watch(cluster, pause=0)


def test_a_cluster_says_whether_up_or_down_is_at_work(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    assert not cluster.is_changing()
    with cluster._locked():
        assert cluster.is_changing()
    assert not cluster.is_changing()
