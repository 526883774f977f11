"""What a container leaves behind: it arrives whole, whatever is in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_runtime.contract.outcome import (
    TERMINATION_MESSAGE_LIMIT,
    ExitCode,
    FailureCode,
    TerminationMessage,
    exit_code_of,
)

_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@given(code=st.sampled_from(FailureCode), piece=_TEXT, times=st.integers(0, 3000))
def test_a_failure_fits_what_the_kubelet_keeps(code: FailureCode, piece: str, times: int) -> None:
    message = TerminationMessage(code=code, message=(piece * times)[:20_000])
    encoded = message.encode()
    assert len(encoded.encode()) <= TERMINATION_MESSAGE_LIMIT
    decoded = TerminationMessage.decode(encoded)
    assert decoded is not None
    assert decoded.code is code
    whole = len(message.to_json().encode()) <= TERMINATION_MESSAGE_LIMIT
    assert (decoded.message == message.message) is whole


@pytest.mark.parametrize("character", ['"', "\n", "\x01", "é", "😀"])
def test_a_long_message_keeps_its_beginning_and_its_end(character: str) -> None:
    encoded = TerminationMessage(code=FailureCode.INTERNAL, message=f"begin{character * 5000}end").encode()
    assert 2000 < len(encoded.encode()) <= TERMINATION_MESSAGE_LIMIT
    decoded = TerminationMessage.decode(encoded)
    assert decoded is not None
    assert decoded.message.startswith("begin") and decoded.message.endswith("end")


@pytest.mark.parametrize(
    "text",
    ["", "Traceback: boom", "[]", "{}", '{"a":1}', '{"message":"a log line"}', '{"code":"NoSuchCode"}'],
)
def test_what_others_wrote_is_no_message(text: str) -> None:
    assert TerminationMessage.decode(text) is None


def test_success_names_the_artifact() -> None:
    digest = f"sha256:{'a' * 64}"
    assert TerminationMessage.decode(TerminationMessage(artifact_digest=digest).encode()) == TerminationMessage(
        artifact_digest=digest
    )


def test_exit_codes_tell_failures_of_the_store_apart() -> None:
    own = [code for code in FailureCode if exit_code_of(code) is not ExitCode.FAILED]
    assert set(own) == {
        FailureCode.INVALID_SPEC,
        FailureCode.ARTIFACT_MISSING,
        FailureCode.ARTIFACT_DAMAGED,
        FailureCode.ARTIFACT_INCOMPATIBLE,
        FailureCode.SOURCE_MISSING,
        FailureCode.SOURCE_DAMAGED,
        FailureCode.SOURCE_TOKEN_MISSING,
        FailureCode.SOURCE_UNSAFE,
    }
    assert len({exit_code_of(code) for code in own}) == len(own)
