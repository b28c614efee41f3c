"""When a job is due: a cron line in a time zone, or an interval. Pure: every clock is an argument.

Cron lines are read as cron reads them: Sunday is 0 and 7, and where both the day of the month and the day of the week
are given, either will do. Where the clocks change, a line with fixed hours runs once that day: in an hour that does not
exist right after it, in an hour that comes twice the first time. A line whose hours are `*` follows real time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]

from offchain.chain.errors import ConfigError

__all__ = ["Cron", "Rhythm", "Timer"]

SHIFT = timedelta(hours=3)  # no change of clocks is larger
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
BACKWARDS = 1.0  # seconds: a clock that goes back by less was only adjusted


class Cron:
    """A five-field cron line in an IANA time zone. ConfigError where it is none, or never comes."""

    def __init__(self, line: str, timezone: str = "UTC") -> None:
        try:
            self.zone = ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):  # no such zone, no name of one, a folder of zones
            raise ConfigError(
                f"timezone: {timezone!r} is not an IANA time zone such as Europe/Berlin"
            ) from None
        fields = line.split()
        try:
            if len(fields) != 5:
                raise ValueError(f"{len(fields)} fields, not 5: minute hour day month weekday")
            self._every_hour = fields[1].startswith("*")
            self._faces = [CronTrigger.from_crontab(part, timezone=UTC) for part in _either_day(fields)]
        except ValueError as error:
            raise ConfigError(f"cron: {line!r} is not a five-field cron line: {error}") from None
        if self._nominal(datetime(2000, 1, 1)) is None:
            raise ConfigError(f"cron: {line!r} never comes: there is no such day")

    def after(self, time: float) -> float:
        """The first time of the line after `time`, both UTC seconds."""
        now = datetime.fromtimestamp(time, UTC)
        here = now.astimezone(self.zone).replace(tzinfo=None)
        face, found = self._nominal(here - SHIFT), None
        while face is not None and (found is None or face <= here + SHIFT):
            times = [at for at in self._instants(face) if at > now]
            found = min([*times, *([found] if found else [])], default=None)
            face = self._nominal(face)
        if found is None:
            raise ConfigError("cron: the line never comes again")
        return found.timestamp()

    def _nominal(self, face: datetime) -> datetime | None:
        """The next time on a clock face that never changes."""
        start = face.replace(tzinfo=UTC) + timedelta(microseconds=1)
        times = [time for trigger in self._faces if (time := trigger.get_next_fire_time(None, start))]
        return min(times).replace(tzinfo=None) if times else None

    def _instants(self, face: datetime) -> list[datetime]:
        """When the zone's clocks show that: mostly once."""
        first, second = (face.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if not self._every_hour:
            return [first]
        return [at for at in {first, second} if at.astimezone(self.zone).replace(tzinfo=None) == face]


@dataclass(frozen=True)
class Rhythm:
    """When a job runs. ConfigError where the cron line or the time zone is wrong."""

    interval_seconds: float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    on_block: bool = False
    on_price: bool = False
    line: Cron | None = field(init=False, default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.cron is not None:
            object.__setattr__(self, "line", Cron(self.cron, self.timezone))

    @property
    def at_start(self) -> bool:
        """Whether it runs once when the process starts, whatever the time."""
        return self.line is None or self.on_block or self.on_price

    def __str__(self) -> str:
        timed = f"{self.cron} {self.timezone}" if self.cron else f"every {self.interval_seconds} s"
        more = [name for name, on in (("each block", self.on_block), ("each price", self.on_price)) if on]
        return ", ".join([timed, *more])


class Timer:
    """Says when a rhythm's next time has come, whatever happens to the clocks. `wall`: UTC seconds; `mono`: monotonic.

    An interval has passed when either clock says so: one stands still while a machine sleeps, the other can be set. A
    cron line follows the wall clock; when that is set back, the next time is worked out anew.
    """

    def __init__(self, rhythm: Rhythm, wall: float, mono: float) -> None:
        self._rhythm, self._seen = rhythm, wall
        self.slot = wall  # the time that was due last
        self._arm(wall, mono)

    def due(self, wall: float, mono: float) -> bool:
        """Whether the job is to run now; then the next time is set. However many were missed, it is one."""
        if self._rhythm.line is not None and wall < self._seen - BACKWARDS:
            self._arm(wall, mono)
        self._seen = wall
        if self.left(wall, mono) > 0:
            return False
        self.slot = wall
        self._arm(wall, mono)
        return True

    def left(self, wall: float, mono: float) -> float:
        """Seconds to the next time."""
        left = self._next_wall - wall
        return left if self._rhythm.line is not None else min(left, self._next_mono - mono)

    def _arm(self, wall: float, mono: float) -> None:
        self._seen = wall
        if self._rhythm.line is not None:
            self._next_wall = self._rhythm.line.after(wall)
            return
        seconds = self._rhythm.interval_seconds or 0
        self._next_wall, self._next_mono = wall + seconds, mono + seconds


def _either_day(fields: list[str]) -> list[str]:
    """The line with names of days, for APScheduler counts them from Monday; two lines where either day will do."""
    minute, hour, day, month, weekday = fields
    named = _named(weekday)
    if day.startswith("*") or weekday.startswith("*"):
        return [f"{minute} {hour} {day} {month} {named}"]
    return [f"{minute} {hour} {day} {month} *", f"{minute} {hour} * {month} {named}"]


def _named(weekdays: str) -> str:
    found: list[str] = []
    for part in weekdays.lower().split(","):
        days, _, step = part.partition("/")
        first, dash, last = days.partition("-")
        low, high = (0, 6) if days == "*" else (_number(first), _number(last) if dash else _number(first))
        if step and not dash and days != "*":
            high = 6
        if high < low or (step and not (step.isdecimal() and int(step) > 0)):
            raise ValueError(f"weekday {part!r} is not a day, a range or a step")
        found += WEEKDAYS[low : high + 1 : int(step or 1)]
    return "*" if set(found) == set(WEEKDAYS) else ",".join(dict.fromkeys(found))


def _number(day: str) -> int:
    if day in WEEKDAYS:
        return WEEKDAYS.index(day)
    if day.isdecimal() and int(day) <= 7:
        return int(day)
    raise ValueError(f"weekday {day!r} is not 0 to 7 or sun to sat")
