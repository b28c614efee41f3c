"""A tampered export: whatever is changed is found, shows as a residual, or is not what the head is about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from typer.testing import CliRunner

from offchain.audit.chain import AuditBreak, Rebalanced
from offchain.audit.export import (
    Export,
    read_checkpoint,
    read_export,
    read_records,
    rows,
    to_csv,
    to_json,
    to_parquet,
)
from offchain.audit.history import decode_log, decode_logs
from offchain.audit.verifier import Checkpoint, Verdict, verify
from offchain.audit.verify import Gathered, gather, verify_vault
from offchain.chain.errors import ConfigError
from offchain.cli import app
from offchain.policy import DAY
from offchain.show.safe import cell, shown
from tests.offchain.test_audit_vault import Market
from tests.support.world import ALICE, STRANGER

UNIT = 10**18


@pytest.fixture(scope="module")
def market() -> Market:
    """A history with every kind of event, flows and collected fees after its last entry."""
    market = Market()
    market.live()
    market.vault.call("collect_fee")
    market.sleep(DAY)
    market.mint(ALICE, 7 * UNIT)
    return market


@pytest.fixture(scope="module")
def found(market: Market) -> Gathered:
    return gather(market.web3, market.vault.address)


@pytest.fixture(scope="module")
def text(found: Gathered) -> str:
    return to_json(Export(found.history, found.head, found.block.number, found.block.hash, found.block.time))


@pytest.fixture
def top(text: str) -> Any:
    return json.loads(text)


@pytest.fixture
def judge(found: Gathered) -> Any:
    """What the verifier says of a changed export: the verdict, or the refusal to read it."""

    def say(top: Any, **options: Any) -> Verdict:
        try:
            return verify(read_export(json.dumps(top)).history, found.head, **options)
        except AuditBreak as broken:
            return Verdict(None, 0, 0, 0, (), broken=broken)

    return say


def test_the_export_verifies_offline(top: Any, judge: Any, market: Market) -> None:
    verdict = judge(top)
    assert verdict.broken is None
    assert [(f.name, f.holds) for f in verdict.findings] == [
        ("hash chain", True), ("rules and flows", True), ("state", None), ("decisions", True),
    ]  # fmt: skip
    assert (verdict.entries, verdict.rebalances, verdict.flows, verdict.residuals) == (9, 1, 5, ())


def test_an_export_read_and_written_again_is_the_same(text: str) -> None:
    assert to_json(read_export(text)) == text


def test_every_word_of_every_event_is_bound(top: Any, judge: Any, found: Gathered) -> None:
    """One word at a time. What no entry binds and no other event contradicts is a residual, or has no effect at all."""
    missed = []
    for i, log in enumerate(top["logs"]):
        data = bytearray.fromhex(log["data"][2:])
        for word in range(len(data) // 32):
            changed = bytearray(data)
            changed[32 * word + 31] ^= 1
            log["data"] = "0x" + changed.hex()
            verdict = judge(top)
            if verdict.ok and not verdict.residuals:
                missed.append((kind_of(found, i), word))
        log["data"] = "0x" + data.hex()
    assert missed == []


def test_every_topic_is_bound_but_who_a_flow_was_for(top: Any, judge: Any, found: Gathered) -> None:
    missed = set()
    for i, log in enumerate(top["logs"]):
        for k, topic in enumerate(log["topics"]):
            log["topics"][k] = topic[:-1] + ("2" if topic[-1] == "1" else "1")
            if judge(top).ok:
                missed.add((kind_of(found, i), k))
            log["topics"][k] = topic
    seed_for = {("SharesMinted", 2)}  # the creator; a fee's recipient and a minter are found
    flows = {("MintedInKind", 1), ("Released", 2), ("Released", 3)} | {
        ("RedeemedInKind", k) for k in (1, 2, 3)
    }
    assert missed == seed_for | flows


@pytest.mark.parametrize(
    "field", ["chain_id", "vault", "codehash", "config", "decimals", "melt_seconds", "seed"]
)
def test_what_is_beside_the_events_is_bound(top: Any, judge: Any, field: str) -> None:
    for changed in variants(top[field]):
        assert not judge(top | {field: changed}).ok, (field, changed)


@pytest.mark.parametrize("way", ["missing", "twice", "reordered", "exchanged"])
def test_events_missing_doubled_or_moved_are_found(top: Any, judge: Any, found: Gathered, way: str) -> None:
    logs = top["logs"]
    for i in range(1 if way in ("reordered", "exchanged") else 0, len(logs)):
        changed = list(logs)
        if way == "missing":
            del changed[i]
        elif way == "twice":
            changed.insert(i, logs[i])
        elif way == "reordered":
            changed[i - 1], changed[i] = logs[i], logs[i - 1]
        else:
            places = [
                {k: log[k] for k in ("block", "time", "transaction", "log_index")}
                for log in logs[i - 1 : i + 1]
            ]
            changed[i - 1], changed[i] = logs[i] | places[0], logs[i - 1] | places[1]
        seeds = way == "exchanged" and {kind_of(found, i - 1), kind_of(found, i)} == {"SharesMinted"}
        assert judge(top | {"logs": changed}).ok == (seeds and i == 2), (way, i)  # the two mints of the seed


def test_an_export_cut_at_an_entry_has_another_head(top: Any, judge: Any, found: Gathered) -> None:
    """What comes after the last entry is outside the head, and the page says so."""
    last = max(i for i in range(len(top["logs"])) if kind_of(found, i) == "SessionOpened")
    for end in range(1, last + 1):
        assert judge(top | {"logs": top["logs"][:end]}).broken.field in (
            "head",
            "shares",
            "flow_sequence",
            "session",
        )
    cut = judge(top | {"logs": top["logs"][: last + 1]})
    assert cut.ok
    assert "nor is what came after the last entry" in cut.findings[-2].detail


def test_an_entry_added_at_the_end_is_found(top: Any, judge: Any, found: Gathered) -> None:
    data = encode(
        ["bytes32", "uint256", "string", "uint256", "bytes"],
        [found.head, 3, "pause", 2_000_000_000, encode(["uint256"], [2_000_000_000])],
    )
    more = top["logs"][-1] | {
        "topics": [top["logs"][5]["topics"][0]],
        "data": "0x" + data.hex(),
        "log_index": "99",
        "time": "2000000000",
    }
    assert judge(top | {"logs": [*top["logs"], more]}).broken.field == "head"


def test_two_flows_that_cancel_are_found_by_their_numbers(top: Any, judge: Any, found: Gathered) -> None:
    """A flow of its own in between, numbered on, with the later numbers moved along: the entries know better."""
    logs = top["logs"]
    i = next(i for i in range(len(logs)) if kind_of(found, i) == "RedeemedInKind")
    assert judge(top | {"logs": logs[:i] + logs[i + 1 :]}).broken.field in ("flow_sequence", "shares")


def test_data_with_more_behind_them_are_found(top: Any, judge: Any) -> None:
    for log in top["logs"]:
        log["data"] += "00" * 32
        assert not judge(top).ok
        log["data"] = log["data"][:-64]


def test_an_export_of_another_vault_or_chain_is_found(top: Any, judge: Any) -> None:
    other = Market()
    strange = gather(other.web3, other.vault.address)
    verdict = verify(strange.history, judge(top).head)
    assert verdict.broken is not None and verdict.broken.field == "head"
    for field, value in (("vault", STRANGER), ("chain_id", "5")):
        assert judge(top | {field: value}).broken.field == field


def test_exports_of_two_vaults_put_together_are_a_break_with_its_place(found: Gathered) -> None:
    """The other one has the same address on a chain of its own: nothing but its history tells them apart."""
    other = Market()
    other.mint(ALICE, 400 * UNIT)
    other.live()
    strange = gather(other.web3, other.vault.address)
    assert (strange.history.vault, strange.head == found.head) == (found.history.vault, False)
    mine, theirs = found.history.logs, strange.history.logs
    last = max(i for i in range(len(mine)) if kind_of(found, i) == "SessionOpened")
    for end in range(3, last, 2):
        for start in (end - 1, end, end + 1):
            mixed = mine[:end] + theirs[start:]
            for base in (found, strange) if mixed not in (mine, theirs) else ():
                broken = verify(replace(base.history, logs=mixed), base.head).broken
                assert broken is not None and broken.position is not None, (end, start)
                said = f"block {broken.position.block}, transaction {broken.position.transaction}, field "
                assert str(broken).startswith(said + broken.field)


def test_a_node_that_lies_about_one_log_is_found_and_the_place_is_named(market: Market) -> None:
    """Left out, or another word in it: whatever the verifier reads."""
    told = market.provider.logs
    own = [log for log in market.evm.logs if log["address"].lower() == market.vault.address.lower()]
    assert len(own) > 20
    for log in own:
        other = log | {"data": HexBytes(bytes(log["data"])[:-1] + bytes([bytes(log["data"])[-1] ^ 1]))}
        for lie in ([], [other]):
            market.provider.logs = lambda logs, log=log, lie=lie: [
                one for each in logs for one in (lie if each is log else [each])
            ]
            report = verify_vault(market.web3, market.vault.address)
            if between_holders(log):  # says nothing that counts
                assert report.ok
                continue
            assert report.first_break is not None
            assert re.match(r"block \d+, transaction 0x[0-9a-f]{64}, field \w+: ", report.first_break)
    market.provider.logs = told


def between_holders(log: Any) -> bool:
    transfer = log["topics"][0] == HexBytes(keccak(text="Transfer(address,address,uint256)"))
    return transfer and any(bytes(log["topics"][1]))


def test_a_balance_that_fell_unseen_is_a_break_unless_the_token_may(market: Market, found: Gathered) -> None:
    snapshot = market.evm.snapshot()
    token = market.tokens[1]
    token.call("set_balance", market.vault.address, token.call("balanceOf", market.vault.address) - 5)
    report = verify_vault(market.web3, market.vault.address)
    assert report.first_break is not None
    assert "5 units" in report.first_break and "--rebasing" in report.first_break
    allowed = verify_vault(market.web3, market.vault.address, rebasing=[token.address])
    assert (allowed.ok, [r.amount for r in allowed.residuals]) == (True, [-5])
    market.evm.revert(snapshot)


def test_a_donation_is_a_residual_and_no_break(market: Market) -> None:
    snapshot = market.evm.snapshot()
    token = market.tokens[0]
    token.call("set_balance", market.vault.address, token.call("balanceOf", market.vault.address) + 1)
    report = verify_vault(market.web3, market.vault.address)
    assert (report.ok, [(r.token.lower(), r.amount) for r in report.residuals]) == (
        True,
        [(token.address.lower(), 1)],
    )
    market.evm.revert(snapshot)


def test_a_node_that_hides_the_last_flow_is_found(market: Market) -> None:
    logs = market.provider.logs
    flow = market.entry("MintedInKind")
    market.provider.logs = lambda found: [log for log in found if log["blockNumber"] != flow["blockNumber"]]
    report = verify_vault(market.web3, market.vault.address)
    market.provider.logs = logs
    assert (
        report.first_break is not None and "field flow_sequence: the events lead to 4" in report.first_break
    )


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_a_prefix(top: Any, judge: Any, market: Market, text: str) -> None:
    early = Market()
    old = verify_vault(early.web3, early.vault.address)
    checkpoint = Checkpoint(old.chain_id, old.vault, bytes.fromhex(old.head_stored[2:]), old.entries)
    verdict = judge(top, checkpoint=checkpoint)  # the same vault, younger
    assert verdict.ok
    assert verdict.findings[1].detail == "its 1 entries are the first of these; 8 came since"
    assert judge(top, checkpoint=read_checkpoint(text)).ok


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "0x" + "11" * 32}, "the history was rewritten"),
        ({"entries": 3}, "the history was rewritten"),
        ({"entries": 99}, "entries are missing"),
        ({"entries": 0}, "entries are missing"),
        ({"chain_id": 5}, "it is of"),
        ({"vault": STRANGER}, "it is of"),
    ],
)
def test_a_checkpoint_of_another_history_is_a_break(
    top: Any, judge: Any, found: Gathered, changes: dict[str, Any], said: str
) -> None:
    noted = {
        "chain_id": found.history.chain_id,
        "vault": found.history.vault,
        "head_recomputed": "0x" + found.head.hex(),
        "entries": 9,
        "ok": True,
    }
    assert judge(top, checkpoint=read_checkpoint(json.dumps(noted))).ok
    changed = {"head_recomputed" if key == "head" else key: value for key, value in changes.items()}
    verdict = judge(top, checkpoint=read_checkpoint(json.dumps(noted | changed)))
    assert (verdict.ok, verdict.broken.field) == (False, "checkpoint")
    assert said in verdict.broken.reason


# ---------------------------------------------------------------- hostile files


@pytest.mark.parametrize(
    "hostile",
    [
        "", "null", "[]", "{}", '"x"', "[" * 100_000, '{"format": "evenkeel audit export 1"}',
        '{"format": "evenkeel audit export 2", "logs": []}', '{"format": "\\u202e\\u0007=1+1"}',
    ],
)  # fmt: skip
def test_what_is_no_export_is_said_in_one_line(hostile: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read_export(hostile)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("value", ["-1", "1e9", "", "9" * 79, 7, None, [], {}, "0x10", "١"])
@pytest.mark.parametrize("field", ["block", "time", "log_index"])
def test_numbers_beyond_limits_are_refused(top: Any, judge: Any, field: str, value: Any) -> None:
    top["logs"][3][field] = value
    assert judge(top).broken.field == "logs[3]"


def test_decimals_that_no_token_has_are_a_break_and_no_endless_sum(top: Any, judge: Any) -> None:
    for token in top["decimals"]:
        assert judge(top | {"decimals": top["decimals"] | {token: "9" * 70}}).broken.field == "decimals"


def test_half_a_character_in_a_record_is_refused(top: Any) -> None:
    with pytest.raises(ConfigError, match="something in it is not of its type"):
        read_export(json.dumps(top | {"records": ["\ud800"]}))
    with pytest.raises(ConfigError, match="something in it is no record"):
        read_records(json.dumps("\ud800"))


def test_a_name_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a name stands twice"):
        read_export(text.replace('"chain_id"', '"chain_id": "5", "chain_id"', 1))


def test_a_checkpoint_of_endless_entries_is_refused() -> None:
    noted = f'{{"chain_id": 1, "vault": "{STRANGER}", "head": "0x{"11" * 32}", "entries": Infinity}}'
    with pytest.raises(ConfigError, match="checkpoint: needs"):
        read_checkpoint(noted)


@pytest.mark.parametrize("data", ["0x", "0x" + "ff" * 32 * 40, "0x1", "zz", None, "0x" + "00" * 31])
@pytest.mark.parametrize("index", [0, 3, 4, 10, 11])
def test_data_that_are_none_are_refused(top: Any, judge: Any, index: int, data: Any) -> None:
    top["logs"][index]["data"] = data
    assert not judge(top).ok


def test_the_largest_numbers_do_no_harm(top: Any, judge: Any, found: Gathered) -> None:
    """Every word of the events at 2**256 - 1, one at a time."""
    for log in (top["logs"][i] for i in (0, 1, 4, 7, 8, 10, 11)):
        data = bytearray.fromhex(log["data"][2:])
        for word in range(len(data) // 32):
            changed = bytearray(data)
            changed[32 * word : 32 * word + 32] = b"\xff" * 32
            log["data"] = "0x" + changed.hex()
            verdict = judge(top)
            assert changed == data or not verdict.ok or verdict.residuals
        log["data"] = "0x" + data.hex()


HOSTILE = [
    "=1+1",
    "+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "|cmd",
    "%0",
    "\u202e=1",
    " =1",
    "\ufeff=1",
    "\x1b[31m=1",
]


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 100_000, "a\x00b", "évil\u2028line", "<script>"])
def test_text_of_strangers_is_harmless_in_cells_and_on_terminals(text: str) -> None:
    assert not str(cell(text)).startswith(("=", "+", "-", "@", "\t", "\r", "|", "%"))
    said = shown(text)
    assert said.isprintable() and len(said) <= 64


def test_numbers_stay_numbers_in_cells() -> None:
    assert [cell(-5), cell(10**70), cell(None)] == [-5, 10**70, None]


def test_csv_and_parquet_have_a_row_an_event(found: Gathered, tmp_path: Path) -> None:
    import csv

    import pyarrow.parquet as parquet

    table = rows(found.history.logs)
    read = list(csv.DictReader(to_csv(table).splitlines()))
    assert [row["event"] for row in read] == [type(e).__name__ for e in decode_logs(found.history.logs)]
    traded = next(row for row in read if row["event"] == "Rebalanced")
    assert traded["prices"] == f"{13 * UNIT // 10} {UNIT}"
    to_parquet(table, str(tmp_path / "events.parquet"))
    columns = parquet.read_table(tmp_path / "events.parquet").to_pydict()
    assert columns["event"] == [row["event"] for row in read]
    assert columns["supply"][read.index(traded)] == traded["supply"]


# ---------------------------------------------------------------- the command


def audit(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["audit", *arguments], env={"COLUMNS": "160"})


def test_the_command_verifies_a_file_without_a_node(text: str, found: Gathered, tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_text(text)
    head, vault = "0x" + found.head.hex(), found.history.vault
    right = audit("verify", vault, "--from-file", str(file), "--head", head)
    assert right.exit_code == 0, right.output
    assert f"head given      {head}\nhead recomputed  {head}\n" in right.stdout
    assert "verified: 9 entries" in right.stdout

    told = audit("verify", vault, "--from-file", str(file), "--head", head, "--json")
    (tmp_path / "old.json").write_text(told.stdout)
    again = audit(
        "verify", vault, "--from-file", str(file), "--head", head, "--checkpoint", str(tmp_path / "old.json")
    )
    assert again.exit_code == 0, again.output
    assert "its 9 entries are the first of these" in again.stdout

    wrong = audit("verify", vault, "--from-file", str(file), "--head", "0x" + "11" * 32)
    assert wrong.exit_code == 1
    assert "field head" in wrong.stderr and "NOT verified" in wrong.stdout

    file.write_text(text.replace('"time": "1700', '"time": "1701', 1))
    tampered = audit("verify", vault, "--from-file", str(file), "--head", head)
    assert tampered.exit_code == 1
    assert "error: block" in tampered.stderr and "field time" in tampered.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from-file", "export.json"], "--head: needed with --from-file"),
        (["--from-file", "export.json", "--head", "0x12"], "--head: needed with --from-file"),
        (["--head", "0x" + "11" * 32], "--head: goes with --from-file"),
        (
            ["--from-file", "absent.json", "--head", "0x" + "11" * 32],
            "--from-file: absent.json: No such file",
        ),
        (["--checkpoint", "absent.json"], "--checkpoint: absent.json: No such file"),
        (["--rebasing", "hello"], "--rebasing: 'hello' is not an address"),
        (["--from-file", ".", "--head", "0x" + "11" * 32], "--from-file: .: Is a directory"),
    ],
)
def test_the_command_names_the_wrong_argument(arguments: list[str], said: str) -> None:
    result = audit("verify", STRANGER, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr and "Traceback" not in result.output


def kind_of(found: Gathered, index: int) -> str:
    return type(decode_log(found.history.logs[index])).__name__


def variants(value: Any) -> Iterator[Any]:
    """The value with one thing in it changed, again and again."""
    if isinstance(value, dict):
        for key in value:
            yield value | {key: str(int(value[key]) + 1)}
            yield {other: value[other] for other in value if other != key}
    elif isinstance(value, list):
        for i in range(len(value)):
            yield [*value[:i], str(int(value[i]) + 1), *value[i + 1 :]]
    elif value.isdigit():
        yield str(int(value) + 1)
    elif len(value) == 42:
        yield STRANGER
    else:
        for at in range(65, len(value), 640):
            yield value[:at] + ("2" if value[at] == "1" else "1") + value[at + 1 :]


def relinked(top: Any, found: Gathered) -> tuple[Any, bytes]:
    """The export with every entry after a changed one linked to it anew, and the head that this leads to.

    So a vault whose code does not enforce its rules would have written it.
    """
    head = b""
    for i, log in enumerate(top["logs"]):
        if kind_of(found, i) in ("Created", "SessionOpened", "Rebalanced", "RuleChanged"):
            data = bytes.fromhex(log["data"][2:])
            log["data"] = "0x" + (head + data[32:] if head else data).hex()
            head = keccak(bytes.fromhex(log["data"][2:]))
    return top, head


def test_a_history_that_the_rules_refuse_is_found_though_its_head_is_right(
    text: str, found: Gathered
) -> None:
    """Every word of the trade, of the opened session and of the first change, in a chain that hashes."""
    free = []
    for i in (5, 10, 17):
        kind, words = kind_of(found, i), len(json.loads(text)["logs"][i]["data"]) // 64
        for word in range(1, words):
            top = json.loads(text)
            data = bytearray.fromhex(top["logs"][i]["data"][2:])
            data[32 * word + 31] ^= 1
            top["logs"][i]["data"] = "0x" + data.hex()
            changed, head = relinked(top, found)
            try:
                verdict = verify(read_export(json.dumps(changed)).history, head)
            except AuditBreak:
                continue
            if verdict.ok and not verdict.residuals:
                free.append((kind, word))
    assert free == [
        *[("RuleChanged", word) for word in (9, 10)],  # a teller's limit: any is allowed
        *[("Rebalanced", word) for word in (10, 11, 12)],  # another executor, payload, decision
        *[
            ("Rebalanced", word) for word in (14, 15, 23, 24)
        ],  # a price by a unit; sells beyond what is clipped
        *[("SessionOpened", word) for word in (11, 12)],  # a price by a unit
    ], str(free)


def test_a_trade_that_the_rules_refuse_is_named(text: str, found: Gathered) -> None:
    """The vault gave away a tenth: block, transaction and the rule."""
    top = json.loads(text)
    trade = top["logs"][10]
    event = next(e for e in decode_logs(found.history.logs) if isinstance(e, Rebalanced))
    units = event.balances_after[1]
    data = bytes.fromhex(trade["data"][2:]).replace(
        units.to_bytes(32, "big"), (units * 9 // 10).to_bytes(32, "big")
    )
    trade["data"] = "0x" + data.hex()
    changed, head = relinked(top, found)
    verdict = verify(read_export(json.dumps(changed)).history, head)
    assert verdict.broken is not None
    at = f"block {event.position.block}, transaction {event.position.transaction}"
    assert str(verdict.broken).startswith(f"{at}, field balances_after: the vault refuses this:")
