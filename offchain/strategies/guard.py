"""What a strategy may know while it decides: nothing later than `now`.

Three fences stand around one decision; `causal` looks at many of them afterwards.

1. The history is a copy of the rows up to now, so nothing later is in it.
2. The frame (`History`) refuses a request for a later date; a request beyond its last row fails by itself, and
   `explained` says what that means. A negative shift is allowed (a forecaster trains on it): it is named as the cause
   if the decision then fails or is not a number.
3. While a strategy that is not our own decides, Python's audit events refuse reading files, the network, the garbage
   collector's lists and other functions' frames.

This is not a sandbox against code that means harm: run no stranger's file. It finds mistakes and shortcuts.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from offchain.strategies.errors import LookAheadError, StrategyError

__all__ = ["Call", "History", "asking", "day", "explained", "known"]

CODE = (
    ".py",
    ".pyc",
    ".so",
    ".pyd",
    ".dylib",
    ".nbi",
    ".nbc",
)  # a library that is loaded late, and numba's cache
SYSTEM = ("/proc/", "/sys/", "/dev/")
INSTALLED = ("zoneinfo", ".dist-info", ".egg-info")
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}
MEMORY = {"gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames"}
BEYOND = re.compile(r"index (\d+) is out of bounds for axis 0 with size (\d+)")


@dataclass(eq=False)
class Call:
    """One decision of one strategy."""

    who: str
    now: pd.Timestamp
    source: str = ""  # the file of the strategy's class
    watched: bool = False  # the third fence
    refused: LookAheadError | None = None  # kept, in case the strategy swallows it
    shifted: bool = False  # by a negative number of rows

    def refuse(self, what: str) -> LookAheadError:
        """The error to raise; the decision fails even if it is caught on the way."""
        self.refused = LookAheadError(f"{self.who}: at {day(self.now)} it {what}")
        return self.refused


_CALL: ContextVar[Call | None] = ContextVar("call", default=None)
_HOOKED: list[bool] = []


@contextmanager
def asking(call: Call) -> Iterator[Call]:
    """The fences stand inside this block."""
    if call.watched and not _HOOKED:
        sys.addaudithook(_audit)  # for the life of the process; idle outside such blocks
        _HOOKED.append(True)
    token = _CALL.set(call)
    try:
        yield call
    finally:
        _CALL.reset(token)


def day(time: pd.Timestamp) -> str:
    """A date, with the hour where it has one."""
    return str(time.date()) if time == time.normalize() else str(time)


# ---------------------------------------------------------------- the frame


def known(history: pd.DataFrame) -> History:
    """A copy that shares no memory with the frame it is made of."""
    index = pd.DatetimeIndex(np.array(history.index, copy=True))
    return History(history.to_numpy(dtype=np.float64, copy=True), index=index, columns=list(history.columns))


class _Known:
    """What History and its columns have in common."""

    @property
    def loc(self) -> Any:
        return _Loc(super().loc, self.index)  # type: ignore[misc, attr-defined]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            _refuse_later(self.index, key)  # type: ignore[attr-defined]
        return super().__getitem__(key)  # type: ignore[misc]

    def shift(self, periods: Any = 1, *args: Any, **kwargs: Any) -> Any:
        call = _CALL.get()
        if call is not None and np.min(periods) < 0:
            call.shifted = True
        return super().shift(periods, *args, **kwargs)  # type: ignore[misc]

    def reindex(self, *args: Any, **kwargs: Any) -> Any:
        for labels in (*args, kwargs.get("labels"), kwargs.get("index")):
            if labels is not None:
                _refuse_later(self.index, labels)  # type: ignore[attr-defined]
        return super().reindex(*args, **kwargs)  # type: ignore[misc]


class History(_Known, pd.DataFrame):
    """Closes up to now, UTC dates by assets: a DataFrame, except that a later date cannot be asked for."""

    @property
    def _constructor(self) -> Any:
        return History

    @property
    def _constructor_sliced(self) -> Any:
        return Closes


class Closes(_Known, pd.Series):
    """A column of History."""

    @property
    def _constructor(self) -> Any:
        return Closes

    @property
    def _constructor_expanddim(self) -> Any:
        return History


class _Loc:
    """pandas' .loc behind a look at the dates asked for."""

    def __init__(self, loc: Any, index: Any) -> None:
        self._loc, self._index = loc, index

    def __getitem__(self, key: Any) -> Any:
        _refuse_later(self._index, key)
        return self._loc[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._loc[key] = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loc, name)


