"""The published data sets, from the user's own copy in its official layout: one short module each, all of one shape.

    module docstring  what it is; then source, licence, size, splits, layout and how to get it
    SPLITS            the splits there are; DEFAULT_SPLIT is the one meant when none is named
    rows(folder, split) -> Listing
                      no media is opened; a file that the annotations name and the folder lacks is a Fault "missing"
    group(id) -> str  where clips are cut from the same films: which, by the id of a clip

A field of a docstring that could not be confirmed from the publisher says so.
"""

import re
from importlib import import_module
from types import ModuleType

from vatt.errors import DataError

_MODULES = {  # name in a source string -> module
    "howto100m": "howto100m",
    "audioset": "audioset",
    "kinetics400": "kinetics",
    "kinetics600": "kinetics",
    "kinetics700": "kinetics",
    "moments": "moments",
    "ucf101": "ucf101",
    "hmdb51": "hmdb51",
    "esc50": "esc50",
    "imagenet": "imagenet",
    "youcook2": "youcook2",
    "msrvtt": "msrvtt",
    "vggsound": "vggsound",
    "audiocaps": "audiocaps",
}
NAMES = tuple(_MODULES)


def load(name: str) -> ModuleType:
    """The module of a data set. Raises DataError if there is none of that name."""
    if name not in _MODULES:
        raise DataError(f"no data set is called {name!r}; there are {', '.join(NAMES)}")
    return import_module(f"vatt.data.builders.{_MODULES[name]}")


def modules() -> list[tuple[list[str], ModuleType]]:
    """Each module, with the names that it serves, in the order of NAMES."""
    served: dict[ModuleType, list[str]] = {}
    for name in NAMES:
        served.setdefault(load(name), []).append(name)
    return [(names, module) for module, names in served.items()]


def facts(module: ModuleType) -> dict[str, str]:
    """The fields of a builder's docstring, each on one line: what, source, licence, size, splits, layout, to get it."""
    first, _, rest = (module.__doc__ or "").partition("\n")
    found = {"what": first.strip()}
    for label, text in re.findall(r"^(source|licence|size|splits|layout|to get it|cost) +(.*(?:\n .*)*)", rest, re.M):
        found[label] = " ".join(text.split())
    return found
