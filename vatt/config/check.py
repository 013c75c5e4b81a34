"""Validation, as every dataclass here does it when it is built."""

from vatt.errors import ConfigError


def check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
