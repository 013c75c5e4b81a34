"""Configurations as files: experiments that make one, and the JSON that a run keeps."""

import dataclasses
import json
import traceback
from pathlib import Path
from typing import Any

from vatt.config.check import check
from vatt.config.runs import Config, FinetuneConfig, RunConfig
from vatt.errors import ConfigError

KINDS: dict[str, type[RunConfig]] = {"pretrain": Config, "finetune": FinetuneConfig}


def to_json(cfg: RunConfig) -> str:
    kind = next(name for name, cls in KINDS.items() if type(cfg) is cls)
    return json.dumps({"kind": kind} | dataclasses.asdict(cfg), indent=2)


def from_json(text: str) -> RunConfig:
    """Rebuilds what `to_json` wrote. Raises ConfigError on a kind or field this version does not know."""
    values = json.loads(text)
    kind = values.pop("kind", "pretrain")
    check(kind in KINDS, f"config is of a kind this version of vatt does not know: {kind}")
    return _build(KINDS[kind], values, "config")


def _build(cls, values: dict, where: str):
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    check(not unknown, f"{where} has a field this version of vatt does not know: {', '.join(unknown)}")
    kwargs = {}
    for name, value in values.items():
        kind = fields[name].type
        if dataclasses.is_dataclass(kind):
            value = _build(kind, value, f"{where}.{name}")
        elif isinstance(value, list):
            value = tuple(value)
        kwargs[name] = value
    return cls(**kwargs)


def load_pretraining(path: str | Path) -> Config:
    """As `load_experiment`, of pretraining alone. Raises ConfigError for another."""
    cfg = load_experiment(path)
    if not isinstance(cfg, Config):
        raise ConfigError(f"{path}: get_config() returns a {type(cfg).__name__}; expected a Config, for pretraining")
    return cfg


def load_experiment(path: str | Path) -> RunConfig:
    """Runs an experiment file and returns what its `get_config()` gives: a Config or a FinetuneConfig.

    Raises:
      ConfigError: the file is missing, does not run, has no `get_config`, or returns something else.
    """
    path = Path(path)
    check(path.is_file(), f"{path}: no such experiment file; see the files in experiments/")
    namespace: dict[str, Any] = {"__name__": "experiment", "__file__": str(path)}
    try:
        exec(compile(path.read_text(), str(path), "exec"), namespace)
        make = namespace.get("get_config")
        check(callable(make), f"{path} defines no get_config(); it must return a vatt.config.Config or FinetuneConfig")
        cfg = make()  # pyright: ignore[reportOptionalCall]
    except ConfigError:
        raise
    except SyntaxError as error:
        where = f"{error.filename}, line {error.lineno}"
        raise ConfigError(f"{where}: {error.msg}: {(error.text or '').strip()}") from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error
    known = " or ".join(f"vatt.config.{cls.__name__}" for cls in KINDS.values())
    check(type(cfg) in KINDS.values(), f"{path}: get_config() returned {type(cfg).__name__}, not a {known}")
    return cfg
