"""`evenkeel tax` over files: what is read, what is written, mistakes in one line."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal as D
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from offchain.audit.lots import Acquired, Disposed, LotError, Moved, match
from offchain.audit.tax_files import form_8949, matches_csv, read_transactions, transactions_csv
from offchain.cli import app

HEAD = "id,time,account,kind,asset,quantity,value,fee,to,lots\n"
ROWS = """b1,2025-01-05T10:00:00+00:00,wallet,buy,XYZ,100,1000,5
b2,2025-06-05T10:00:00+00:00,wallet,buy,XYZ,50.5,800,2.5
s1,2026-02-01T12:00:00+00:00,wallet,sell,XYZ,120,1100,4
b3,2026-02-10T12:00:00+00:00,wallet,buy,XYZ,10,80,0
s2,2026-10-01T12:00:00+00:00,wallet,sell,XYZ,20,400,0
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(HEAD.replace(",to,lots", "") + ROWS)
    return path


def evenkeel(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tax", *map(str, arguments)])


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_what_is_written_is_read_again() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    found = [
        Acquired("a", at, "me", "=1+1", D("0.000000000000000001"), D("12345678901234567890.5"), D(1)),
        Disposed("b", at, "me", "=1+1", D("0.000000000000000001"), D(3), D("0.1"), (("a", D("1E-18")),)),
        Moved("c", at, "me", "-you", "X", D(7)),
    ]
    assert read_transactions(transactions_csv(found)) == found
    assert read_transactions(transactions_csv([])) == []
    assert "=1+1" not in [cell for row in csv.reader(io.StringIO(transactions_csv(found))) for cell in row]
    with pytest.raises(LotError, match=r"^line 2: value: missing; fill in what is known of a$"):
        read_transactions(transactions_csv(found, unknown=["a"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the column id is missing; the columns are id, time, account"),
        ("id,time\n", "line 1: the column account is missing"),
        (HEAD.replace("fee", "gas"), "line 1: 'gas' is no column"),
        (HEAD + "a,b,c,buy,X,1,1,0,,,extra", "line 2: has more cells than there are columns"),
        (HEAD + "a,yesterday,me,buy,X,1,1", "line 2: time: 'yesterday' is not like 2026"),
        (HEAD + "a,2026-01-01,me,buy,X,1,1", "line 2: time: '2026-01-01' has no time zone"),
        (HEAD + "a,2026-01-01T00:00:00Z,me,gift,X,1,1", "line 2: kind: 'gift' is not buy, sell or move"),
        (
            HEAD + "a,2026-01-01T00:00:00Z,me,buy,X,-1,1",
            "line 2: quantity: '-1' is not an amount like 1234.5",
        ),
        (HEAD + "a,2026-01-01T00:00:00Z,me,buy,X,1e9,1", "line 2: quantity: '1e9' is not an amount"),
        (HEAD + "a,2026-01-01T00:00:00Z,me,buy,X,1,NaN", "line 2: value: 'NaN' is not an amount"),
        (HEAD + "a,2026-01-01T00:00:00Z,me,buy,X,1,", "line 2: value: missing; fill in what is known of a"),
        (HEAD + "a,2026-01-01T00:00:00Z,,buy,X,1,1", "line 2: account: needs 1 to 200 characters"),
        (HEAD + f"a,2026-01-01T00:00:00Z,me,buy,{'X' * 201},1,1", "line 2: asset: needs 1 to 200 characters"),
        (HEAD + "a,2026-01-01T00:00:00Z,me,move,X,1,,,,", "line 2: to: a move needs the account"),
        (HEAD + "a,2026-01-01T00:00:00Z,me,sell,X,1,1,,,b", "line 2: lots: 'b' is not id:quantity"),
        (HEAD + 'a,"2026', "after line 1: not CSV: unexpected end of data"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(LotError, match=f"^{message}"):
        read_transactions(text)


def test_the_form_adds_up_in_cents(mine: Path) -> None:
    result = evenkeel("report", mine, "--format", "8949", "--year", 2026)
    assert result.exit_code == 0
    assert table(result.stdout) == [
        dict(zip(table(result.stdout)[0], row, strict=True))
        for row in (
            ("I", "20 XYZ", "06/05/2025", "02/01/2026", "182.67", "317.82", "", "", "(135.15)"),
            ("II", "100 XYZ", "01/05/2025", "02/01/2026", "913.33", "1005.00", "W", "9.17", "(82.50)"),
            ("II", "20 XYZ", "06/05/2025", "10/01/2026", "400.00", "317.82", "", "", "82.18"),
        )
    ]
    assert table(evenkeel("report", mine, "--format", "8949", "--year", 2025).stdout) == []


def test_names_on_the_form_are_harmless() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    asset = "\u202e=cmd|' /C calc'!A0" + "x" * 150
    book = match(
        [Acquired("=1", at, "@me", asset, D(1), D(1)), Disposed("-2+3", at, "@me", asset, D(1), D(2))]
    )
    for text in (form_8949(book, 2026), matches_csv(book)):
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert not any(cell.startswith(("=", "+", "@", "-2+")) or "\u202e" in cell for cell in cells)
        assert max(map(len, cells)) < 200


def test_the_report_as_table_json_and_csv(mine: Path, tmp_path: Path) -> None:
    shown = evenkeel("report", mine, "--price", "XYZ=9").stdout
    assert "-135.16" in shown and "W: a wash sale" in shown
    told = json.loads(evenkeel("report", mine, "--format", "json", "--price", "XYZ=9").stdout)
    (year,) = told["years"]
    assert (year["method"], year["disallowed"]) == ("fifo", "9.166666666666666667")
    assert D(year["short"]) + D(year["long"]) == sum(D(sale["gain"]) for sale in told["sales"])
    assert [(lot["lot"], lot["quantity"]) for lot in told["open"]] == [("b2", "10.5"), ("b3", "10")]
    assert evenkeel("report", mine, "--format", "csv", "--out", tmp_path / "out.csv").exit_code == 0
    assert [row["lot"] for row in table((tmp_path / "out.csv").read_text())] == ["b1", "b2", "b2"]
    free = json.loads(evenkeel("report", mine, "--format", "json", "--wash-days", "0").stdout)
    assert free["years"][0]["disallowed"] == "0" and free["open"][0]["gain"] is None


def test_a_harvest_says_what_the_planner_takes(mine: Path) -> None:
    told = json.loads(evenkeel("harvest", mine, "--price", "XYZ=9", "--json").stdout)
    (one,) = told["proposals"]
    assert (one["quantity"], one["refused"]) == ("10.5", "")
    assert int(told["tax_per_token"]["wallet"]["XYZ"]) < 0
    planned = evenkeel("harvest", mine, "--price", "XYZ=9", "--planned", "XYZ", "--json")
    assert planned.exit_code == 1  # nothing that would count
    assert json.loads(planned.stdout)["tax_per_token"]["wallet"]["XYZ"] == "0"
    assert "no loss to realise" in evenkeel("harvest", mine, "--price", "XYZ=99").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "8949"], 2, "--year: needed with --format 8949"),
        (["--timezone", "Mars/Base"], 2, "--timezone: 'Mars/Base' is no time zone, such as Europe/Zurich"),
        (["--method-in", "2026=best"], 2, "--method-in: '2026=best' is not YEAR=METHOD"),
        (["--method-in", "26=fifo"], 2, "--method-in: '26=fifo' is not YEAR=METHOD"),
        (["--price", "XYZ"], 2, "--price: 'XYZ' is not ASSET=PRICE"),
        (["--price", "XYZ=-1"], 2, "--price: 'XYZ=-1' is not ASSET=PRICE"),
        (["--method", "specific"], 1, "s1: lots: their quantities do not sum to 120"),
    ],
)
def test_a_mistake_is_one_line(mine: Path, arguments: list[str], code: int, message: str) -> None:
    result = evenkeel("report", mine, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"error: {message}")


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    assert (
        evenkeel("report", tmp_path / "x.csv").stderr
        == f"error: {tmp_path / 'x.csv'}: not a UTF-8 text file\n"
    )
    assert "No such file" in evenkeel("report", tmp_path / "none.csv").stderr
