"""Metrics: what a scrape says; names and labels are bounded; files that name metrics name ones that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from eth_abi.abi import encode
from prometheus_client.parser import text_string_to_metric_families
from web3 import Web3
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from offchain.chain.rpc import NodeStatus
from offchain.chain.sender import Sender
from offchain.keeper import metrics
from offchain.keeper.database import open_database
from offchain.keeper.health import Limits, problems
from offchain.keeper.journal import Journal, Status
from offchain.keeper.metrics import METRICS, Sources, exposition, registry_of
from offchain.keeper.outside import Outside
from offchain.keeper.probe import Probe
from offchain.keeper.watch import PriceSeen, Reason, Watch
from tests.support.keeper_seen import (
    ACCOUNT,
    CASH,
    NOW,
    ORACLE,
    OTHER,
    STOCK,
    VAULT,
    Clock,
    mined,
    outcome,
    sent,
    snapshot,
    watched,
)

REPOSITORY = Path(__file__).parents[2]
OF_VAULT = {"chain_id": "1", "vault": VAULT}
OF_ACCOUNT = {"chain_id": "1", "account": ACCOUNT}

Scrape = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite")
    yield made
    made.close()


def outside(watch: Watch, journal: Journal | None = None) -> Outside:
    engine = None if journal is None else open_database(journal.path)
    return Outside(watch, Limits(), engine)


def scrape(of: Outside, accept: str = "", counts: dict[tuple[str, str], int] | None = None) -> Scrape:
    sources = Sources(of.watch.facts, of.ledger, of.problems, of.limits, lambda: counts or {})
    return parsed(exposition(registry_of(sources), accept)[1])


def parsed(text: bytes) -> Scrape:
    found: Scrape = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(found: Scrape, name: str, **labels: str) -> float:
    (only,) = [number for said, number in found[name] if labels.items() <= said.items()]
    return only


# ---------------------------------------------------------------- the numbers


def test_drift_weight_target_and_band_of_each_token() -> None:
    found = scrape(outside(watched(Clock())))
    for token, weight in ((CASH, 4_000), (STOCK, 6_000)):
        of_token = OF_VAULT | {"token": token}
        assert value(found, "evenkeel_weight_bps", **of_token) == weight
        assert value(found, "evenkeel_target_bps", **of_token) == 5_000
        assert value(found, "evenkeel_drift_bps", **of_token) == 1_000
        assert value(found, "evenkeel_band_bps", **of_token) == 500
    assert value(found, "evenkeel_nav_usd", **OF_VAULT) == 100_000


def test_no_weights_where_a_price_is_not_usable() -> None:
    watch = watched(Clock())
    watch.looked(VAULT, outcome(seen=snapshot(statuses=(0, 5))))
    found = scrape(outside(watch))
    assert "evenkeel_drift_bps" not in found
    assert value(found, "evenkeel_price_usable", token=STOCK) == 0
    assert value(found, "evenkeel_price_usable", token=CASH) == 1
    assert value(found, "evenkeel_problems", kind="stale_oracle") == 1


def test_ages_grow_with_time_and_not_with_the_wall_clock_alone() -> None:
    clock = Clock()
    watch = watched(clock)
    watch.note(prices={(ORACLE, STOCK): PriceSeen(NOW - 100, 3_600)})
    clock.now += 50
    found = scrape(outside(watch))
    assert value(found, "evenkeel_look_age_seconds", **OF_VAULT) == 50
    assert value(found, "evenkeel_scheduler_age_seconds") == 50
    assert value(found, "evenkeel_block_age_seconds", chain_id="1") == 50
    assert value(found, "evenkeel_price_age_seconds", token=STOCK) == 150
    assert value(found, "evenkeel_price_heartbeat_seconds", token=STOCK) == 3_600


def test_looks_and_failures_are_counted_by_kind() -> None:
    watch = watched(Clock(), max_exceptions=2)
    watch.looked(VAULT, outcome(Status.FAILED, "the vault refuses in simulation: slippage"))
    watch.failed(VAULT, RuntimeError("a bug"))
    watch.failed(VAULT, RuntimeError("a bug"))
    found = scrape(outside(watch))
    looks = {labels["result"]: number for labels, number in found["evenkeel_looks_total"] if number}
    assert looks == {"skipped": 1, "failed": 1, "error": 2}
    failures = {labels["reason"]: number for labels, number in found["evenkeel_failures_total"] if number}
    assert failures == {"simulation_refused": 1, "bug": 2}
    assert value(found, "evenkeel_halted", **OF_VAULT) == 1
    assert value(found, "evenkeel_failures_in_a_row", **OF_VAULT) == 3


def test_what_the_journal_says(journal: Journal) -> None:
    clock = Clock()
    sent(journal, 5)
    mined(journal, 5)
    sent(journal, 6, time=NOW + 10)
    clock.now += 100
    found = scrape(outside(watched(clock), journal))
    assert value(found, "evenkeel_pending_transactions", **OF_ACCOUNT) == 1
    assert value(found, "evenkeel_pending_transaction_age_seconds", **OF_ACCOUNT) == 90
    assert value(found, "evenkeel_gas_spent_native_total", **OF_ACCOUNT) == 0.25
    assert value(found, "evenkeel_rebalances_total", **OF_VAULT) == 1
    assert value(found, "evenkeel_rebalance_age_seconds", **OF_VAULT) == 100
    assert value(found, "evenkeel_gas_balance_native", **OF_ACCOUNT) == 1
    # four times the largest of the last gas limits at what a gas unit may cost
    assert value(found, "evenkeel_gas_balance_low_native", **OF_ACCOUNT) == pytest.approx(4 * 500_000 / 10**9)


def test_a_count_survives_a_restart_and_a_reorganisation_does_not_lower_it(journal: Journal) -> None:
    sent(journal, 5)
    mined(journal, 5)
    of = outside(watched(Clock()), journal)
    registry = registry_of(Sources(of.watch.facts, of.ledger, of.problems))
    before = parsed(exposition(registry, "")[1])
    (attempt,) = journal.attempts(1, ACCOUNT, 5)
    journal.dropped(attempt)
    after = parsed(exposition(registry, "")[1])
    assert value(before, "evenkeel_rebalances_total", **OF_VAULT) == 1
    assert value(after, "evenkeel_rebalances_total", **OF_VAULT) == 1
    assert value(after, "evenkeel_pending_transactions", **OF_ACCOUNT) == 1


def test_without_the_database_the_rest_is_there(journal: Journal) -> None:
    watch = watched(Clock())
    watch.note(database=False)
    found = scrape(outside(watch))
    assert value(found, "evenkeel_database_up") == 0
    assert value(found, "evenkeel_drift_bps", token=STOCK) == 1_000
    assert "evenkeel_rebalances_total" not in found


def test_another_account_of_the_same_database_is_not_shown(journal: Journal) -> None:
    sent(journal, 5)
    watch = watched(Clock())
    account = watch.facts().account
    assert account is not None
    watch.note(account=replace(account, address=OTHER))
    found = scrape(outside(watch, journal))
    assert "evenkeel_pending_transactions" not in found


def test_each_node_behind_the_provider() -> None:
    watch = watched(Clock())
    status = NodeStatus(1, "https://one/…", True, True, False, 0, 0.25, 9, 12, {"rate limit": 3})
    watch.note(endpoints=[status, replace(status, position=2, url="https://two", lagging=True, errors={})])
    found = scrape(outside(watch))
    assert value(found, "evenkeel_endpoint_errors_total", position="1", kind="rate_limit") == 3
    assert value(found, "evenkeel_endpoint_lagging", position="2", host="https://two") == 1
    assert value(found, "evenkeel_endpoint_latency_seconds", position="1") == 0.25


def test_alerts_are_counted() -> None:
    counts = {("low_gas", "firing"): 2, ("low_gas", "resolved"): 1, ("halted", "failed"): 4}
    found = scrape(outside(watched(Clock())), counts=counts)
    assert value(found, "evenkeel_alerts_sent_total", kind="low_gas", status="firing") == 2
    assert value(found, "evenkeel_alerts_failed_total", kind="halted") == 4


# ---------------------------------------------------------------- names and labels


def test_names_have_units_and_counters_end_with_total() -> None:
    units = ("seconds", "bps", "usd", "native", "info", "total")
    counted = {  # numbers of things, and yes or no
        *("sends", "kill_switch", "database_up", "problems", "node_up", "block_number", "halted", "vaults"),
        *("endpoint_healthy", "endpoint_lagging", "endpoint_block_number", "pending_transactions"),
        *("vaults_without_tokens", "failures_in_a_row", "vault_paused", "session_open", "price_usable"),
    }
    for name, (help_text, _) in METRICS.items():
        assert re.fullmatch(r"evenkeel_[a-z_]+", name)
        assert name.rpartition("_")[2] in units or name.removeprefix("evenkeel_") in counted
        assert help_text.endswith(".")


def test_every_metric_can_be_seen(journal: Journal) -> None:
    """All of METRICS appear in one scrape: no name is dead."""
    clock = Clock()
    sent(journal, 5)
    mined(journal, 5)
    watch = watched(clock)
    watch.note(prices={(ORACLE, STOCK): PriceSeen(NOW, 60)})
    watch.note(endpoints=[NodeStatus(1, "h", True, True, False, 0, 0.1, 9, 1, {"timeout": 1})])
    counts = {("halted", "failed"): 1, ("halted", "firing"): 1}
    assert set(scrape(outside(watch, journal), counts=counts)) == set(METRICS)


@pytest.mark.parametrize(
    "name",
    ['"} 1\nevenkeel_halted{vault="x"} 1', "\x1b[31mRED\x00\u202eDLOG", "\\", "é" * 500, "", "\n\n"],
    ids=["label", "terminal", "backslash", "long", "empty", "lines"],
)
def test_a_hostile_token_name_breaks_nothing(name: str) -> None:
    watch = watched(Clock())
    probe = Probe(watch, chain({STOCK: name}), Sender(chain({})), open_database(":memory:"))
    probe._prices(watch.facts())
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        sources = Sources(watch.facts, lambda: None, lambda *_: [])
        text = exposition(registry_of(sources), accept)[1]
        infos = [line for line in text.decode().splitlines() if line.startswith("evenkeel_token_info{")]
        assert len(infos) == 2
        assert all(line.isprintable() and len(line) < 220 for line in infos)
    plain_found = scrape(outside(watch))
    assert len(plain_found["evenkeel_halted"]) == 1
    (symbol,) = [said["symbol"] for said, _ in plain_found["evenkeel_token_info"] if said["token"] == STOCK]
    assert symbol.isprintable() and 0 < len(symbol) <= 12


def test_a_name_that_changes_makes_no_new_series() -> None:
    watch = watched(Clock())
    for name in ("ONE", "TWO"):
        Probe(watch, chain({STOCK: name}), Sender(chain({})), open_database(":memory:"))._prices(
            watch.facts()
        )
    found = scrape(outside(watch))
    assert [said["symbol"] for said, _ in found["evenkeel_token_info"] if said["token"] == STOCK] == ["ONE"]


def test_the_number_of_series_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_VAULTS", 3)
    watch = watched(Clock())
    for i in range(5):
        vault = f"0x{i:040x}"
        watch.looked(vault, outcome(vault=vault))
        for words in (f"words of others {i}", "reverted on chain: x"):
            watch.looked(vault, outcome(Status.FAILED, words, vault))
    found = scrape(outside(watch))
    assert len(found["evenkeel_drift_bps"]) == 3 * 2
    assert value(found, "evenkeel_vaults") == 6
    assert value(found, "evenkeel_vaults_without_tokens") == 3
    assert {said["reason"] for said, _ in found["evenkeel_failures_total"]} == set(Reason)


def test_a_vault_handed_over_is_gone() -> None:
    watch = watched(Clock())
    watch.forget(VAULT)
    assert value(scrape(outside(watch)), "evenkeel_vaults") == 0


# ---------------------------------------------------------------- the probe


def chain(symbols: dict[str, str], updated_at: int = NOW - 60, feed: str = OTHER) -> Web3:
    """A node that knows tokens' names, one oracle and its feeds."""

    class Canned(BaseProvider):
        def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
            if method == "eth_chainId":
                return {"jsonrpc": "2.0", "id": 1, "result": "0x1"}  # type: ignore[typeddict-item]
            if method != "eth_call":
                raise ConnectionError("http://node/with-a-key")
            to, data = params[0]["to"].lower(), params[0]["data"]
            if to == ORACLE:
                answer = encode(["address", *["uint256"] * 4], [feed, 8, 3_600, 1, 2])
            elif to == OTHER:
                answer = encode(["uint80", "int256", *["uint256"] * 3], [1, 1, updated_at, updated_at, 1])
            else:
                assert data.startswith("0x95d89b41")
                answer = encode(["string"], [symbols.get(to, "T")])
            return {"jsonrpc": "2.0", "id": 1, "result": Web3.to_hex(answer)}  # type: ignore[typeddict-item]

    return Web3(Canned())


