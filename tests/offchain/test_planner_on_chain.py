"""A plan carried out: vault, executor and Uniswap pools in bytecode end with exactly the balances predicted."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest

from offchain import policy
from offchain.planner import Pool, Problem, V2Pool, plan
from offchain.policy import DAY, NO_ASSET, WAD, Asset, Mode, Rules, Session, VaultState
from tests.support.evm import DEPLOYER, Evm, artifact, uniswap_artifact

KEEPER = "0x" + "ce" * 20
DECIMALS = (6, 18, 8)
PRICES = (WAD, 250 * WAD, 40_000 * WAD)
TARGETS = (2000, 5000, 3000)
POOL_DOLLARS = 2_000_000


@pytest.mark.parametrize(
    "dollars",
    [(30_000, 40_000, 30_000), (10_000, 60_000, 30_000), (20_000, 60_000, 20_000), (1, 50_000, 50_000)],
)
@pytest.mark.parametrize("aside", [NO_ASSET, 1, 2])
def test_the_chain_ends_where_the_plan_says(dollars: tuple[int, ...], aside: int) -> None:
    """`aside`: this asset is in quarantine, and has no price."""
    evm = Evm()
    tokens = [evm.deploy(artifact("TestToken"), f"T{d}", f"T{d}", d) for d in DECIMALS]
    oracle, executor = evm.deploy(artifact("ScriptedOracle")), evm.deploy(artifact("Executor"))
    rule_book = evm.deploy(artifact("RuleBook"))
    timelock = evm.deploy(artifact("Timelock"), rule_book.address, DEPLOYER)  # no tellers here
    implementation = evm.deploy(artifact("Vault"), rule_book.address, timelock.address)
    factory = evm.deploy(artifact("VaultFactory"), implementation.address, rule_book.address)
    oracle.call("set_prices", PRICES, (0, 0, 0))

    rows = zip(tokens, DECIMALS, TARGETS, strict=True)
    assets = tuple(Asset(t.address, d, share, 300, 2500, 0, 10_000, 10) for t, d, share in rows)
    rules = Rules(Mode.THRESHOLD, 0, 1, evm.now, DAY, 0, 100, 500, 100, 50, 1000, 100)
    amounts = tuple(usd * WAD * 10**d // p for usd, d, p in zip(dollars, DECIMALS, PRICES, strict=True))
    for token, amount in zip(tokens, amounts, strict=True):
        token.call("mint", DEPLOYER, amount + 10**30)
        token.call("approve", factory.address, amount)
    roles = (oracle.address, DEPLOYER, 2 * DAY, DEPLOYER, DEPLOYER, [KEEPER])
    config = ("Basket", "BSK", [astuple(a) for a in assets], astuple(rules), *roles, 0, DEPLOYER)
    vault = evm.at(factory.call("create_vault", config, amounts, bytes(32)), artifact("Vault"))

    pairs = evm.deploy(uniswap_artifact("v2-core/build/UniswapV2Factory.json"), DEPLOYER)
    pools: list[Pool] = []
    for i in (1, 2):
        address = pairs.call("createPair", tokens[0].address, tokens[i].address)
        for j in (0, i):
            tokens[j].call("transfer", address, POOL_DOLLARS * WAD * 10 ** DECIMALS[j] // PRICES[j])
        pair = evm.at(address, uniswap_artifact("v2-core/build/UniswapV2Pair.json"))
        pair.call("mint", DEPLOYER)
        sides = (pair.call("token0"), pair.call("token1"))
        pools.append(V2Pool(address, *sides, 30, *pair.call("getReserves")[:2]))

    session = Session(slot=policy.calendar_slot(rules, evm.now))
    state = VaultState(assets, rules, session, amounts, PRICES, (0, 0, 0), WAD, evm.now)
    state = replace(state, vault=vault.address, oracle=oracle.address)
    if aside != NO_ASSET:
        timelock.call("quarantine", vault.address, tokens[aside].address, sender=DEPLOYER)
        prices = tuple(0 if i == aside else p for i, p in enumerate(PRICES))
        oracle.call("set_prices", prices, [5 * (i == aside) for i in range(3)])
        _, state = policy.quarantine(replace(state, prices=prices), tokens[aside].address, evm.now)
    found = plan(Problem(state, tuple(pools), executor.address, tokens[0].address, evm.now))
    assert found.verdict is not None
    assert found.trades
    assert aside == NO_ASSET or found.balances_after[aside] == amounts[aside]
    vault.call(
        "rebalance",
        found.sells,
        executor.address,
        found.payload,
        bytes(32),
        found.session,
        evm.now,
        sender=KEEPER,
    )
    assert tuple(vault.call("balances")) == found.balances_after
    assert vault.call("loss_budget_used") == found.verdict.charge
    assert vault.call("session") == astuple(found.verdict.state.session)
    assert [t.call("balanceOf", executor.address) for t in tokens] == [0, 0, 0]
