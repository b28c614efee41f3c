"""`evenkeel plan` against a local chain with real Uniswap pools: what it prints is what the vault then does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from eth_account import Account
from eth_utils.crypto import keccak
from typer.testing import CliRunner
from web3 import Web3
from web3.contract import Contract

from offchain import policy
from offchain.audit import verify_vault
from offchain.chain.contracts import ZERO
from offchain.chain.vault import read_vault
from offchain.cli import app
from offchain.demo.market import Day
from offchain.demo.uniswap import _artifact
from offchain.demo.world import World
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import once
from offchain.keeper.market import Sources, observe
from offchain.planner import Plan, plan
from offchain.policy import DAY, WAD
from tests.support import aggregators as shapes
from tests.support.aggregators import Answer, Asked, Server, serving
from tests.support.demo_vault import FIRST, funded_vault

ETHER = 3_000  # USD
DEEP = 200_000_000  # USD on each side of the pair that only a venue knows
FOREVER = 2**40
Command = Callable[..., Result]


def moved(day: Day, stock: int, per_cent: int) -> Day:
    """The day's prices with one stock moved."""
    prices = list(day.prices)
    prices[stock] = prices[stock] * (100 + per_cent) // 100
    return replace(day, prices=tuple(prices))


JUMP = moved(FIRST, stock=0, per_cent=60)  # tAAPL from 30 % to above 40 %


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    """A threshold vault that holds enough to trade, and a price for the native token."""
    with funded_vault() as (world, vault):
        feed = world.chain.deploy(world.deployer, "TestFeed", 8, "ETH / USD", ETHER * 10**8)
        weth = world.uniswap.weth.address
        price_it = world.oracle.functions.set_feed(weth, feed.address, 30 * DAY, 10**15, 10**24)
        world.chain.send(world.deployer, price_it)
        yield world, vault


