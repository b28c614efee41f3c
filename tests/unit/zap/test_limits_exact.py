"""How many assets and how long a payload fit; and figures that take what was there before for nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eth_abi import encode

from tests.support.evm import Contract, Evm, Reverted, artifact
from tests.support.world import ALICE, BOB, STRANGER, WAD
from tests.unit.exact_gas import answers
from tests.unit.vault.support import TELLER, OpenWorld

FOREVER = 2**40
MAX_PAYLOAD = 8_192


@pytest.fixture(autouse=True)
def isolation() -> Iterator[None]:
    """Each test has a chain of its own: code that is put in place by hand is not undone."""
    return iter(())


@pytest.fixture
def chain() -> Evm:
    return Evm()


def anything(chain: Evm, answer: bytes) -> Contract:
    """A contract that answers this to whatever it is asked."""
    contract = chain.deploy(artifact("ScriptedPool"), ALICE, ALICE)
    answers(chain, contract, answer)
    return contract


def zap_out(
    zap: Contract, vault: Contract, token: Contract, payload: bytes = b"", skip: int = 2**256 - 1
) -> int:
    args = (vault.address, WAD, skip, token.address, payload, [], 0, BOB, FOREVER)
    return int(zap.call("zap_out", *args, sender=ALICE))


@pytest.mark.parametrize(("count", "fits"), [(16, True), (17, False)])
def test_a_vault_has_16_assets_at_most(chain: Evm, count: int, fits: bool) -> None:
    zap = chain.deploy(artifact("Zap"), chain.deploy(artifact("Executor")).address)
    token = chain.deploy(artifact("TestToken"), "A", "A", 18)
    vault = anything(chain, encode(["address[]"], [[token.address] * count]))
    if fits:
        assert zap_out(zap, vault, token) == 0
    else:
        with pytest.raises(Reverted, match=r"^0x$"):
            zap_out(zap, vault, token)


@pytest.mark.parametrize(("size", "fits"), [(MAX_PAYLOAD, True), (MAX_PAYLOAD + 1, False)])
def test_a_payload_has_8192_bytes_at_most(chain: Evm, size: int, fits: bool) -> None:
    zap = chain.deploy(artifact("Zap"), anything(chain, bytes(32)).address)
    token = chain.deploy(artifact("TestToken"), "A", "A", 18)
    vault = anything(chain, encode(["address[]"], [[token.address]]))
    if fits:
        assert zap_out(zap, vault, token, bytes(size)) == 0
    else:
        with pytest.raises(Reverted, match=r"^0x$"):
            zap_out(zap, vault, token, bytes(size))


def test_what_the_receiver_had_is_not_what_he_got() -> None:
    world = OpenWorld()
    world.mint(ALICE, 100 * WAD)
    zap = world.deploy("Zap", world.deploy("Executor").address)
    world.vault.call("approve", zap.address, WAD, sender=ALICE)
    cash = world.tokens[0]
    cash.call("set_balance", BOB, 777)
    expected = world.vault.call("preview_redeem_in_kind", WAD, 0)[0]
    assert zap_out(zap, world.vault, cash, skip=0) == expected > 0
    assert cash.call("balanceOf", BOB) == 777 + expected


def test_who_zaps_in_pays_as_if_fees_that_melt_were_gone() -> None:
    world = OpenWorld()
    world.as_timelock("set_teller", TELLER, 10_000, 0)
    world.as_teller("issue", STRANGER, WAD, 100_000 * WAD, 3_600, world.tokens[0].address, 0)
    world.sleep(900)
    supply = world.vault.call("totalSupply") - world.vault.call("melting")[0]
    assert world.vault.call("melting")[0] == 75_000 * WAD
    zap = world.deploy("Zap", world.deploy("Executor").address)
    brought = [balance // 1_000 for balance in world.balances()]
    world.give(zap.address, [0, *brought[1:]])
    world.give(ALICE, [brought[0], 0, 0], spender=zap.address)
    args = (world.vault.address, world.tokens[0].address, brought[0], b"", [], 0, BOB, FOREVER)
    shares = zap.call("zap_in", *args, sender=ALICE)
    held = zip(brought, world.seed, strict=True)
    assert shares == min(amount * supply // seed for amount, seed in held)
    assert world.vault.call("balanceOf", BOB) == shares
