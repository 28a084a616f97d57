"""The downloader against a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from attiqa.errors import InputError
from isp_env import download
from isp_env.download import download_file, download_fivek, main, read_digests

CONTENT = bytes(range(256)) * 400


class Server(ThreadingHTTPServer):
    """Serves `CONTENT` under every path; can break off, ignore ranges, or refuse."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.break_off_after: list[int] = []  # bytes sent by each of the next answers
        self.ranges, self.status = True, 200
        self.asked: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(asked[6:-1]) if asked and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = self.server.break_off_after.pop(0) if self.server.break_off_after else len(CONTENT)
        self.wfile.write(CONTENT[start : start + stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def url(server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_a_file_arrives_whole_and_is_not_fetched_twice(server, url, tmp_path):
    path = tmp_path / "deep" / "file.dng"
    assert download_file(f"{url}/x", path, hashlib.sha256(CONTENT).hexdigest())
    assert path.read_bytes() == CONTENT
    assert not download_file(f"{url}/x", path)
    assert len(server.asked) == 1
    assert [p.name for p in path.parent.iterdir()] == ["file.dng"]


def test_a_broken_connection_is_resumed_where_it_broke(server, url, tmp_path):
    server.break_off_after = [30_000, 20_000]
    download_file(f"{url}/x", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=30000-", "bytes=50000-"]


def test_a_later_call_continues_what_an_earlier_one_left(server, url, tmp_path):
    server.break_off_after = [30_000]
    with pytest.raises(InputError, match="could not be fetched in 1 attempts"):
        download_file(f"{url}/x", tmp_path / "a", attempts=1)
    assert not (tmp_path / "a").exists()
    download_file(f"{url}/x", tmp_path / "a")
    assert server.asked[-1][1] == "bytes=30000-"
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_it_all_again(server, url, tmp_path):
    server.ranges, server.break_off_after = False, [30_000]
    download_file(f"{url}/x", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"of another file"])
def test_a_part_that_is_complete_or_too_long_is_understood(server, url, tmp_path, extra):
    (tmp_path / "a.part").write_bytes(CONTENT + extra)
    download_file(f"{url}/x", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_another_digest_is_refused_and_nothing_is_left(server, url, tmp_path):
    with pytest.raises(InputError, match="another SHA-256"):
        download_file(f"{url}/x", tmp_path / "a", "0" * 64)
    assert not list(tmp_path.iterdir())


def test_refusals_and_dead_servers_are_sentences(server, url, tmp_path):
    server.status = 404
    with pytest.raises(InputError, match="server says 404"):
        download_file(f"{url}/x", tmp_path / "a")
    server.status = 503
    with pytest.raises(InputError, match="in 2 attempts"):
        download_file(f"{url}/x", tmp_path / "a", attempts=2)
    with pytest.raises(InputError, match="could not be fetched"):
        download_file("http://127.0.0.1:1/x", tmp_path / "a", attempts=1)


def test_fivek_comes_from_any_base_url_into_its_layout(server, url, tmp_path):
    digests = {"dng/a0001-x.dng": hashlib.sha256(CONTENT).hexdigest(), "dng/a0002-y.dng": "0" * 64}
    failures = download_fivek(["a0001-x", "a0002-y"], tmp_path, ("c",), f"{url}/mirror/", digests)
    assert [file for file, _ in failures] == ["dng/a0002-y.dng"]
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["dng/a0001-x.dng", "tiff16_c/a0001-x.tif", "tiff16_c/a0002-y.tif"]
    assert ("/mirror/tiff16_c/a0002-y.tif", None) in server.asked
    with pytest.raises(InputError, match="got f"):
        download_fivek([], tmp_path, ("f",))


def test_the_command_fetches_a_part_verifies_it_and_names_what_failed(server, url, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("a0001-x\na4999-y\na4501-z\n")
    sums = f"{hashlib.sha256(CONTENT).hexdigest()}  dng/a4501-z.dng\n{'0' * 64} *dng/a4999-y.dng\n"
    (tmp_path / "SHA256SUMS").write_text(sums)
    arguments = ["--names", str(tmp_path / "names.txt"), "--root", str(tmp_path / "fivek"), "--base-url", url]
    chosen = [*arguments, "--split", "upe", "--part", "test", "--experts", "none"]
    assert main([*chosen, "--digests", str(tmp_path / "SHA256SUMS")]) == 2
    written = capsys.readouterr()
    assert "1 of 2 files" in written.out
    assert "dng/a4999-y.dng" in written.err
    assert "another SHA-256" in written.err
    assert main([*arguments, "--experts", "c", "e", "--first", "1"]) == 0
    files = sorted(str(path.relative_to(tmp_path / "fivek")) for path in (tmp_path / "fivek").rglob("*.*"))
    assert files == ["dng/a0001-x.dng", "dng/a4501-z.dng", "tiff16_c/a0001-x.tif", "tiff16_e/a0001-x.tif"]


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--base-url", "ftp://x"], "http or https"),
        (["--part", "test"], "name it with --split"),
        (["--experts", "f"], "got f"),
        (["--split", "upe", "--part", "test"], "names no picture"),
        (["--digests", "/nowhere"], "does not exist"),
    ],
)
def test_the_commands_bad_input_ends_in_a_sentence(more, sentence, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("a0001-x\n")
    assert main(["--names", str(tmp_path / "names.txt"), "--root", str(tmp_path), *more]) == 2
    assert sentence in capsys.readouterr().err


def test_digests_are_read_from_json_and_checked(tmp_path):
    (tmp_path / "a.json").write_text('{"dng/x.dng": "' + "a" * 64 + '"}')
    assert read_digests(tmp_path / "a.json") == {"dng/x.dng": "a" * 64}
    (tmp_path / "sums").write_text("abc  dng/x.dng\n")
    with pytest.raises(InputError, match=r"no SHA-256 for 'dng/x\.dng'"):
        read_digests(tmp_path / "sums")
