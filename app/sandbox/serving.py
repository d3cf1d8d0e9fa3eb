"""Listening: in a process of its own (`python -m app.sandbox`), or in a thread of somebody else's."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from app.sandbox.server import create_app
from app.sandbox.settings import Settings

START_SECONDS = 30.0
GRACE_SECONDS = 2  # what a fault holds open must not hold up the end


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    # asyncio turns Nagle's algorithm off only on sockets that name TCP; with it every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(128)
    return listener


def server_of(app: FastAPI) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


@contextmanager
def served_here(settings: Settings) -> Iterator[str]:
    """A sandbox in a thread of this process, so that it lives by this process's clock; as its base URL.

    Raises:
        CommunityFileError, StateMismatchError: it cannot start as it was told to.
        TimeoutError: it did not begin to answer.
    """
    app = create_app(settings)
    listener, server = listen("127.0.0.1", 0), server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise TimeoutError(f"the sandbox did not begin to answer within {START_SECONDS:.0f} s")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        app.state.world.store.close()
