"""Fixtures of a vault as it is deployed: real oracle, feeds, executor and factory; tokens of 6, 8 and 18 decimals."""

from typing import Any

import pytest
from brownie import web3
from eth_abi import decode, encode

WAD = 10**18
DAY = 86_400
HEARTBEAT = 30 * DAY  # seconds
DECIMALS = (6, 8, 18)
PRICES = (1, 50_000, 2_000)  # USD per whole token
TARGETS = [5_000, 3_000, 2_000]  # bps
SEEDS = [5_000 * 10**6, 6 * 10**6, WAD]  # 5,000 + 3,000 + 2,000 USD
NAV = 10_000 * WAD  # USD WAD, and shares
DEAD = "0x000000000000000000000000000000000000dEaD"
DEAD_SHARES = WAD
SALT = b"\x01" * 32
ASSET_TYPE = "(address,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"
RULES_TYPE = f"({','.join(['uint256'] * 12)})"
CONFIG_TYPE = (
    f"(string,string,{ASSET_TYPE}[],{RULES_TYPE},address,address,address,address,address,uint256,address)"
)
RULES = {
    "mode": 1,
    "calendar_unit": 0,
    "calendar_every": 30,
    "calendar_anchor": 1_700_000_000,
    "window_seconds": 7_200,
    "cooldown_seconds": 3_600,
    "max_slippage_bps": 100,
    "loss_capacity_bps": 100,
    "loss_refill_bps_per_year": 200,
    "tolerance_bps": 50,
    "speed_capacity_bps": 1_000,
    "speed_refill_bps_per_day": 100,
}


def changed(rules: dict[str, int], **fields: int) -> tuple[int, ...]:
    """A `Rules` struct with some fields replaced."""
    return tuple((rules | fields).values())


def asset(token: Any, target_bps: int, **fields: int) -> tuple[Any, ...]:
    """An `Asset` struct: bands of 500 points and 25 % of the target, limits 10 % to 70 %, price error 25 bps."""
    given = {
        "decimals": 0,
        "target_bps": target_bps,
        "band_points_bps": 500,
        "band_relative_bps": 2_500,
        "min_target_bps": 1_000,
        "max_target_bps": 7_000,
        "price_error_bps": 25,
    }
    return (token.address, *(given | fields).values())


def assert_recorded(
    vault: Any, tx: Any, name: str, types: list[str], values: list[Any], before: bytes
) -> None:
    """The only audit entry of `tx` names the setter and its arguments, and the head is its data's hash."""
    entries = [log for log in tx.logs if log["address"] == vault.address]
    topic = web3.keccak(text="RuleChanged(bytes32,uint256,string,uint256,bytes)")
    data = [bytes(log["data"]) for log in entries if log["topics"][0] == topic]
    assert len(data) == 1
    previous_head, kind, setter, time, arguments = decode(
        ["bytes32", "uint256", "string", "uint256", "bytes"], data[0]
    )
    assert previous_head == bytes(before)
    assert (kind, setter, time) == (3, name, tx.timestamp)
    assert arguments == encode(types, values)
    assert bytes(vault.head()) == web3.keccak(data[0])
    event = tx.events["RuleChanged"]
    assert (event["kind"], event["name"], event["time"]) == (3, name, tx.timestamp)
    assert event["previous_head"] == before
    assert event["data"] == "0x" + arguments.hex()


# Roles


@pytest.fixture(scope="module")
def owner(accounts):
    return accounts[0]


@pytest.fixture(scope="module")
def guardian(accounts):
    return accounts[1]


@pytest.fixture(scope="module")
def strategist(accounts):
    return accounts[2]


@pytest.fixture(scope="module")
def keeper(accounts):
    return accounts[3]


@pytest.fixture(scope="module")
def creator(accounts):
    """Creates the vault and holds its first shares; no role."""
    return accounts[4]


@pytest.fixture(scope="module")
def depositor(accounts):
    """Has tokens, and has approved them to the vault; no shares."""
    return accounts[5]


@pytest.fixture(scope="module")
def receiver(accounts):
    return accounts[6]


@pytest.fixture(scope="module")
def fee_recipient(accounts):
    return accounts[7]


@pytest.fixture(scope="module")
def stranger(accounts):
    return accounts[8]


# Contracts


@pytest.fixture(scope="module")
def tokens(TestToken, creator, depositor, owner):
    """Cash (6), Gold (8), Stock (18): 100 seeds for the creator and for the depositor."""
    made = []
    for name, decimals, seed in zip(("CASH", "GOLD", "STOCK"), DECIMALS, SEEDS, strict=True):
        token = owner.deploy(TestToken, name, name, decimals)
        for holder in (creator, depositor):
            token.mint(holder, 100 * seed, {"from": owner})
        made.append(token)
    return made


@pytest.fixture(scope="module")
def feeds(TestFeed, owner):
    return [owner.deploy(TestFeed, 8, "FEED / USD", price * 10**8) for price in PRICES]


@pytest.fixture(scope="module")
def oracle(PriceOracle, tokens, feeds, owner):
    made = owner.deploy(PriceOracle)
    for token, feed in zip(tokens, feeds, strict=True):
        made.set_feed(token, feed, HEARTBEAT, 10**12, 10**30, {"from": owner})
    return made


@pytest.fixture(scope="module")
def executor(Executor, owner):
    return owner.deploy(Executor)


@pytest.fixture(scope="module")
def rule_book(RuleBook, owner):
    return owner.deploy(RuleBook)


@pytest.fixture(scope="module")
def implementation(Vault, rule_book, owner):
    return owner.deploy(Vault, rule_book)


@pytest.fixture(scope="module")
def factory(VaultFactory, implementation, rule_book, owner):
    return owner.deploy(VaultFactory, implementation, rule_book)


@pytest.fixture(scope="module")
def config(tokens, oracle, owner, guardian, strategist, keeper, fee_recipient):
    """A `Config` by field; `tuple(config.values())` is the argument."""
    return {
        "name": "Evenkeel Balanced",
        "symbol": "EVEN",
        "assets": [asset(token, target) for token, target in zip(tokens, TARGETS, strict=True)],
        "rules": tuple(RULES.values()),
        "oracle": oracle.address,
        "owner": owner.address,
        "guardian": guardian.address,
        "strategist": strategist.address,
        "keeper": keeper.address,
        "fee_bps": 100,
        "fee_recipient": fee_recipient.address,
    }


@pytest.fixture(scope="module")
def approved(tokens, factory, creator):
    """The creator lets the factory take the seeds."""
    for token in tokens:
        token.approve(factory, 2**256 - 1, {"from": creator})


@pytest.fixture(scope="module")
def creation(factory, config, approved, creator):
    """The transaction that created the vault."""
    return factory.create_vault(tuple(config.values()), SEEDS, SALT, {"from": creator})


@pytest.fixture(scope="module")
def vault(Vault, creation, tokens, depositor):
    made = Vault.at(creation.events["VaultCreated"]["vault"])
    for token in tokens:
        token.approve(made, 2**256 - 1, {"from": depositor})
    return made


@pytest.fixture(scope="module")
def shares(vault, depositor):
    """What the depositor holds: 100 shares."""
    vault.mint_in_kind(100 * WAD, [2**256 - 1] * 3, depositor, {"from": depositor})
    return 100 * WAD


@pytest.fixture(autouse=True)
def isolation(fn_isolation):
    """Each test starts from the module's state."""
