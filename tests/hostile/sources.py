"""``data.source`` that leads astray, and mirrors that do not behave."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

from ddpm.sources import fetch as _sources
from tests.hostile.files import fetch

Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(respond: Respond) -> Iterator[str]:
    """The address of a server on this machine that answers each request with ``respond``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):  # the client gave up
                respond(self)

        def log_message(self, format: str, *args) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def answer(body: bytes, code: int = 200, **headers: str) -> Respond:
    def respond(to: http.server.BaseHTTPRequestHandler) -> None:
        to.send_response(code)
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value.format(host=to.headers["Host"]))
        to.end_headers()
        to.wfile.write(body)

    return respond


def endless(to: http.server.BaseHTTPRequestHandler) -> None:
    to.send_response(200)
    to.end_headers()
    while True:
        to.wfile.write(bytes(2**16))


def dripping(to: http.server.BaseHTTPRequestHandler) -> None:
    """Send a byte at a time, each long before the time-out."""
    to.send_response(200)
    to.end_headers()
    stop = threading.Event()
    for _ in range(100):
        to.wfile.write(b"x")
        stop.wait(0.01)


def headers_without_end(to: http.server.BaseHTTPRequestHandler) -> None:
    to.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Header: 1\r\n" * 1000)


def from_mirror(respond: Respond, query: str = "") -> None:
    limits = mock.patch.multiple(_sources, MAX_DOWNLOAD_BYTES=2**20, PATIENCE_S=0.2, TIMEOUT_S=5)
    with serving(respond) as host, limits:
        fetch(f"http://{host}/photos.zip{query}")


MIRRORS: list[tuple[str, Respond, str]] = [
    ("a refusal", answer(b"", 403), "HTTP Error 403"),
    ("a redirection to ftp", answer(b"", 302, Location="ftp://127.0.0.1/photos.zip"), "which is not allowed"),
    ("a redirection to itself", answer(b"", 302, Location="http://{host}/photos.zip"), "infinite loop"),
    ("fewer bytes than announced", answer(b"x" * 10, Content_Length="100"), "cannot be fetched"),
    ("a length below 0", answer(b"x", Content_Length="-5"), "not a zip file"),
    ("endless bytes", endless, "larger than 1,048,576 bytes"),
    ("endless headers", headers_without_end, "cannot be fetched"),
    ("a byte now and then", dripping, "bytes in"),
]
SOURCES: list[tuple[str, str, str]] = [
    ("an address with a line break", "http://127.0.0.1:1/a\nHost: b/photos.zip", "cannot be fetched"),
    ("a file:// address", "file:///etc/passwd", "no such file or folder"),
    ("a path with NUL", "photos\0.zip", "no such file or folder 'photos\\x00.zip'"),
    ("a path of 100,000 letters", "x" * 100_000, "no such file or folder 'xxx"),
    ("a password in the address", "http://me:hunter2@127.0.0.1:1/photos.zip", "http://***@127.0.0.1"),
]
READS = [(f"a mirror that sends {name}", partial(from_mirror, respond), line) for name, respond, line in MIRRORS]
READS += [(name, partial(fetch, source), line) for name, source, line in SOURCES]
READS += [("a token in the address", partial(from_mirror, answer(b"", 403), "?token=hunter2"), "contains a query")]
CASES = {name: (lambda: None, read, line) for name, read, line in READS}
