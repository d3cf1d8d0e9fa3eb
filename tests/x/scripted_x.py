"""An HTTP server that answers what a test tells it to, and does to connections what networks do."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Keys whose values must never be seen anywhere.
CANARIES = {
    "x_api_key": "CANARYapikey0000",
    "x_api_secret": "CANARYapisecret0000",
    "x_access_token": "1000001-CANARYtoken0000",
    "x_access_token_secret": "CANARYtokensecret0000",
}
OAUTH2_CANARIES = {"x_client_id": "a-client", "x_client_secret": "CANARYclientsecret0000"}


@dataclass(frozen=True)
class Reply:
    """One answer. A body that is bytes is sent as it is, anything else as JSON."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reset:
    """The connection is reset after the request was read."""


@dataclass(frozen=True)
class Stall:
    """Nothing is answered until the server is closed."""


@dataclass(frozen=True)
class CutShort:
    """The answer breaks off in the middle of its body."""

    status: int = 201


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


Script = Reply | Reset | Stall | CutShort | Callable[[Request], Reply]


class ScriptedX:
    """Answers requests from a queue, then with `otherwise`; `requests` is what arrived."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.queue: deque[Script] = deque()
        self.otherwise: Script = Reply(500, {"title": "nothing scripted"})
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def script(self, *answers: Script) -> None:
        self.queue.extend(answers)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        x = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._serve()

            do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Silent: a test says what went wrong."""

            def _serve(self) -> None:
                request = self._read()
                x.requests.append(request)
                answer = x.queue.popleft() if x.queue else x.otherwise
                if callable(answer):
                    answer = answer(request)
                if isinstance(answer, Reset):
                    # Lingering for no time turns the close into a reset.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    self.connection.close()
                elif isinstance(answer, Stall):
                    x._closing.wait(30)
                    self.close_connection = True
                elif isinstance(answer, CutShort):
                    self.send_response(answer.status)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b'{"data":')
                    self.close_connection = True
                else:
                    self._answer(answer)

            def _read(self) -> Request:
                url = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                return Request(self.command, url.path, query, dict(self.headers), _body(raw))

            def _answer(self, reply: Reply) -> None:
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                if "Date" in reply.headers:
                    self.send_response_only(reply.status)  # without a Date of the server's own
                else:
                    self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        return Handler


def _body(raw: bytes) -> Any:
    """JSON read, a form as the text that it is."""
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode()


def post(x_post_id: str = "2001", **fields: Any) -> dict[str, Any]:
    """A post as X's API gives it."""
    return {
        "id": x_post_id,
        "text": "hello",
        "author_id": "7",
        "created_at": "2026-01-05T08:00:00.000Z",
        "conversation_id": x_post_id,
        "lang": "en",
        "edit_history_tweet_ids": [x_post_id],
        "public_metrics": {
            "like_count": 3,
            "retweet_count": 2,
            "reply_count": 1,
            "quote_count": 0,
            "bookmark_count": 4,
            "impression_count": 50,
        },
        **fields,
    }


def user(user_id: str = "7", handle: str = "ada", **fields: Any) -> dict[str, Any]:
    """A user as X's API gives one."""
    return {"id": user_id, "username": handle, "name": handle.title(), **fields}


def problem(kind: str, detail: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"https://api.x.com/2/problems/{kind}", "title": "Problem", "detail": detail, **fields}