@pytest.fixture
def folder(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with settings for this world, without any account."""
    source = world.pool_source
    (tmp_path / "evenkeel.toml").write_text(
        f'rpc_url = "{world.chain.url}"\nexecutor = "{world.executor.address}"\n'
        f"v2_factories = {json.dumps(source.v2_factories)}\nv3_factories = {json.dumps(source.v3_factories)}\n"
        f"v3_fees = {json.dumps(source.v3_fees)}\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("ETH_RPC_URL", "EVENKEEL_RPC_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def command(folder: Path) -> Command:
    """`evenkeel …`; keywords are environment variables."""

    def run(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"} | environment)

    return run


def later(world: World, seconds: int, day: Day) -> None:
    """Let time pass and bring feeds and pools to the day's prices."""
    world.chain.mine(world.chain.now + seconds)
    world.set_market(day)


def report_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def planned(world: World, vault: Contract) -> Plan:
    """The same plan from Python."""
    snapshot = read_vault(world.chain.web3, vault.address)
    return plan(
        observe(world.chain.web3, snapshot, Sources(world.pool_source, world.executor.address)).problem
    )


def execute(world: World, vault: Contract, report: dict[str, Any]) -> Any:
    """What the JSON says, sent by the keeper as it stands there."""
    call = vault.functions.rebalance(
        [int(units) for units in report["sells_units"]],
        world.executor.address,
        bytes.fromhex(report["payload"].removeprefix("0x")),
        bytes(32),
        int(report["session"]),
        world.chain.now + DAY,
    )
    return world.chain.send(world.keeper, call)


# ---------------------------------------------------------------- a plan for now


def test_json_is_the_planners_plan_and_what_the_chain_then_pays(
    world: World, vault: Contract, command: Command
) -> None:
    later(world, 3_600, JUMP)
    report = report_of(command("plan", vault.address, "--json"))
    own = planned(world, vault)
    assert report["possible_now"] and report["trades"] and report["session"] == "1"
    assert report["sells_units"] == [str(sell) for sell in own.sells]
    assert report["payload"] == "0x" + own.payload.hex()
    assert own.costs is not None and own.certificate is not None
    assert report["costs_usd_wad"]["fee"] == str(own.costs.fee)
    assert report["costs_usd_wad"]["impact"] == str(own.costs.impact)
    assert report["certificate_usd_wad"]["gap"] == str(own.certificate.gap)
    assert report["objective_usd_wad"] == report["certificate_usd_wad"]["objective"]
    assert [leg["expected_out_units"] for leg in report["legs"]] == [str(x.expected_out) for x in own.legs]

    execute(world, vault, report)
    after = read_vault(world.chain.web3, vault.address).state
    assert [a["balance_after_units"] for a in report["assets"]] == [
        str(q) for q in after.balances
    ]  # to the wei
    assert report["session_closes"] and after.session.closed_at > 0
    assert int(report["drift_after_wad"]) == sum(policy.drifts(after))


def test_costs_by_cause_are_what_the_vault_loses(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    report = report_of(command("plan", vault.address, "--json", EVENKEEL_NATIVE_PRICE_USD=str(ETHER)))
    prices = [int(asset["price_usd_wad"]) for asset in report["assets"]]
    scales = [10 ** int(asset["decimals"]) for asset in report["assets"]]

    def worth(key: str) -> int:
        rows = zip(report["assets"], prices, scales, strict=True)
        return sum(int(asset[key]) * price // scale for asset, price, scale in rows)

    costs = {cause: int(cost) for cause, cost in report["costs_usd_wad"].items()}
    assert costs["fee"] + costs["impact"] == worth("balance_before_units") - worth("balance_after_units")
    assert costs["gas"] == int(report["gas"]["estimate_gas_units"]) * int(report["gas"]["price_usd_wad"]) > 0
    assert costs["total"] == costs["fee"] + costs["impact"] + costs["gas"] + costs["tax"]


def test_table_fits_80_columns_and_says_what_the_json_says(
    world: World, vault: Contract, command: Command
) -> None:
    later(world, 3_600, JUMP)
    report = report_of(command("plan", vault.address, "--json"))
    result = command("plan", vault.address, "--explain")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    legs = [line.split() for line in lines if "V2 0.3 %" in line or "V3 0." in line]
    assert [(row[2], row[4]) for row in legs] == [
        (leg["symbol_in"], leg["symbol_out"]) for leg in report["legs"]
    ]
    first = report["legs"][0]
    assert legs[0][1] == f"{int(first['amount_in_units']) / 1e18:,.4f}"
    total = next(line.split() for line in lines if line.strip().startswith("total"))
    assert total[1] == f"{int(report['costs_usd_wad']['total']) / 1e18:,.2f}"
    drift = next(line.split() for line in lines if line.startswith(" drift "))
    before, after = (int(report[f"drift_{when}_wad"]) / 1e16 for when in ("before", "after"))
    assert drift[1:] == [f"{before:.2f}", f"{after:.2f}"]
    assert "sold in 2" in result.stdout  # the cash passes through to the later swaps
    assert "Session 1: a trade opens it; outside its band: tAAPL." in result.stdout
    assert "0x5FbDB2315678afecb367f032d93F642f64180aa3" not in result.stdout  # a symbol, not an address


def test_amounts_are_exact_in_json_whatever_the_decimals(
    world: World, vault: Contract, command: Command
) -> None:
    later(world, 3_600, JUMP)
    report = report_of(command("plan", vault.address, "--json"))
    assert [asset["decimals"] for asset in report["assets"]] == ["18", "8", "18", "6"]
    held = read_vault(world.chain.web3, vault.address).state.balances
    assert [asset["balance_before_units"] for asset in report["assets"]] == [str(q) for q in held]

    def numbers(value: Any) -> Iterator[Any]:
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from numbers(item)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield value

    assert list(numbers(report)) == []


# ---------------------------------------------------------------- gas


def test_gas_is_left_out_and_the_setting_named(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    result = command("plan", vault.address)
    assert "left out: see the note" in result.stdout
    assert "Note: gas is left out: set native_token or native_price_usd" in result.stdout


def test_gas_is_priced_by_the_vaults_oracle(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    weth = world.uniswap.weth.address
    report = report_of(command("plan", vault.address, "--json", EVENKEEL_NATIVE_TOKEN=weth))
    gas, web3 = report["gas"], world.chain.web3
    base = web3.eth.get_block(int(report["block"]))["baseFeePerGas"]
    assert gas["native_price_usd_wad"] == str(ETHER * WAD)
    assert gas["native_price_source"] == "oracle"
    assert int(gas["price_wei"]) == base + web3.eth.max_priority_fee
    assert int(gas["price_usd_wad"]) == -(-int(gas["price_wei"]) * ETHER * WAD // WAD)
    assert report["notes"] == []


def test_native_token_without_a_price_stops_no_plan(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    stranger = world.chain.accounts[7].address
    report = report_of(command("plan", vault.address, "--json", EVENKEEL_NATIVE_TOKEN=stranger))
    assert report["trades"] and report["gas"]["price_usd_wad"] == "0"
    assert report["notes"] == [
        "gas is left out: the vault's oracle has no usable price for native_token (NO_FEED); set native_price_usd"
    ]
    both = command(
        "plan",
        vault.address,
        "--json",
        EVENKEEL_NATIVE_TOKEN=stranger,
        EVENKEEL_NATIVE_PRICE_USD="3000",
    )
    assert report_of(both)["gas"]["native_price_source"] == "native_price_usd"


def test_dear_gas_saves_swaps_and_is_capped(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    cheap = report_of(command("plan", vault.address, "--json"))
    dear = report_of(command("plan", vault.address, "--json", EVENKEEL_NATIVE_PRICE_USD="100000"))
    assert len(dear["legs"]) < len(cheap["legs"])
    environment = {"EVENKEEL_NATIVE_PRICE_USD": "100000", "EVENKEEL_MAX_FEE_GWEI": "0.5"}
    capped = report_of(command("plan", vault.address, "--json", **environment))
    assert capped["gas"]["price_wei"] == "500000000"
    assert "above max_fee_gwei 0.5" in capped["notes"][0]


def test_the_keeper_sends_what_the_command_showed(world: World, vault: Contract, command: Command) -> None:
    """With gas from the oracle; the committed record says what it cost, why, and how good it is."""
    later(world, 3_600, JUMP)
    weth = world.uniswap.weth.address
    report = report_of(command("plan", vault.address, "--json", EVENKEEL_NATIVE_TOKEN=weth))
    journal = Journal(":memory:")
    outcome = once(
        world.chain.web3,
        vault.address,
        world.keeper,
        executor=world.executor.address,
        pools=world.pool_source,
        journal=journal,
        native_token=weth,
    )
    assert outcome.status == Status.CONFIRMED, outcome.reason
    text = journal.runs()[0].record or ""
    record = json.loads(text)
    assert record["plan"]["payload"] == report["payload"]
    assert record["inputs"]["gas_price"] == report["gas"]["price_usd_wad"] != "0"
    assert record["gas"]["native_price"] == str(ETHER * WAD) and record["gas"]["source"] == "oracle"
    assert record["plan"]["costs"]["gas"] == report["costs_usd_wad"]["gas"]
    assert record["plan"]["certificate"]["gap"] == report["certificate_usd_wad"]["gap"]
    assert len(record["plan"]["explanations"]) == len(report["assets"])
    (event,) = vault.events.Rebalanced().get_logs(from_block=0)
    assert event["args"]["decision"] == keccak(text=text)
    assert verify_vault(world.chain.web3, vault.address).ok


# ---------------------------------------------------------------- the dry run


def test_dry_run_as_the_keeper_is_accepted(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    keeper = world.keeper.address
    report = report_of(command("plan", vault.address, "--json", "--dry-run", EVENKEEL_SIMULATE_AS=keeper))
    said = report["simulation"]
    assert (said["caller"], said["accepted"], said["refusal"]) == (keeper, True, "")
    assert int(said["gas_units"]) > 300_000
    receipt = execute(world, vault, report)
    assert int(said["gas_units"]) >= receipt["gasUsed"]


def test_dry_run_as_somebody_else_says_why_it_is_refused(
    world: World, vault: Contract, command: Command
) -> None:
    later(world, 3_600, JUMP)
    stranger = world.chain.accounts[7].address
    result = command("plan", vault.address, "--dry-run", EVENKEEL_SIMULATE_AS=stranger)
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert f"the vault refuses it from {stranger}: not keeper." in text
    assert "lacks the keeper role of this vault" in text


def test_dry_run_takes_the_address_of_a_keystore_and_no_password(
    world: World, vault: Contract, command: Command, folder: Path
) -> None:
    later(world, 3_600, JUMP)
    keystore = folder / "key.json"
    keystore.write_text(json.dumps(Account.encrypt(world.keeper.key, "secret", kdf="pbkdf2", iterations=10)))
    result = command("plan", vault.address, "--json", "--dry-run", EVENKEEL_KEYSTORE=str(keystore))
    assert report_of(result)["simulation"]["caller"] == world.keeper.address


def test_dry_run_without_an_account_finds_the_last_keeper(
    world: World, vault: Contract, command: Command
) -> None:
    later(world, 3_600, JUMP)
    nobody = command("plan", vault.address, "--json", "--dry-run")
    assert report_of(nobody)["simulation"] is None
    assert "not simulated: no keeper is known; set simulate_as" in nobody.stderr
    execute(world, vault, report_of(command("plan", vault.address, "--json")))
    later(world, 2 * DAY, moved(JUMP, stock=0, per_cent=60))
    found = report_of(command("plan", vault.address, "--json", "--dry-run"))
    assert found["simulation"]["caller"] == world.keeper.address
    assert found["simulation"]["accepted"]
    drop = world.timelock.functions.drop_role(vault.address, world.keeper.address)
    world.chain.send(world.guardian, drop)
    assert report_of(command("plan", vault.address, "--json", "--dry-run"))["simulation"] is None


def test_dry_run_needs_an_executor(world: World, vault: Contract, command: Command) -> None:
    text = Path("evenkeel.toml").read_text().splitlines()
    Path("evenkeel.toml").write_text("\n".join(line for line in text if not line.startswith("executor")))
    later(world, 3_600, JUMP)
    assert report_of(command("plan", vault.address, "--json"))["trades"]  # a plan needs none
    result = command("plan", vault.address, "--dry-run")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: executor: not set, and --dry-run needs it")


# ---------------------------------------------------------------- venues outside


@pytest.fixture
def venue(world: World, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A 0x whose only source is a deep pair that the settings do not know, and the settings to ask it."""
    chain, provider = world.chain, world.provider
    factory = chain.deploy_code(
        world.deployer, *_artifact("v2-core/build/UniswapV2Factory.json"), world.deployer.address
    )
    router = chain.deploy_code(
        world.deployer, *_artifact("v2-periphery/build/UniswapV2Router02.json"), factory.address, ZERO
    )
    later(world, 3_600, JUMP)
    world.mint(provider.address, DEEP, JUMP)
    world.approve(provider, router.address)
    sold, bought = world.tokens[0].address, world.tokens[1].address
    units = [
        DEEP * 10**26 // JUMP.prices[0],
        DEEP * 10**16 * 102 // JUMP.prices[1] // 100,
    ]  # 2 % in our favour
    add = router.functions.addLiquidity(sold, bought, *units, 0, 0, provider.address, FOREVER)
    chain.send(provider, add)

    def quotes(asked: Asked) -> Answer:
        if (asked.query["sellToken"], asked.query["buyToken"]) != (sold.lower(), bought.lower()):
            return Answer(shapes.ZEROEX_NONE)
        amount, taker = int(asked.query["sellAmount"]), Web3.to_checksum_address(asked.query["taker"])
        pays = router.functions.getAmountsOut(amount, [sold, bought]).call()[-1]
        swap = router.functions.swapExactTokensForTokens(amount, 0, [sold, bought], taker, FOREVER)
        data = swap._encode_transaction_data()
        return Answer(shapes.zeroex(asked, pays, pays, router.address, router.address, data))

    monkeypatch.setenv("EVENKEEL_ZEROX_API_KEY", "a-key")
    with serving(quotes) as server:
        with Path("evenkeel.toml").open("a") as file:
            file.write(f'aggregators = ["0x"]\naggregator_urls = {{ "0x" = "{server.url}" }}\n')
        yield server


def test_a_venue_that_pays_more_is_in_the_plan(
    world: World, vault: Contract, command: Command, venue: Server
) -> None:
    environment = {"EVENKEEL_SIMULATE_AS": world.keeper.address, "EVENKEEL_AGGREGATOR_TIMEOUT_SECONDS": "30"}
    report = report_of(command("plan", vault.address, "--json", "--dry-run", **environment))
    (used,) = (quote for quote in report["quotes"] if quote["used"])
    assert (used["venue"], used["symbol_in"], used["symbol_out"]) == ("0x", "tAAPL", "tJPM")
    assert int(used["offered_units"]) > int(used["own_route_units"]) > 0
    assert report["choice"].startswith("0x: in simulation at least ")
    assert report["simulation"]["accepted"]
    assert "a-key" not in json.dumps(report)

    table = command("plan", vault.address, **environment).stdout
    assert "Outside quotes" in table and "No proof of optimality: venues outside carry out a part" in table
    execute(world, vault, report)
    after = read_vault(world.chain.web3, vault.address).state.balances
    assert [asset["balance_after_units"] for asset in report["assets"]] == [str(q) for q in after]


def test_venues_are_only_shown_while_no_session_can_open(
    world: World, vault: Contract, command: Command, venue: Server
) -> None:
    world.chain.send(world.guardian, world.timelock.functions.pause(vault.address))
    environment = {"EVENKEEL_SIMULATE_AS": world.keeper.address, "EVENKEEL_AGGREGATOR_TIMEOUT_SECONDS": "30"}
    report = report_of(command("plan", vault.address, "--json", **environment))
    assert report["quotes"] and not any(quote["used"] for quote in report["quotes"])
    assert report["choice"] == "own route: quotes are tried only when a session can open"


def test_no_venue_is_asked_in_nobodys_name(
    world: World, vault: Contract, command: Command, venue: Server
) -> None:
    result = command("plan", vault.address, "--json")
    assert report_of(result)["quotes"] == [] and venue.asked == []
    assert "no venue asked: no keeper is known; set simulate_as" in result.stderr


# ---------------------------------------------------------------- not now


def test_on_target_shows_what_a_session_would_trade(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, moved(FIRST, stock=0, per_cent=20))  # inside the band of 5 points
    result = command("plan", vault.address)
    assert result.exit_code == 0
    assert "NOT NOW: the vault refuses every rebalance at this block." in result.stdout
    text = " ".join(result.stdout.split())
    assert "every asset is inside its band (the nearest to its edge: tAAPL, " in text
    assert "Below is what would be traded if session 1 were open now." in text
    report = report_of(command("plan", vault.address, "--json"))
    assert not report["possible_now"] and report["trades"]
    assert report["waits"][0]["until_seconds"] is None


def test_cooldown_says_until_when_and_the_vault_agrees(
    world: World, vault: Contract, command: Command
) -> None:
    later(world, 3_600, JUMP)
    execute(world, vault, report_of(command("plan", vault.address, "--json")))
    again = moved(JUMP, stock=0, per_cent=60)
    later(world, 3_600, again)
    environment = {"EVENKEEL_SIMULATE_AS": world.keeper.address}
    result = command("plan", vault.address, "--json", "--dry-run", **environment)
    report = report_of(result)  # exit code 0: the refusal is no surprise
    (wait,) = report["waits"]
    assert wait["reason"] == "cooldown after session 1"
    assert report["simulation"]["refusal"] == "cooldown not over"
    until = int(wait["until_seconds"])
    later(world, until - world.chain.now - 30, again)
    assert not report_of(command("plan", vault.address, "--json"))["possible_now"]
    later(world, 30, again)
    assert world.chain.now >= until
    now = report_of(command("plan", vault.address, "--json", "--dry-run", **environment))
    assert now["possible_now"] and now["simulation"]["accepted"]
    assert now["session"] == report["session"] == "2"


def test_a_paused_vault_shows_what_waits(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    world.chain.send(world.guardian, world.timelock.functions.pause(vault.address))
    report = report_of(command("plan", vault.address, "--json"))
    (wait,) = report["waits"]
    assert wait["reason"] == "trades are paused"
    assert int(wait["until_seconds"]) == vault.functions.settings().call()[-1]
    assert report["trades"] and report["session"] == "1"


def test_a_stale_price_leaves_nothing_to_plan(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    world.chain.mine(world.chain.now + 2 * DAY)
    result = command("plan", vault.address, "--explain")
    assert result.exit_code == 0
    assert "the oracle has no usable price for tAAPL (STALE)" in result.stdout
    assert "Swaps" not in result.stdout
    report = report_of(command("plan", vault.address, "--json"))
    assert report["reason"] == "price not usable" and not report["trades"]


# ---------------------------------------------------------------- why


def test_a_quarantined_asset_is_explained(world: World, vault: Contract, command: Command) -> None:
    token = world.tokens[1].address
    world.chain.send(world.guardian, world.timelock.functions.quarantine(vault.address, token))
    later(world, 3_600, JUMP)
    report = report_of(command("plan", vault.address, "--json"))
    aside = report["assets"][1]
    assert aside["quarantined"] and aside["theory"] is None
    assert aside["explanation"] == "not traded: in quarantine: not touched"
    assert token.lower() not in {
        leg[side].lower() for leg in report["legs"] for side in ("token_in", "token_out")
    }
    execute(world, vault, report)
    assert "in quarantine" in command("plan", vault.address).stdout


def test_an_untraded_asset_is_explained(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, moved(JUMP, stock=2, per_cent=24))  # tXOM ends 0.2 points above target
    report = report_of(command("plan", vault.address, "--json"))
    (idle,) = (a for a in report["assets"] if a["balance_before_units"] == a["balance_after_units"])
    assert idle["symbol"] == "tXOM"
    why = "what trading it costs is more than its drift is worth"
    assert idle["explanation"].startswith(f"not traded: {why} (weight 20.")
    width, closes = int(idle["theory"]["half_width_wad"]), int(idle["theory"]["closes_within_wad"])
    assert 0 < width < closes == int(idle["band_wad"]) // 2
    text = " ".join(command("plan", vault.address, "--explain").stdout.split())
    assert f"Not traded: {why}" in text
    assert f"waiting is cheaper than trading within {width / 1e16:.2f} points of the target" in text


def test_nothing_is_worth_its_gas(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    environment = {"EVENKEEL_NATIVE_PRICE_USD": "1000000"}
    report = report_of(command("plan", vault.address, "--json", **environment))
    assert report["possible_now"] and not report["trades"]
    assert report["reason"] == "no pool can trade the drift at a cost that it is worth"
    result = command("plan", vault.address, **environment)
    assert "Nothing to trade: no pool can trade the drift at a cost that it is worth." in result.stdout
    assert "Swaps" not in result.stdout


def test_explain_adds_the_cost_a_year_where_a_volatility_is_given(
    world: World, vault: Contract, command: Command
) -> None:
    later(world, 3_600, JUMP)
    without = " ".join(command("plan", vault.address, "--explain").stdout.split())
    assert "bps of NAV a year" not in without
    assert "--volatility-percent adds its cost a year" in without
    given = command("plan", vault.address, "--explain", "--volatility-percent", "60")
    assert "bps of NAV a year, going to the target each time" in " ".join(given.stdout.split())


def test_at_target_goes_further_and_says_what_that_costs(
    world: World, vault: Contract, command: Command
) -> None:
    later(world, 3_600, JUMP)
    edge = report_of(command("plan", vault.address, "--json"))
    target = report_of(command("plan", vault.address, "--json", "--at-target"))
    assert int(target["drift_after_wad"]) < int(edge["drift_after_wad"]) // 10
    assert int(target["objective_usd_wad"]) > int(target["keeper_objective_usd_wad"])
    assert target["keeper_objective_usd_wad"] == edge["objective_usd_wad"]
    text = " ".join(command("plan", vault.address, "--at-target").stdout.split())
    worse = (int(target["objective_usd_wad"]) - int(edge["objective_usd_wad"])) / 1e18
    assert f"this is {worse:,.2f} USD worse than its own plan" in text


# ---------------------------------------------------------------- nothing to trade with


def test_no_pool_is_a_reason_and_no_error(world: World, vault: Contract, command: Command) -> None:
    later(world, 3_600, JUMP)
    elsewhere = json.dumps([world.uniswap.v3_factory.address])
    environment = {
        "EVENKEEL_V2_FACTORIES": "[]",
        "EVENKEEL_V3_FACTORIES": elsewhere,
        "EVENKEEL_V3_FEES": "[100]",
    }
    result = command("plan", vault.address, "--explain", **environment)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "Nothing to trade: no pool can trade the drift at a cost that it is worth." in text
    assert "Not traded: no pool that was read trades it." in text


@pytest.mark.parametrize("who", ["token", "account"])
def test_what_is_no_vault_is_one_line(world: World, command: Command, who: str) -> None:
    address = world.cash.address if who == "token" else world.deployer.address
    result = command("plan", address)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: vault: ") and result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("version", [2, 3])
def test_a_factory_that_is_none_is_named(
    world: World, vault: Contract, command: Command, version: int
) -> None:
    later(world, 3_600, JUMP)
    for wrong in (world.deployer.address, world.cash.address):
        environment = {f"EVENKEEL_V{version}_FACTORIES": json.dumps([wrong])}
        result = command("plan", vault.address, **environment)
        assert result.exit_code == 2
        chain_id = world.chain.web3.eth.chain_id
        message = f"{wrong} is no Uniswap V{version} factory on chain {chain_id}"
        assert result.stderr == f"error: v{version}_factories: {message}\n"


def test_a_node_that_is_away_is_one_line(vault: Contract, command: Command) -> None:
    result = command("plan", vault.address, "--rpc-url", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert result.stderr == "error: rpc_url: no Ethereum node answers at http://127.0.0.1:1\n"


def test_without_factories_the_settings_are_named(vault: Contract, command: Command, folder: Path) -> None:
    (folder / "evenkeel.toml").write_text("")
    result = command("plan", vault.address)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: v2_factories, v3_factories: name at least one")
