"""Versions of the packages that matter, for `vatt --version` and beside every run. Imports none of them."""

import platform
from importlib.metadata import PackageNotFoundError, version

import vatt

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "av", "numpy")


def versions() -> dict[str, str]:
    found = {"vatt": vatt.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
