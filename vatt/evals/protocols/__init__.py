"""Published zero-shot retrieval protocols, from the user's own copy of the official files: one short module a data set.

    module docstring     the data set's retrieval test, its official layout, and what of it is unconfirmed
    PROTOCOLS            the protocols on it, each a frozen `Protocol` with a version
    entries(folder)      -> Official: the items in the order of the official file, with their captions. By protocol name

`measure.measure` runs any of them. A protocol that changes gets another version, so that no two numbers under one name
and version were measured differently.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from vatt.errors import DataError
from vatt.evals.protocols.protocol import Official, Protocol

_MODULES = {  # protocol -> module
    "youcook2": "youcook2",
    "youcook2-milnce": "youcook2",
    "msrvtt-1ka": "msrvtt",
    "msrvtt-full": "msrvtt",
    "audiocaps": "audiocaps",
    "vggsound-av": "vggsound",
    "clotho": "clotho",
}
NAMES = tuple(_MODULES)


def load(name: str) -> Protocol:
    """The protocol of that name. Raises DataError if there is none."""
    return _module(name).PROTOCOLS[name]


def official(name: str, folder: Path) -> Official:
    """What a protocol's official file lists. Raises DataError if it is not in the folder, or is not that file."""
    read: Callable[[Path], Official] = _module(name).ENTRIES[name]
    found = read(folder)
    if not found.entries:
        raise DataError(f"{found.file}: lists no items")
    return found


def _module(name: str):
    if name not in _MODULES:
        raise DataError(f"no protocol is called {name!r}; there are {', '.join(NAMES)}")
    return import_module(f"vatt.evals.protocols.{_MODULES[name]}")
