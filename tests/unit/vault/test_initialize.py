import pytest
from brownie import ZERO_ADDRESS, reverts, web3
from eth_abi import encode

from tests.unit.vault.deployment import (
    CONFIG_TYPE,
    DEAD,
    DEAD_SHARES,
    DECIMALS,
    NAV,
    RULES,
    SALT,
    SEEDS,
)

TOPIC = web3.keccak(text="Created(uint256,address,bytes32,bytes32)")


@pytest.fixture(scope="module")
def setup(config):
    """A `Setup` of `config` without assets: enough to be turned away."""
    fields = {**config, "assets": [], "rules": 0}
    return (*fields.values(), bytes(32))


def test_sets_what_the_config_says(vault, config, tokens, implementation, rule_book):
    assert (vault.name(), vault.symbol(), vault.decimals()) == ("Evenkeel Balanced", "EVEN", 18)
    expected = [
        (given[0], decimals, *given[2:]) for given, decimals in zip(config["assets"], DECIMALS, strict=True)
    ]
    assert [tuple(one) for one in vault.basket()] == expected
    assert list(vault.assets()) == tokens
    assert tuple(vault.rules()) == tuple(RULES.values())
    for field in ("oracle", "owner", "fee_bps", "fee_recipient"):
        assert getattr(vault, field)() == config[field]
    assert (vault.pending_owner(), vault.paused_until()) == (ZERO_ADDRESS, 0)
    assert (vault.implementation(), vault.rule_book()) == (implementation, rule_book)
    assert (vault.loss_budget_used(), vault.speed_budget_used(), vault.flow_sequence()) == (0, 0, 0)


def test_gives_the_roles(vault, keeper, strategist, guardian, owner, creator):
    assert [vault.roles(one) for one in (keeper, strategist, guardian, owner, creator)] == [1, 2, 4, 0, 0]


def test_counts_the_present_calendar_slot_as_used(vault, creation):
    slot = (creation.timestamp - RULES["calendar_anchor"]) // (30 * 86_400) + 1
    assert tuple(vault.session()) == (0, 0, 0, slot, False)


def test_mints_the_seeds_value(vault, creator):
    assert list(vault.balances()) == SEEDS
    assert vault.totalSupply() == NAV
    assert vault.balanceOf(DEAD) == DEAD_SHARES
    assert vault.balanceOf(creator) == NAV - DEAD_SHARES


def test_starts_the_audit_chain(vault, creation, config, implementation):
    config_hash = web3.keccak(encode([CONFIG_TYPE], [tuple(config.values())]))
    codehash = web3.keccak(web3.eth.get_code(implementation.address))
    genesis = encode(
        ["uint256", "address", "bytes32", "bytes32"],
        [web3.eth.chain_id, vault.address, codehash, config_hash],
    )
    logged = [bytes(log["data"]) for log in creation.logs if log["topics"][0] == TOPIC]
    assert logged == [genesis]
    assert bytes(vault.head()) == web3.keccak(genesis)
    event = creation.events["Created"]
    assert (event["chain_id"], event["vault"]) == (web3.eth.chain_id, vault)
    assert (bytes(event["codehash"]), bytes(event["config_hash"])) == (codehash, config_hash)


def test_gives_no_role_to_nobody(Vault, factory, config, approved, creator):
    nobody = {"keeper": ZERO_ADDRESS, "strategist": ZERO_ADDRESS, "guardian": ZERO_ADDRESS}
    tx = factory.create_vault(tuple((config | nobody).values()), SEEDS, SALT, {"from": creator})
    assert Vault.at(tx.events["VaultCreated"]["vault"]).roles(ZERO_ADDRESS) == 0


@pytest.mark.parametrize("caller", ["owner", "creator", "stranger"])
def test_a_second_time_reverts(vault, setup, caller, request):
    account = request.getfixturevalue(caller)
    with reverts("already initialized"):
        vault.initialize(setup, [], account, {"from": account})


def test_of_the_implementation_reverts(implementation, setup, stranger):
    with reverts("already initialized"):
        implementation.initialize(setup, [], stranger, {"from": stranger})
