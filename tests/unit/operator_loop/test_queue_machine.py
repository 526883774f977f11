"""The work queue against a model of it, under whatever order of calls hypothesis thinks of."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from neuron_operator.loop.queue import WorkQueue
from support.virtual_time import VirtualTimeLoop

_KEYS = st.sampled_from("abcd")
_SECONDS = st.sampled_from([1, 2, 5, 30])


class QueueMachine(RuleBasedStateMachine):
    """Workers come, wait, are cancelled, and give back; keys are added at once and later."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.queue: WorkQueue[str] = WorkQueue()
        self.workers: list[asyncio.Task[tuple[str, float]]] = []
        # What the queue should be like.
        self.wanted: list[str] = []
        self.held: set[str] = set()
        self.due: dict[str, float] = {}

    def _do(self, seconds: float = 0.0) -> None:
        """Let everything happen that happens by itself within so many seconds."""
        end = self.loop.time() + seconds
        for key, _ in sorted(self.due.items(), key=lambda item: item[1]):
            if self.due[key] <= end:
                self._want(key)
                del self.due[key]
        self.loop.run_until_complete(asyncio.sleep(seconds))
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))
        for worker in [worker for worker in self.workers if worker.done()]:
            self.workers.remove(worker)
            if worker.cancelled():
                continue
            key, waited = worker.result()
            assert key not in self.held, "two workers have one key"
            assert key in self.wanted, "nobody asked for this key"
            assert waited >= 0
            self.wanted.remove(key)
            self.held.add(key)

    def _want(self, key: str) -> None:
        if key not in self.wanted:
            self.wanted.append(key)

    def _call(self, method: str, *arguments: object) -> None:
        async def call() -> None:
            getattr(self.queue, method)(*arguments)

        self.loop.run_until_complete(call())

    @rule(key=_KEYS)
    def add(self, key: str) -> None:
        self._call("add", key)
        self._want(key)
        self._do()

    @rule(key=_KEYS, seconds=_SECONDS)
    def add_after(self, key: str, seconds: float) -> None:
        self._call("add_after", key, seconds)
        self.due[key] = min(self.due.get(key, float("inf")), self.loop.time() + seconds)
        self._do()

    @rule()
    @precondition(lambda self: len(self.workers) < 3)
    def start_worker(self) -> None:
        self.workers.append(self.loop.create_task(self.queue.get()))
        self._do()

    @rule(key=_KEYS)
    @precondition(lambda self: self.workers)
    def add_and_cancel_the_worker_that_is_woken(self, key: str) -> None:
        self._call("add", key)
        self._want(key)
        self.workers[0].cancel()
        self._do()

    @rule(data=st.data())
    @precondition(lambda self: self.held)
    def give_back(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.held.remove(key)
        self._call("done", key)
        self._do()

    @rule(seconds=_SECONDS)
    def let_time_pass(self, seconds: float) -> None:
        self._do(seconds)

    @invariant()
    def nothing_waits_while_a_worker_is_free(self) -> None:
        ready = [key for key in self.wanted if key not in self.held]
        assert len(self.queue) == len(ready)
        assert not (ready and self.workers)

    def teardown(self) -> None:
        """Whatever was asked for is taken in the end, and nothing else is left."""
        self._do(1000)
        while self.wanted or self.held:
            for key in sorted(self.held):
                self.held.remove(key)
                self._call("done", key)
            if not self.workers:
                self.workers.append(self.loop.create_task(self.queue.get()))
            self._do()
        assert len(self.queue) == 0
        for worker in self.workers:
            worker.cancel()
        self._do()
        self.loop.close()


QueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestQueue = QueueMachine.TestCase
