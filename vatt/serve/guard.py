"""Who may ask. A browser will send to this machine whatever any page tells it to: three checks keep other pages out.

The Host must be a name of this server, so that no other name can be pointed at it (DNS rebinding). Where the browser
says which site a request comes from, it must be this one. And answers say that no other site may embed them.
"""

import ipaddress
import socket
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """Lets through what this server's own page asks.

    host: the address that is listened on. On loopback only its names may be asked for; otherwise any address, which
      cannot be rebound, and the names of this machine.
    """

    def __init__(self, app: ASGIApp, *, host: str, policy: str):
        self.app = app
        self.names: Collection[str] = {*LOOPBACK, host.lower()}
        self.addresses = not is_loopback(host)
        if self.addresses:
            self.names = {*self.names, socket.gethostname().lower(), socket.getfqdn().lower()}
        self.headers = {
            "Content-Security-Policy": policy,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        if scope["type"] != "http":
            return
        refusal = self._refusal(Headers(scope=scope))
        answer = self.app if refusal is None else JSONResponse({"error": refusal}, 403)
        await answer(scope, receive, marked)

    def _refusal(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        name = host_name(host)
        if name not in self.names and not (self.addresses and _is_address(name)):
            return f"this server is not called {name!r}; ask it by its address"
        origin = headers.get("origin")
        if origin is not None and origin.split("://", 1)[-1] != host:
            return f"a page of {origin} may not ask this server"
        navigates = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not navigates:
            return "a page of another site may not ask this server"
        return None


def host_name(host: str) -> str:
    """A Host header without its port and brackets, in lower case."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower()
