"""A strategy by its name, or from a user's file: the only module here that touches the disk."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offchain.strategies.base import BUILT_IN, Strategy, adapted
from offchain.strategies.constraints import Constraints
from offchain.strategies.errors import StrategyError
from offchain.strategies.forecast import Forecast, TorchForecast
from offchain.strategies.genetic import Genetic
from offchain.strategies.kinds import (
    HRP,
    BlackLitterman,
    CorrelationAware,
    Equal,
    Fixed,
    MaxSharpe,
    MeanVariance,
    MinVariance,
    RiskParity,
    VolatilityTarget,
)

__all__ = ["KINDS", "NAMES", "make"]

KINDS: Mapping[str, type[Strategy]] = {
    "fixed": Fixed,
    "equal": Equal,
    "mean-variance": MeanVariance,
    "max-sharpe": MaxSharpe,
    "min-variance": MinVariance,
    "risk-parity": RiskParity,
    "hrp": HRP,
    "black-litterman": BlackLitterman,
    "volatility-target": VolatilityTarget,
    "correlation-aware": CorrelationAware,
    "genetic": Genetic,
    "forecast": Forecast,
    "forecast-torch": TorchForecast,
}
NAMES = tuple(KINDS)
BUILT_IN.update(KINDS.values())


def make(
    name_or_file: str, settings: Mapping[str, Any] | None = None, constraints: Constraints | None = None
) -> Strategy:
    """A strategy: one of NAMES, or "path/to/file.py:Class" from the user's own file.

    `settings` are the arguments of its constructor. StrategyError says what is not known and what would be.
    """
    name = str(name_or_file)
    if ".py" in name:
        kind = _from_file(name)
    else:
        key = name.strip().lower().replace("_", "-").replace(" ", "-")
        if key not in KINDS:
            raise StrategyError(
                f"strategy: {name!r} is not known; known are {', '.join(NAMES)}, or a file: mine.py:MyStrategy"
            )
        kind = KINDS[key]
    strategy = adapted(_construct(name, kind, dict(settings or {})))
    strategy.constraints = constraints or Constraints()
    return strategy


def _construct(name: str, kind: type, settings: dict[str, Any]) -> Any:
    signature = inspect.signature(kind)
    names = [p.name for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    open_ended = any(p.kind == p.VAR_KEYWORD for p in signature.parameters.values())
    for key in settings:
        if key not in names and not open_ended:
            raise StrategyError(f"{name}: {key!r} is no setting; settings are {', '.join(names) or 'none'}")
    try:
        signature.bind(**settings)
    except TypeError as error:
        raise StrategyError(f"{name}: {error}; settings are {', '.join(names)}") from None
    try:
        return kind(**settings)
    except StrategyError:
        raise
    except Exception as error:
        raise StrategyError(
            f"{name}: {_said(error, inspect.getfile(kind) if kind not in BUILT_IN else '')}"
        ) from None


def _from_file(name: str) -> type:
    path_text, _, class_name = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    path = Path(path_text).expanduser()
    if not path.is_file():
        raise StrategyError(f"strategy: {path_text}: there is no such file")
    module_name = f"evenkeel_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    if spec is None or spec.loader is None:
        raise StrategyError(f"strategy: {path_text}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look a class's module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise StrategyError(f"strategy: {path_text}: {_said(error, str(path.resolve()))}") from None
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type)
        and callable(getattr(value, "target_weights", None))
        and value.__module__ == module_name
    }
    if not class_name and len(found) == 1:
        return next(iter(found.values()))
    if class_name in found:
        return found[class_name]
    have = ", ".join(found) or "none"
    if class_name and isinstance(getattr(module, class_name, None), type):
        raise StrategyError(f"strategy: {path_text}: {class_name} has no method target_weights(history, now)")
    wanted = f"has no class {class_name}" if class_name else "name the class, file.py:Class"
    raise StrategyError(f"strategy: {path_text}: {wanted}; classes with target_weights are {have}")


def _said(error: BaseException, source: str) -> str:
    """file:line and the exception, of the user's own code where it is on the way."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: SyntaxError: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if source and Path(frame.filename) == Path(source)] or frames[-1:]
    where = f"{own[-1].filename}:{own[-1].lineno}: " if own else ""
    return f"{where}{type(error).__name__}: {error}"
