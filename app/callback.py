"""The address on this machine's loopback to which X sends the browser back: one request is waited for (RFC 8252)."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

from pydantic import SecretStr

HOST, PATH = "127.0.0.1", "/callback"
SAID = b"<!doctype html><title>Explorer</title><p>X has answered. What came of it stands in the terminal.</p>"


class Callback:
    """Listens from the moment it is made.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._came: str | None = None
        self._server = HTTPServer((HOST, port), self._handler())

    def wait(self, seconds: float) -> SecretStr | None:
        """The address that the browser was sent to, None if none came in so many seconds of wall time."""
        deadline = time.monotonic() + seconds
        with self._server:
            while self._came is None and (left := deadline - time.monotonic()) > 0:
                self._server.timeout = left
                self._server.handle_request()
        return SecretStr(self._came) if self._came is not None else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        callback = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # a browser may open a connection ahead and say nothing

            def do_GET(self) -> None:
                ours = urlsplit(self.path).path == PATH
                self.send_response(200 if ours else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(SAID if ours else b"")
                if ours:
                    callback._came = f"http://{HOST}{self.path}"

            def log_message(self, *_: object) -> None:
                """Silent: the line would hold the code."""

        return Handler
