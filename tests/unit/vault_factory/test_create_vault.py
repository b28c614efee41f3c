import pytest
from brownie import ZERO_ADDRESS, reverts, web3
from eth_abi import encode

from tests.unit.vault.deployment import CONFIG_TYPE, RULES, SALT, SEEDS, TARGETS, asset, changed


@pytest.fixture
def create(factory, config, approved, creator):
    """Create a vault of `config` with some fields replaced."""

    def create(seeds=SEEDS, salt=SALT, sender=creator, **fields):
        return factory.create_vault(tuple((config | fields).values()), seeds, salt, {"from": sender})

    return create


def test_registers_the_vault(factory, create):
    first, second = create().return_value, create(salt=bytes(32)).return_value
    assert factory.vault_count() == 2
    assert (factory.vaults(0), factory.vaults(1)) == (first, second)
    assert factory.is_vault(first) and factory.is_vault(second)
    assert not factory.is_vault(factory)


def test_takes_the_seeds_and_keeps_nothing(factory, create, tokens, creator):
    had = [token.balanceOf(creator) for token in tokens]
    vault = create().return_value
    for token, before, seed in zip(tokens, had, SEEDS, strict=True):
        assert token.balanceOf(creator) == before - seed
        assert (token.balanceOf(vault), token.balanceOf(factory)) == (seed, 0)
        assert token.allowance(factory, vault) == 0


def test_emits_the_config(create, config, creator):
    tx = create()
    topic = web3.keccak(text=f"VaultCreated(address,address,{CONFIG_TYPE})")
    (log,) = [log for log in tx.logs if log["topics"][0] == topic]
    assert [int(word.hex(), 16) for word in log["topics"][1:]] == [
        int(tx.return_value, 16),
        int(creator.address, 16),
    ]
    assert bytes(log["data"]) == encode([CONFIG_TYPE], [tuple(config.values())])
    assert (tx.events["VaultCreated"]["vault"], tx.events["VaultCreated"]["creator"]) == (
        tx.return_value,
        creator,
    )


def test_makes_a_minimal_proxy_an_address_for_each_salt(create, implementation):
    vault = create().return_value
    code = bytes.fromhex(f"363d3d373d3d3d363d73{implementation.address[2:]}5af43d82803e903d91602b57fd5bf3")
    assert bytes(web3.eth.get_code(vault)).hex() == code.hex()
    again = create(salt=b"\x02" * 32).return_value
    assert again != vault


def test_twice_with_the_same_salt_reverts(create):
    create()
    with reverts():
        create()


def test_is_for_anyone(create, tokens, factory, depositor):
    for token in tokens:
        token.approve(factory, 2**256 - 1, {"from": depositor})
    assert create(sender=depositor).return_value != create().return_value


def test_without_an_owner_reverts(create):
    with reverts("no owner"):
        create(owner=ZERO_ADDRESS)


@pytest.mark.parametrize("seeds", [[], SEEDS[:2], [*SEEDS, 0]])
def test_with_a_wrong_number_of_seeds_reverts(create, seeds):
    with reverts("wrong length"):
        create(seeds=seeds)


def test_with_a_seed_of_one_usd_reverts(create):
    with reverts("seed below 1 USD"):
        create(seeds=[10**6, 0, 0])
    create(seeds=[10**6 + 1, 0, 0])


def test_without_seed_reverts(create):
    with reverts("no value"):
        create(seeds=[0, 0, 0])


def test_without_the_tokens_reverts(create, stranger):
    with reverts("insufficient allowance"):
        create(sender=stranger)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_target_bps": 4_999}, "target outside limits"),
        ({"min_target_bps": 5_001}, "target outside limits"),
        ({"max_target_bps": 10_001}, "limit above 100%"),
        ({"band_points_bps": 10_001}, "band above 100%"),
        ({"band_relative_bps": 10_001}, "band above 100%"),
        ({"price_error_bps": 256}, "price error too large"),
        ({"target_bps": 5_001}, "targets do not sum to 100%"),
        ({"price_error_bps": 66}, "slippage below price errors"),
    ],
)
def test_with_a_bad_asset_reverts(create, config, tokens, fields, reason):
    bad = asset(tokens[0], **({"target_bps": TARGETS[0]} | fields))
    with reverts(reason):
        create(assets=[bad, *config["assets"][1:]])


def test_with_one_asset_reverts(create, tokens):
    with reverts("fewer than 2 assets"):
        create(assets=[asset(tokens[0], 10_000, max_target_bps=10_000)], seeds=SEEDS[:1])


def test_with_an_asset_twice_reverts(create, config):
    assets = config["assets"]
    with reverts("asset twice"):
        create(assets=[assets[0], assets[1], assets[0]])


def test_with_no_token_reverts(create, config):
    with reverts("no token"):
        create(assets=[(ZERO_ADDRESS, *config["assets"][0][1:]), *config["assets"][1:]])


def test_with_too_many_decimals_reverts(create, config, TestToken, owner):
    token = owner.deploy(TestToken, "FINE", "FINE", 25)
    with reverts("too many decimals"):
        create(assets=[asset(token, TARGETS[0]), *config["assets"][1:]])


def test_with_bad_rules_reverts(create):
    with reverts("window 0"):
        create(rules=changed(RULES, window_seconds=0))


def test_with_a_fee_above_the_cap_reverts(create):
    with reverts("fee above cap"):
        create(fee_bps=301)


def test_without_a_price_reverts(create, oracle, tokens, owner):
    oracle.set_feed(tokens[1], ZERO_ADDRESS, 0, 0, 0, {"from": owner})
    with reverts("price not usable"):
        create()
