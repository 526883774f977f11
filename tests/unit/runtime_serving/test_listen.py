"""Where the server listens, and how its connections are set up."""

from __future__ import annotations

import errno
import socket

import pytest

from neuron_runtime.contract.outcome import ContainerFailure
from neuron_runtime.listen import listen


def _connect(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=5)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.5"])
def test_a_given_address_is_the_only_one(address: str) -> None:
    with listen({"BIND_ADDRESS": address}, 0) as listener:
        assert listener.getsockname()[0] == address
        _connect(address, listener.getsockname()[1]).close()
        with pytest.raises(ConnectionRefusedError):
            _connect("127.0.0.9", listener.getsockname()[1])


def test_without_one_all_addresses_answer() -> None:
    with listen({}, 0) as listener:
        for address in ("127.0.0.1", "127.0.0.9"):
            _connect(address, listener.getsockname()[1]).close()


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with listen({"BIND_ADDRESS": "127.0.0.1"}, 0) as listener, _connect(*listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel has no such limit")
def test_a_client_that_never_reads_its_answer_does_not_keep_it_in_memory() -> None:
    with listen({"BIND_ADDRESS": "127.0.0.1"}, 0, patience=1.0) as listener, _connect(*listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(30)
            with pytest.raises(TimeoutError) as ended:
                while True:
                    accepted.sendall(b"." * 1_000_000)
            assert ended.value.errno == errno.ETIMEDOUT


def test_an_address_that_is_taken_is_named() -> None:
    with listen({"BIND_ADDRESS": "127.0.0.1"}, 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ContainerFailure, match=rf"127\.0\.0\.1, port {port}"):
            listen({"BIND_ADDRESS": "127.0.0.1"}, port)