def test_the_probe_reads_when_the_feeds_spoke() -> None:
    watch = watched(Clock())
    Probe(watch, chain({}), Sender(chain({})), open_database(":memory:"))._prices(watch.facts())
    assert watch.facts().prices == {(ORACLE, token): PriceSeen(NOW - 60, 3_600) for token in (CASH, STOCK)}


def test_the_probe_sees_the_kill_switch_in_a_dry_run_too(tmp_path: Path) -> None:
    switch, watch, web3 = tmp_path / "stop", watched(Clock()), chain({})
    probe = Probe(watch, web3, Sender(web3, dry_run=True, kill_switch=switch), open_database(":memory:"))
    seen = []
    for _ in range(2):
        probe.ask()
        seen.append(watch.facts().kill_switch)
        switch.touch()
    assert seen == ["", str(switch)]


def test_the_probe_takes_no_feed_for_no_age() -> None:
    watch = watched(Clock())
    nothing = chain({}, feed="0x" + "0" * 40)
    Probe(watch, nothing, Sender(nothing), open_database(":memory:"))._prices(watch.facts())
    assert watch.facts().prices == {}


def test_the_probe_never_raises_and_says_that_the_node_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = watched(clock)
    broken = chain({})
    Probe(watch, broken, Sender(broken), open_database(":memory:")).ask()
    facts = watch.facts()
    assert facts.node is not None and not facts.node.answers
    assert facts.database is True
    assert not facts.sends  # no account
    assert [str(one.kind) for one in problems(facts, None, Limits()) if one.kind == "node_away"] == [
        "node_away"
    ]
    said = capsys.readouterr()
    assert "with-a-key" not in said.out + said.err


# ---------------------------------------------------------------- files that name metrics


def named(text: str) -> set[str]:
    return set(re.findall(r"\bevenkeel_[a-z_]+", text))


def test_the_dashboard_is_valid_and_names_metrics_that_exist() -> None:
    board = json.loads((REPOSITORY / "deploy/grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert queries
    assert {name for query in queries for name in named(query)} <= set(METRICS)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


def test_the_rules_are_valid_and_name_metrics_that_exist() -> None:
    rules = yaml.safe_load((REPOSITORY / "deploy/alerts.yml").read_text())
    found = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert {"alert", "expr", "labels", "annotations"} <= set(rule)
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert named(rule["expr"])
        assert named(rule["expr"]) <= set(METRICS)


def test_the_page_lists_every_metric_with_its_labels() -> None:
    page = (REPOSITORY / "docs/operations.md").read_text()
    rows = dict(re.findall(r"^\| `(evenkeel_[a-z_]+)` \| ([^|]*) \|", page, re.MULTILINE))
    assert set(rows) == set(METRICS)
    for name, (_, labels) in METRICS.items():
        assert re.findall(r"`([a-z_]+)`", rows[name]) == list(labels)
