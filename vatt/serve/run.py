"""The socket and the loop of the page's server."""

import errno
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from vatt.errors import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """A socket on an address; port 0 is any that is free.

    Raises:
      ConfigError: the port is taken or not allowed, or the address is none of this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"--host {host}: {error.strerror}") from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        sock.listen(128)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is taken; --port 0 finds one that is free") from error
        raise ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    return sock


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(app: Starlette, sock: socket.socket, *, ready: Callable[[], object] = lambda: None) -> None:
    """Answers until Ctrl-C, which ends clips that still stream."""
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1, server_header=False)

    class Server(uvicorn.Server):
        async def startup(self, sockets=None) -> None:
            await super().startup(sockets)
            ready()

    try:
        Server(config).run(sockets=[sock])
    except KeyboardInterrupt:
        pass
    finally:
        sock.close()
