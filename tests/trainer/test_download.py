"""The download against a server on this machine: whole, interrupted, without ranges, wrong bytes, hostile archives."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.progress import Progress

from trainer.data import download
from trainer.data.download import Archive, fetch
from trainer.errors import TrainerError


class Server(ThreadingHTTPServer):
    """Serves `content`; hangs up after `cut` bytes of a reply; remembers the ranges asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.ranges, self.asked = b"", 0, True, list[str | None]()

    def archive(self) -> Archive:
        port = self.server_address[1]
        return Archive(
            f"http://127.0.0.1:{port}/speech.tar.gz", hashlib.sha256(self.content).hexdigest(), len(self.content)
        )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        asked = self.headers.get("Range")
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut] if server.cut else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    running.content = packed({"./yes/a_nohash_0.wav": b"RIFF" + bytes(range(256)) * 300, "./LICENSE": b"CC BY 4.0"})
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def get(archive: Archive, folder: Path, keep: bool = False) -> Path:
    with Progress(disable=True) as progress:
        return fetch(archive, folder, progress, keep)


def refused(archive: Archive, folder: Path) -> str:
    with pytest.raises(TrainerError) as error:
        get(archive, folder)
    assert "\n" not in str(error.value) and not folder.exists()
    assert not list(folder.parent.glob(".*unpacking"))
    return str(error.value)


def test_whole(server: Server, tmp_path: Path) -> None:
    folder = get(server.archive(), tmp_path / "data" / "set")
    assert (folder / "LICENSE").read_bytes() == b"CC BY 4.0"
    assert len((folder / "yes" / "a_nohash_0.wav").read_bytes()) == 4 + 256 * 300
    assert [f.name for f in folder.parent.iterdir()] == ["set"]
    with pytest.raises(TrainerError, match="is there already"):
        get(server.archive(), folder)
    get(server.archive(), tmp_path / "kept" / "set", keep=True)
    assert (tmp_path / "kept" / "speech.tar.gz").read_bytes() == server.content


def test_continues_after_an_interruption(server: Server, tmp_path: Path) -> None:
    server.cut = 700
    assert "start the same command again" in refused(server.archive(), tmp_path / "set")
    first = (tmp_path / "speech.tar.gz.part").stat().st_size
    assert 0 < first <= 700
    server.cut = 0
    assert (get(server.archive(), tmp_path / "set") / "LICENSE").is_file()
    assert server.asked == [None, f"bytes={first}-"]


def test_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.cut = 700
    refused(server.archive(), tmp_path / "set")
    server.cut, server.ranges = 0, False
    assert (get(server.archive(), tmp_path / "set") / "LICENSE").is_file()


def test_wrong_bytes_are_removed(server: Server, tmp_path: Path) -> None:
    archive = server.archive()
    server.content = server.content[:-1] + bytes([server.content[-1] ^ 1])
    assert "SHA-256 must be" in refused(archive, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_no_server(server: Server, tmp_path: Path) -> None:
    archive = Archive("http://127.0.0.1:9/speech.tar.gz", "0" * 64, 10)
    assert "download stopped" in refused(archive, tmp_path / "set")


def test_no_space(server: Server, tmp_path: Path) -> None:
    archive = Archive(server.archive().url, "0" * 64, 10**18)
    assert "GB of free space" in refused(archive, tmp_path / "set")


def test_hostile_archives(server: Server, tmp_path: Path) -> None:
    for number, name in enumerate(("../outside", "/tmp/outside", "a/../../outside", "c:\\outside")):
        server.content = packed({"fine": b"1", name: b"2"})
        assert "must stay inside" in refused(server.archive(), tmp_path / f"{number}" / "set")
        assert not list(tmp_path.rglob("outside"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    server.content = buffer.getvalue()
    assert "only files and folders" in refused(server.archive(), tmp_path / "link" / "set")


def test_damaged_archives(server: Server, tmp_path: Path) -> None:
    whole = server.content
    for number, content in enumerate((whole[: len(whole) // 2], b"not an archive at all", packed({}))):
        server.content = content
        assert "download" in refused(server.archive(), tmp_path / f"{number}" / "set")


def test_the_official_archive() -> None:
    """As torchaudio and TensorFlow Datasets list it."""
    assert download.SPEECH_COMMANDS.url.endswith("/speech_commands_v0.02.tar.gz")
    assert (len(download.SPEECH_COMMANDS.sha256), download.SPEECH_COMMANDS.size) == (64, 2428923189)
