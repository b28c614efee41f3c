"""The demo itself, shortened, and its numbers computed once more from the chain that it leaves."""

import json
import os
import signal
import subprocess
import sys
from decimal import Decimal

import pytest
from web3 import Web3

from offchain.chain.contracts import bind
from offchain.chain.errors import ChainError, ConfigError
from offchain.demo import run
from offchain.demo.localchain import local_chain
from offchain.demo.market import STOCKS, history
from offchain.demo.world import TOKENS, build_world
from offchain.policy import WAD, Mode

DAYS = 46  # into the crash: the bands are broken by then


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The report of a short demo, what is on its chain, and the folder that it wrote to."""
    out = tmp_path_factory.mktemp("demo")
    seen = {}
    original = run._result

    def look(world, *rest):
        seen.update(_read_chain(world))
        return original(world, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_result", look)
        run.run_demo(DAYS, out)
    return json.loads((out / "demo.json").read_text()), seen, out


def _read_chain(world):
    web3 = world.chain.web3
    rebalances = {
        vault.address: vault.events.Rebalanced().get_logs(from_block=0, to_block="latest")
        for vault in world.vaults
    }
    return {
        "heads": {vault.address: "0x" + vault.functions.head().call().hex() for vault in world.vaults},
        "rebalances": rebalances,
        "receipts": {
            log["transactionHash"].to_0x_hex(): web3.eth.get_transaction_receipt(log["transactionHash"])
            for logs in rebalances.values()
            for log in logs
        },
        "shares": {
            (vault.address, account.address): vault.functions.balanceOf(account.address).call()
            for vault in world.vaults
            for account in world.chain.accounts[5:7]
        },
    }


def test_demo_rebalances_by_band_and_never_before_the_calendar(demo):
    report, _, _ = demo
    calendar, threshold, hybrid = report["vaults"]
    assert calendar["rebalances"] == []  # the first slot after creation is in April
    assert [row["trigger"] for row in threshold["rebalances"]].count("threshold") >= 1
    assert hybrid["rebalances"]


def test_demo_reports_what_the_chain_says(demo):
    report, seen, _ = demo
    for vault in report["vaults"]:
        logs = seen["rebalances"][vault["address"]]
        assert len(logs) == len(vault["rebalances"])
        for row, log in zip(vault["rebalances"], logs, strict=True):
            before, after = (
                sum(
                    q * p // 10 ** asset["decimals"]
                    for q, p, asset in zip(
                        log["args"][key], log["args"]["prices"], vault["assets"], strict=True
                    )
                )
                for key in ("balances_before", "balances_after")
            )
            assert (int(row["nav_before"]), int(row["nav_after"])) == (before, after)
            receipt = seen["receipts"][row["transaction"]]
            assert (row["gas"], row["block"]) == (receipt["gasUsed"], receipt["blockNumber"])
            cost = Decimal(before - after) * 10_000 / before
            assert row["cost_bps_of_nav"] == pytest.approx(float(cost))
            assert int(row["drift_after"]) < int(row["drift_before"])


def test_demo_heads_follow_from_the_events(demo):
    report, seen, _ = demo
    for vault in report["vaults"]:
        assert vault["audit"]["ok"]
        assert vault["audit"]["head_recomputed"] == seen["heads"][vault["address"]]


def test_demo_refuses_the_dishonest_keeper(demo):
    report, _, _ = demo
    assert report["attempts"]
    allowed = {
        "loss above slippage",
        "drift fell too little",
        "asset not underweight",
        "loss budget exceeded",
    }
    assert {attempt["reason"] for attempt in report["attempts"]} <= allowed


def test_demo_depositors_leave_with_all_they_have(demo):
    report, seen, _ = demo
    assert len(report["exits"]) == 6
    assert set(seen["shares"].values()) == {0}
    for row in report["exits"]:
        assert all(int(amount) > 0 for amount in row["amounts"].values())


def test_demo_draws_the_chart(demo):
    _, _, out = demo
    assert (out / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_history_is_the_file_in_order():
    days = history(30)
    assert [len(day.prices) for day in days] == [len(TOKENS)] * 30
    assert days[0].prices == (7_334_800_000, 12_594_300_000, 5_853_100_000, 100_000_000)
    assert [day.date for day in days] == sorted(day.date for day in days)


@pytest.mark.parametrize("days", [1, 100_000])
def test_history_names_the_setting_that_is_wrong(days):
    with pytest.raises(ConfigError, match=r"^days: "):
        history(days)


def test_world_pulls_every_pool_to_the_market():
    first, second = history(40)[0], history(40)[39]
    with local_chain(first.timestamp) as chain:
        world = build_world(chain, first)
        chain.set_time(second.timestamp)
        world.set_market(second)
        usd = 1_000
        for stock, token, price in zip(STOCKS, world.tokens, second.prices, strict=False):
            leg = world.swap_leg(world.cash, token, usd * 10**6, to_caller=True)
            paid = leg.min_out * 100 / 99 / stock.scale
            assert usd / paid == pytest.approx(price / 1e8, rel=0.0065)


def test_local_chain_says_why_a_transaction_is_refused():
    day = history(2)[0]
    with local_chain(day.timestamp) as chain:
        world = build_world(chain, day)
        vault = world.create_vault(Mode.THRESHOLD, "Test", "TST", day)
        with pytest.raises(ChainError, match="not timelock"):
            chain.send(chain.accounts[9], vault.functions.set_role(chain.accounts[9].address, 1))
        hire = world.announce(vault, "set_role", chain.accounts[9].address, 1)
        with pytest.raises(ChainError, match="not ready"):
            chain.send(world.deployer, hire)
        assert bind(chain.web3, "Vault", vault.address).functions.totalSupply().call() == pytest.approx(
            1_000 * WAD
        )


def test_local_chain_ends_with_its_block():
    with local_chain() as chain:
        url = chain.url
        assert chain.web3.is_connected()
    assert not Web3(Web3.HTTPProvider(url)).is_connected()


def test_demo_stopped_by_sigterm_ends_its_chain(tmp_path):
    code = f"from pathlib import Path; from offchain.demo.run import run_demo; run_demo(40, Path({str(tmp_path)!r}))"
    with subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) != 0
    assert not Web3(Web3.HTTPProvider(url)).is_connected()
