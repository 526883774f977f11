from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from neuron_localcluster import ports
from neuron_localcluster.components import accepts
from neuron_localcluster.processes import ProcessSpec, ProcessTable

REPO = "acme/tiny"
FILES = {
    "config.json": b'{"model_type": "llama"}\n',
    "README.md": "Grüße\n".encode(),
    "model.safetensors": bytes(range(256)) * 40_000,
    "original/params.json": b"{}",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    for name, content in FILES.items():
        path = root / REPO / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / REPO / ".gitignore").write_text("no part of the model")
    return root


@pytest.fixture(scope="module")
def endpoint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = ports.assign(["hub"], {})["hub"]
    command = (sys.executable, "-m", "neuron_localcluster.standins.hub", "--root", str(root), "--port", str(port))
    folder = tmp_path_factory.mktemp("processes")
    processes = ProcessTable(str(folder), folder / "run", folder / "logs")
    processes.start(ProcessSpec("hub", command))
    try:
        processes.wait_until("hub", lambda: accepts(port), 30)
        yield f"http://127.0.0.1:{port}"
    finally:
        processes.stop(["hub"])


@pytest.fixture
def api(endpoint: str) -> HfApi:
    return HfApi(endpoint=endpoint, token=False)


def git_blob(path: Path) -> str:
    return subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout.strip()


def test_metadata_names_every_content_as_git_and_lfs_do(api: HfApi, root: Path) -> None:
    info = api.model_info(REPO, files_metadata=True)

    assert info.sha is not None
    assert len(info.sha) == 40
    assert info.siblings is not None
    files = {sibling.rfilename: sibling for sibling in info.siblings}
    assert set(files) == set(FILES)
    assert files["README.md"].blob_id == git_blob(root / REPO / "README.md")
    assert files["README.md"].size == len(FILES["README.md"])
    assert files["README.md"].lfs is None
    weights = files["model.safetensors"]
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert weights.size == weights.lfs.size == len(FILES["model.safetensors"])
    assert weights.blob_id != git_blob(root / REPO / "model.safetensors"), "git holds a pointer, not the weights"


def test_metadata_is_short_unless_blobs_are_asked_for(endpoint: str) -> None:
    siblings = httpx.get(f"{endpoint}/api/models/{REPO}/revision/main", trust_env=False).json()["siblings"]

    assert all(set(sibling) == {"rfilename"} for sibling in siblings)


@pytest.mark.parametrize("revision", ["main", None])
def test_snapshot_is_byte_for_byte_the_folder(api: HfApi, endpoint: str, tmp_path: Path, revision: str | None) -> None:
    wanted = revision or api.model_info(REPO).sha
    folder = Path(snapshot_download(REPO, revision=wanted, endpoint=endpoint, cache_dir=tmp_path, token=False))

    assert folder.name == api.model_info(REPO).sha
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(FILES)
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content


def test_single_file_is_downloaded_by_the_commit(api: HfApi, endpoint: str, tmp_path: Path) -> None:
    commit = api.model_info(REPO).sha
    path = hf_hub_download(
        REPO, "model.safetensors", revision=commit, endpoint=endpoint, local_dir=tmp_path, token=False
    )

    assert Path(path).read_bytes() == FILES["model.safetensors"]


def test_large_files_are_redirected_to_another_host(api: HfApi, endpoint: str) -> None:
    answer = httpx.head(f"{endpoint}/{REPO}/resolve/main/model.safetensors", trust_env=False)

    digest = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert answer.status_code == 302
    assert httpx.URL(answer.headers["Location"]).host != httpx.URL(endpoint).host
    assert answer.headers["X-Linked-Etag"] == f'"{digest}"'
    assert answer.headers["X-Linked-Size"] == str(len(FILES["model.safetensors"]))
    assert answer.headers["X-Repo-Commit"] == api.model_info(REPO).sha


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_ranges_are_served(endpoint: str, name: str) -> None:
    answer = httpx.get(
        f"{endpoint}/{REPO}/resolve/main/{name}",
        headers={"Range": "bytes=3-9"},
        follow_redirects=True,
        trust_env=False,
    )

    assert answer.status_code == 206
    assert answer.content == FILES[name][3:10]
    assert answer.headers["Content-Range"] == f"bytes 3-9/{len(FILES[name])}"


def test_small_files_carry_their_blob_id_as_etag(endpoint: str, root: Path) -> None:
    answer = httpx.head(f"{endpoint}/{REPO}/resolve/main/config.json", trust_env=False)

    assert answer.status_code == 200
    assert answer.headers["ETag"] == f'"{git_blob(root / REPO / "config.json")}"'
    assert answer.headers["Content-Length"] == str(len(FILES["config.json"]))


def test_missing_repository_looks_private_to_anonymous_readers(api: HfApi, endpoint: str) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/absent")

    answer = httpx.get(f"{endpoint}/api/models/acme/absent/revision/main", trust_env=False)
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (401, "RepoNotFound")


def test_missing_revision_and_file_say_which_is_missing(api: HfApi, endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="refs/pr/1")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(REPO, "config.json", revision="f" * 40, endpoint=endpoint, cache_dir=tmp_path, token=False)
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(REPO, "absent.json", endpoint=endpoint, cache_dir=tmp_path, token=False)


@pytest.mark.parametrize("path", ["..%2F..%2Fsecret", "acme/tiny/resolve/main/..%2F..%2F..%2Fsecret", "acme/.git"])
def test_nothing_outside_of_a_repository_is_served(endpoint: str, root: Path, path: str) -> None:
    (root.parent / "secret").write_text("keep")

    assert httpx.get(f"{endpoint}/{path}", trust_env=False).status_code in (401, 404)


def test_changed_content_is_another_commit(endpoint: str, root: Path) -> None:
    folder = root / "acme" / "moving"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    api = HfApi(endpoint=endpoint, token=False)
    before = api.model_info("acme/moving").sha

    (folder / "config.json").write_text('{"a": 1}')

    after = api.model_info("acme/moving").sha
    assert before != after
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/moving", revision=before)
