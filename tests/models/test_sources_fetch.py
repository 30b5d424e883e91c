"""Weights come from the caches of torch and the Hub, else from the network, else not at all."""

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from toplabel.errors import DownloadError
from toplabel.models.sources.fetch import cannot_load, torch_cache_path

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server with one good and one damaged file."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / f"good-{DIGEST}.pth").write_bytes(CONTENT)
    (folder / "damaged-00000000.pth").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_downloads_once_into_the_cache_of_torch(
    torch_home: Path, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    from toplabel.models.sources.fetch import fetch_url

    caplog.set_level("INFO", "toplabel")
    url = f"{server}/good-{DIGEST}.pth"
    path = fetch_url(url, offline=False)
    assert path == torch_home / f"good-{DIGEST}.pth"
    assert path.read_bytes() == CONTENT
    assert caplog.messages == [f"downloading {url}"]
    assert fetch_url(url, offline=True) == path
    assert len(caplog.messages) == 1


def test_nothing_goes_to_standard_output(
    torch_home: Path, server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from toplabel.models.sources.fetch import fetch_url

    fetch_url(f"{server}/good-{DIGEST}.pth", offline=False)
    assert capfd.readouterr().out == ""


def test_refuses_a_download_whose_hash_is_wrong(torch_home: Path, server: str) -> None:
    from toplabel.models.sources.fetch import fetch_url

    with pytest.raises(DownloadError, match="invalid hash value"):
        fetch_url(f"{server}/damaged-00000000.pth", offline=False)
    assert not list(torch_home.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"), [("missing-00000000.pth", "404"), ("good-00000000.pth", "refused")]
)
def test_says_what_is_missing_where_and_why(
    torch_home: Path, server: str, name: str, reason: str
) -> None:
    from toplabel.models.sources.fetch import fetch_url

    address = server if reason == "404" else NOBODY
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch_url(f"{address}/{name}", offline=False)
    assert str(torch_home / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_offline_never_asks_the_network(torch_home: Path) -> None:
    from toplabel.models.sources.fetch import fetch_url

    with pytest.raises(DownloadError, match=r"x-00000000.pth is not on this machine .*and down"):
        fetch_url(f"{NOBODY}/x-00000000.pth", offline=True)


def from_hub(name: str) -> Path:
    from toplabel.models.sources.fetch import fetch_from_hub

    return fetch_from_hub(
        name,
        key_files=["config.json"],
        choose=lambda names: names,
        offline=False,
    )


def test_a_hub_that_is_not_there_is_noticed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        DownloadError, match=f"org/name is not on this machine .looked in {tmp_path}"
    ):
        from_hub("org/name")


def test_hf_hub_offline_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids"):
        from_hub("org/name")


def test_weights_that_do_not_load_are_named_with_what_to_do(
    torch_home: Path, tmp_path: Path
) -> None:
    downloaded = torch_cache_path("https://a/b.pth")
    repository = tmp_path / "models--timm--resnet18"
    snapshot = repository / "snapshots" / "0123abcd"
    damaged = RuntimeError("unexpected EOF\nand more")
    for name, path, expected in (
        ("timm/b", downloaded, f"timm/b from {downloaded}: unexpected EOF; delete {downloaded} to"),
        ("hf/a/b", snapshot, f"hf/a/b from {snapshot}: unexpected EOF; delete {repository} to"),
        (str(tmp_path), tmp_path, f"{tmp_path}: unexpected EOF; check that its files are whole"),
    ):
        assert str(cannot_load(name, path, damaged)).startswith(f"cannot load {expected}")
