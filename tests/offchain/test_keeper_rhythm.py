"""When a job is due: cron lines as cron reads them, clocks that change twice a year, clocks that are set."""

from datetime import UTC, datetime

import pytest

from offchain.chain.errors import ConfigError
from offchain.keeper.rhythm import Cron, Rhythm, Timer

DAY = 86_400


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def times(line: str, zone: str, after: str, count: int) -> list[str]:
    """The next times of the line, UTC."""
    cron, time, found = Cron(line, zone), seconds(after), []
    for _ in range(count):
        time = cron.after(time)
        found.append(datetime.fromtimestamp(time, UTC).strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 12 * * *", ["11-22 12:00", "11-23 12:00"]),
        ("*/20 7 * * *", ["11-23 07:00", "11-23 07:20"]),
        ("0 0 1 * *", ["12-01 00:00", "01-01 00:00"]),
        ("0 9 * * 1-5", ["11-23 09:00", "11-24 09:00"]),  # 22 November 2026 is a Sunday
        ("0 9 * * 0", ["11-22 09:00", "11-29 09:00"]),
        ("0 9 * * 7", ["11-22 09:00", "11-29 09:00"]),
        ("0 9 * * 5-7", ["11-22 09:00", "11-27 09:00"]),
        ("0 9 * * mon,SAT", ["11-23 09:00", "11-28 09:00"]),
        ("0 9 * * */3", ["11-22 09:00", "11-25 09:00"]),
        ("0 9 * * 4/2", ["11-26 09:00", "11-28 09:00"]),
        ("0 9 25 * 1", ["11-23 09:00", "11-25 09:00"]),  # the 25th or a Monday
    ],
)
def test_a_line_means_what_cron_means(line: str, expected: list[str]) -> None:
    assert times(line, "UTC", "2026-11-22T08:00", 2) == expected


def test_a_line_follows_its_zone() -> None:
    assert times("0 9 * * *", "America/New_York", "2026-11-22T08:00", 1) == ["11-22 14:00"]
    assert times("0 9 * * *", "Asia/Kolkata", "2026-11-22T08:00", 1) == ["11-23 03:30"]


def test_an_hour_that_does_not_exist_is_made_up_for_right_after_it() -> None:
    """29 March 2026, Berlin: after 01:59 comes 03:00."""
    assert times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["03-29 01:30", "03-30 00:30"]


def test_an_hour_that_comes_twice_counts_once() -> None:
    """25 October 2026, Berlin: after 02:59 comes 02:00."""
    expected = ["10-24 00:30", "10-25 00:30", "10-26 01:30"]
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00", 3) == expected


def test_every_hour_follows_real_time_through_both_changes() -> None:
    spring = ["03-29 00:15", "03-29 01:15", "03-29 02:15", "03-29 03:15"]
    assert times("15 * * * *", "Europe/Berlin", "2026-03-29T00:00", 4) == spring
    autumn = ["10-24 23:30", "10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00"]
    assert times("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:00", 6) == autumn


def test_a_zone_whose_change_is_half_an_hour() -> None:
    """Lord Howe, 4 October 2026: after 01:59 (UTC+10:30) comes 02:30 (UTC+11)."""
    assert times("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T14:00", 1) == ["10-03 15:45"]
    assert times("0 * * * *", "Australia/Lord_Howe", "2026-10-03T14:00", 3) == [
        "10-03 14:30",
        "10-03 16:00",
        "10-03 17:00",
    ]


@pytest.mark.parametrize(
    ("line", "zone", "words"),
    [
        ("often", "UTC", "cron: 'often' is not a five-field cron line: 1 fields"),
        ("0 0 * * * *", "UTC", "6 fields"),
        ("61 * * * *", "UTC", "cron: '61 "),
        ("0 0 * * 8", "UTC", "weekday '8'"),
        ("0 0 * * 5-1", "UTC", "weekday '5-1'"),
        ("0 0 * * 1/0", "UTC", "weekday '1/0'"),
        ("0 0 30 2 *", "UTC", "never comes"),
        ("0 0 * * *", "Berlin", "timezone: 'Berlin' is not an IANA time zone"),
        ("0 0 * * *", "../etc/passwd", "timezone: "),
        ("0 0 * * *", "Europe", "timezone: "),
    ],
)
def test_a_line_or_zone_that_is_none_is_named(line: str, zone: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Rhythm(cron=line, timezone=zone)


# ---------------------------------------------------------------- timers

T = seconds("2026-11-22T08:00")
HOURLY = Rhythm(cron="0 * * * *")


def test_an_interval_passes_once() -> None:
    timer = Timer(Rhythm(60), T, 0)
    assert not timer.due(T + 59, 59)
    assert timer.left(T + 59, 59) == 1
    assert timer.due(T + 60, 60)
    assert not timer.due(T + 60, 60)
    assert timer.due(T + 500, 500)  # seven passed: one run
    assert not timer.due(T + 501, 501)


def test_an_interval_passes_while_the_wall_clock_is_set_back() -> None:
    timer = Timer(Rhythm(60), T, 0)
    assert not timer.due(T - 7 * DAY, 30)
    assert timer.due(T - 7 * DAY + 30, 60)


def test_an_interval_passes_while_the_machine_sleeps() -> None:
    timer = Timer(Rhythm(DAY), T, 0)
    assert timer.due(T + DAY, 5)  # the monotonic clock stood still


def test_a_line_runs_once_for_all_that_a_jump_left_out() -> None:
    timer = Timer(HOURLY, T, 0)
    assert not timer.due(T + 3_599, 3_599)
    assert timer.due(T + 10 * 3_600 + 5, 3_600)
    assert not timer.due(T + 10 * 3_600 + 6, 3_601)
    assert timer.due(T + 11 * 3_600, 7_000)


def test_a_line_does_not_wait_for_a_time_that_a_wrong_clock_promised() -> None:
    """The clock was a year ahead and is set right."""
    timer = Timer(HOURLY, T + 365 * DAY, 0)
    assert not timer.due(T, 1)
    assert timer.left(T, 1) == 3_600
    assert timer.due(T + 3_600, 3_601)


def test_a_clock_that_is_only_adjusted_does_not_repeat_a_run() -> None:
    timer = Timer(HOURLY, T + 10, 0)
    assert timer.due(T + 3_600.2, 3_590)
    assert not timer.due(T + 3_599.9, 3_590)
    assert not timer.due(T + 3_600.3, 3_591)
