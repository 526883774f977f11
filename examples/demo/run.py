"""One run of the demo, from the first stage to what is left on the screen."""

from __future__ import annotations

import time
import traceback
from typing import TextIO

from demo import closing, components, settings, stages
from demo.answer import ask, prepare
from demo.failure import DemoFailed
from demo.follow import Follower
from demo.screen import Screen
from demo.tools import Tools
from neuron_localcluster.cluster import Cluster

STAGES = 10


class Demo:
    """Runs the stages in their order; what is there already is used again."""

    def __init__(self, screen: Screen, log: TextIO) -> None:
        self._screen = screen
        self._log = log
        self._environment: str | None = None

    def run(self) -> int:
        """Exit code 0 once the model has answered; 1 when a stage failed, which is then explained."""
        self._screen.announce(STAGES)
        try:
            self._run()
        except DemoFailed as error:
            self._explain(error)
            return 1
        except Exception as error:
            self._log.write(traceback.format_exc())
            self._explain(DemoFailed(f"unexpected {type(error).__name__}: {error}; the log has the traceback"))
            return 1
        return 0

    def attend(self) -> int:
        """Stay while the cluster runs: exit code 0 when another command has ended it, 1 when a part of it ended."""
        try:
            components.watch(Cluster(settings.CLUSTER))
        except DemoFailed as error:
            self._explain(error)
            return 1
        self._screen.text("The cluster has been ended.")
        return 0

    def _run(self) -> None:
        began, screen = time.monotonic(), self._screen
        prepare()
        compiler = stages.check_machine(screen)
        binaries = stages.get_binaries(screen)
        hub_root = stages.get_model(screen)
        self._environment = closing.environment_line(Cluster(settings.CLUSTER).kubeconfig, binaries.clients)
        cluster = stages.start_cluster(screen, hub_root, compiler)
        tools = Tools(binaries, cluster.kubeconfig, settings.STATE, self._log)
        stages.make_bucket(screen, cluster)
        stages.install_chart(screen, cluster, tools, compiler)
        stages.wait_for_operator(screen, tools)
        stages.apply_manifest(screen, tools)
        address = Follower(tools, screen, cluster).run()
        answer = ask(address, settings.MODEL, screen)
        total = time.monotonic() - began
        for lines in (
            closing.model_lines(tools.kubectl("get", "nm", f"--namespace={settings.NAMESPACE}"), address),
            closing.measurements(screen.timings, total, answer),
            closing.next_steps(address, self._environment),
        ):
            screen.text("\n".join(lines) + "\n")

    def _explain(self, error: DemoFailed) -> None:
        stage = self._screen.fail("FAILED")
        environment = self._environment if components.any_runs(Cluster(settings.CLUSTER)) else None
        self._screen.text("\n" + "\n".join(closing.failure_lines(stage, error, environment)))
