"""Who is let in, and how much of it: names, origins, tokens, rates, and the size and time of what is sent."""

import asyncio
import ipaddress
import math
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpanet_pl.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")  # hosts to listen on, and names in a Host header
EVERYWHERE = ("0.0.0.0", "::", "")
OPEN = ("/", "/healthz")  # the page shows nothing by itself
MOST_BYTES = 20_000_000  # of an upload
MOST_HELD = 200_000_000  # of all uploads that are being read
SECONDS = 20.0  # that an upload may take
SHORTEST = 16  # characters of a token
POLICY = (
    "default-src 'none'; img-src data: blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def tokens_of(file: str | Path | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Names by token: of a file with a token a line, or a name and a token, and of MPANET_TOKEN; empty without both.

    >>> tokens_of(None, {"MPANET_TOKEN": "a word of some length"})
    {'a word of some length': ''}
    """
    lines = [environment["MPANET_TOKEN"]] if environment.get("MPANET_TOKEN") else []
    found = dict.fromkeys(lines, "")
    if file is not None:
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"token_file={file} cannot be read: {error}.") from error
        for line in filter(None, map(str.strip, text.splitlines())):
            name, _, token = line.rpartition(" ")
            found[token] = name.strip()
        if not found:
            raise UserError(f"token_file={file} holds no token.")
    if any(len(token) < SHORTEST for token in found):
        raise UserError(f"A token has at least {SHORTEST} characters: openssl rand -hex 16 makes one.")
    return found


def names_of(host: str, hosts: Sequence[str], tokens: Mapping[str, str]) -> list[str]:
    """Under which names a server that listens on `host` is asked; a network's needs a token."""
    if host in LOOPBACK and not hosts:
        return list(LOOPBACK)
    if not tokens:
        raise UserError(
            f"host={host} lets a network in, which needs a token: token_file=FILE, or MPANET_TOKEN in the environment."
        )
    if host in EVERYWHERE and not hosts:
        raise UserError(f"host={host} is asked under which names? hosts=[gallery.example.org,192.0.2.7]")
    return [*LOOPBACK, *hosts, *([] if host in EVERYWHERE else [host])]


class Guard:
    """An ASGI middleware: nobody's page but our own, nobody without a token, nobody too often."""

    def __init__(self, app: ASGIApp, *, tokens: Mapping[str, str], rate: RateLimitItem | None) -> None:
        self.app = app
        self.tokens = {form: name for token, name in tokens.items() for form in _forms(token)}
        self.rate = rate
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = await self._refused(scope)
        await (refused or self.app)(scope, receive, with_headers)

    async def _refused(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if _is_of_another_site(headers):
            return refusal(403, "This gallery answers its own page alone, not other sites'.")
        if scope["path"] in OPEN:
            return None
        if self.rate is not None and not await self._limiter.hit(self.rate, client_of(scope)):
            reset = (await self._limiter.get_window_stats(self.rate, client_of(scope))).reset_time
            wait = max(1, math.ceil(reset - time.time()))
            return refusal(429, f"Too many requests: {self.rate} are answered.", {"retry-after": str(wait)})
        if self.tokens and (name := self._name(scope)) is None:
            words = "This gallery wants its token, as Authorization: Bearer TOKEN."
            return refusal(401, words, {"www-authenticate": "Bearer"})
        scope.setdefault("state", {})["user"] = name if self.tokens else ""
        return None

    def _name(self, scope: Scope) -> str | None:
        """Whose token it is, compared in a time that says nothing."""
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        matching = [self.tokens[one] for one in self.tokens if secrets.compare_digest(given, b"Bearer " + one)]
        return matching[0] if matching else None


def rate_of(text: str | None) -> RateLimitItem | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UserError(f"rate is a number of requests in a time, such as 120/minute, got {text}.") from error


def _forms(token: str) -> set[bytes]:
    """As curl and as a browser may send it."""
    latin = token.encode("latin-1", "ignore")
    return {token.encode()} | ({latin} if latin.decode("latin-1") == token else set())


def _is_of_another_site(headers: Headers) -> bool:
    """Whether another site's page asks, which a browser says by itself."""
    if "origin" in headers and headers["origin"].partition("://")[2].lower() != headers.get("host", "").lower():
        return True
    elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return elsewhere and headers.get("sec-fetch-mode") != "navigate"  # a link from elsewhere may open the page


def refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status, headers)


def client_of(scope: Scope) -> str:
    """Who asks: an address, of IPv6 its network of 64 bits, which is one customer's."""
    host = (scope.get("client") or ("unknown", 0))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


class Uploads:
    """What is being read of bodies: bounded in bytes by all together, in time by each."""

    def __init__(self, most: int = MOST_HELD, seconds: float = SECONDS) -> None:
        self.most, self.seconds, self.held = most, seconds, 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        content = bytearray()  # one block, which goes back to the system
        try:
            try:
                async with asyncio.timeout(self.seconds):
                    async for chunk in request.stream():
                        if len(content) + len(chunk) > MOST_BYTES:  # whatever its Content-Length says
                            raise HTTPException(413, f"An upload has at most {MOST_BYTES // 10**6} MB.")
                        if self.held + len(chunk) > self.most:
                            raise HTTPException(503, "Too many uploads at once: try again.", {"retry-after": "5"})
                        self.held += len(chunk)
                        content += chunk
            except TimeoutError:
                raise HTTPException(408, f"An upload takes at most {self.seconds:.0f} s.") from None
            yield bytes(content)
        finally:
            self.held -= len(content)


def guarded(app: FastAPI, *, tokens: Mapping[str, str], names: Sequence[str], rate: RateLimitItem | None) -> None:
    """Add what stands before an application; what is added last is asked first."""
    app.add_middleware(Guard, tokens=tokens, rate=rate)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(names), www_redirect=False)