def _refuse_later(index: Any, key: Any) -> None:
    call = _CALL.get()
    if call is None or not isinstance(index, pd.DatetimeIndex):
        return
    if isinstance(key, tuple):
        key = key[0] if key else None
    if isinstance(key, slice):
        parts: Any = (key.start, key.stop)
    elif isinstance(key, (list, pd.DatetimeIndex)) or (isinstance(key, np.ndarray) and key.dtype.kind == "M"):
        parts = key
    else:
        parts = (key,)
    for part in parts:
        asked = _time(part)
        if asked is not None and asked > call.now:
            raise call.refuse(f"asks for {day(asked)}: later than now")


def _time(value: Any) -> pd.Timestamp | None:
    if not isinstance(value, (str, datetime.date, np.datetime64)):
        return None
    try:
        time = pd.Timestamp(value)
    except ValueError:
        return None
    if pd.isna(time):
        return None
    return time.tz_convert(None) if time.tz is not None else time


# ---------------------------------------------------------------- what went wrong


def explained(call: Call, error: Exception, rows: int) -> StrategyError:
    """The error of a decision over a history of `rows` rows, in a line."""
    last = f"its history ends at row {rows - 1} ({day(call.now)})"
    if isinstance(error, KeyError) and error.args:
        asked = _time(error.args[0])
        if asked is not None and asked > call.now:
            return call.refuse(f"asks for {day(asked)}: later than now")
    if isinstance(error, IndexError):
        beyond = BEYOND.search(str(error))
        if "positional indexer" in str(error) or (
            beyond and int(beyond[1]) >= int(beyond[2]) >= rows - 1 and int(beyond[2]) <= rows
        ):
            row = f"row {beyond[1]}" if beyond else "a row beyond the last"
            return call.refuse(f"asks for {row}: {last}, at now")
    what = f"{type(error).__name__}: {error}"
    if call.shifted:
        return call.refuse(f"shifts later rows onto now, and there are none: {last}; {what}")
    where = _where(error, call.source)
    return StrategyError(f"{call.who}: at {day(call.now)}: {where}{what}")


def _where(error: BaseException, source: str) -> str:
    """file:line of the strategy's own code, else of the innermost."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == source] or frames[-1:]
    return f"{own[-1].filename}:{own[-1].lineno}: " if own else ""


# ---------------------------------------------------------------- what is read meanwhile


def _audit(event: str, args: tuple[Any, ...]) -> None:
    call = _CALL.get()
    if call is None or not call.watched:
        return
    if event == "open":
        if _is_data(args[0], args[1]) and not any(
            "importlib._bootstrap" in file for file in _files_to(call.source)
        ):
            raise call.refuse(
                f"reads {args[0]}: a strategy knows only its history; what it needs besides, it reads when it is made"
            )
    elif event in NETWORK:
        raise call.refuse("asks the network: a strategy knows only its history")
    elif event in MEMORY or (event == "sys._getframe" and _asked_by(call.source)):
        raise call.refuse(f"looks into the program that runs it ({event}): a strategy knows only its history")


def _is_data(path: Any, mode: Any) -> bool:
    """Whether a file is opened for reading that is no library's code and not the system's."""
    if not isinstance(path, (str, bytes, os.PathLike)) or (
        isinstance(mode, str) and not set(mode) & set("r+")
    ):
        return False
    name = os.fsdecode(path)
    known = name.endswith(CODE) or name.startswith(SYSTEM) or any(part in name for part in INSTALLED)
    return not known and os.path.isfile(name)  # noqa: PTH113 - pathlib would open more


def _files_to(source: str) -> Iterator[str]:
    """The files of the frames from the event that is being audited up to the strategy's own, the innermost first."""
    try:
        raise LookupError
    except LookupError as here:  # sys._getframe would be audited again
        frame: Any = here.__traceback__.tb_frame.f_back  # type: ignore[union-attr]
    while frame is not None:
        file = frame.f_code.co_filename
        if file != __file__:
            yield file
            if file == source:
                return
        frame = frame.f_back


def _asked_by(source: str) -> bool:
    """Whether the strategy's own file, directly or through `inspect`, caused the event that is being audited."""
    return next((file for file in _files_to(source) if not file.endswith("inspect.py")), "") == source
