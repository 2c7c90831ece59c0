"""The server on a network: connections that come to something in time, so many at most, and an end within seconds.

Uvicorn bounds a connection once it was answered. Before that it waits for ever, and `limit_concurrency` then refuses
whoever is honest; here the one that has been sending longest makes room.
"""

import asyncio
import logging
import multiprocessing
import os
import socket
import threading
from collections.abc import Sequence
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from mpanet_pl.errors import UserError

HEADER_SECONDS = 10.0  # to send a request's headers
END_SECONDS = 2  # to finish what is being answered
LAST_SECONDS = 3.5  # then the process ends, whatever it does
MOST_HEADERS = 16_384  # bytes


class Bounded(H11Protocol):
    """A connection whose requests' headers come within `HEADER_SECONDS`; there are `most` at once."""

    most = 256
    since = 0.0  # when it began to wait for what it is waiting for
    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.since = self.loop.time()
        if len(self.connections) > self.most:
            unfinished = [one for one in self.connections if one.sending]
            min(unfinished, key=lambda one: one.since).transport.abort()  # itself, where no other is
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()
        self._watch()

    @property
    def waiting(self) -> bool:
        """For a request's headers."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def sending(self) -> bool:
        """Or for the rest of its body."""
        return self.waiting or self.conn.their_state is h11.SEND_BODY

    def _watch(self) -> None:
        if not self.waiting:
            self._stop_watching()
        elif self.deadline is None and not self.transport.is_closing():
            self.deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _stop_watching(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


class Server(uvicorn.Server):
    """One that a signal ends within five seconds."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        last = threading.Timer(LAST_SECONDS, _end)
        last.daemon = True
        last.start()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # whoever is cut off is no news
        super().handle_exit(sig, frame)


def _end() -> None:
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(1)


def check_free(host: str, port: int) -> None:
    """That this port can be listened on, before anything is loaded."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        raise UserError(f"Nobody can listen on host={host} port={port}: {reason}.") from error


def server_of(
    app: FastAPI, *, host: str, port: int, proxies: Sequence[str] = (), connections: int = Bounded.most
) -> Server:
    """proxies: whose word on who asks (X-Forwarded-For) is believed."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=type("Connection", (Bounded,), {"most": connections}),
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_graceful_shutdown=END_SECONDS,
        backlog=connections,
        h11_max_incomplete_event_size=MOST_HEADERS,
    )
    return Server(config)
