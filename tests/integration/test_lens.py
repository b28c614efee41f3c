"""Many vaults read through the lens are what they say one by one, on anvil; and screened, in the keeper's words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.exceptions import Web3RPCError
from web3.types import RPCEndpoint

from offchain.chain import lens as chain_lens
from offchain.chain.contracts import bind
from offchain.chain.errors import ChainError, ConfigError
from offchain.chain.lens import read_one, read_vaults
from offchain.chain.vault import BlockRef, latest_block, read_vault, storable
from offchain.demo.world import World, build_world
from offchain.keeper.decide import waiting
from offchain.keeper.journal import Journal
from offchain.keeper.screen import UNREADABLE, screen
from offchain.policy import DAY, Mode
from tests.support.anvil import anvil
from tests.support.demo_vault import FIRST, make_keeper

DEAD = "0xfe"  # code that burns all gas and fails
NOBODY = "0x" + "5" * 40


class Counting(HTTPProvider):
    """Remembers what it was asked; calls of the lens with more than `longest` hex digits are refused."""

    def __init__(self, url: str, longest: int = 10**9) -> None:
        super().__init__(url)
        self.asked: list[str] = []
        self.longest = longest

    def make_request(self, method: RPCEndpoint, params: Any) -> Any:
        self.asked.append(method)
        asks_lens = method == "eth_call" and params[0]["data"].startswith("0x" + chain_lens.STATES.hex())
        if asks_lens and len(params[0]["data"]) > self.longest:
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "out of gas"}}
        return super().make_request(method, params)


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, list[Contract]]]:
    """Six vaults: as created, with a fee's days, drifted, with an asset in quarantine, after one, and paused."""
    with anvil(FIRST.timestamp) as chain:
        world = build_world(chain, FIRST)
        names = ("plain", "drifted", "quarantined", "was quarantined", "paused", "broken")
        vaults = [world.create_vault(Mode(i % 4), name, f"V{i}", FIRST) for i, name in enumerate(names)]
        token = world.tokens[0]
        world.mint(vaults[1].address, 700, FIRST, only=world_tokens(1))
        guard = world.timelock.functions
        for i, end in ((2, False), (3, True)):
            chain.send(world.guardian, guard.quarantine(vaults[i].address, token.address))
            if end:
                chain.send(world.guardian, guard.end_quarantine(vaults[i].address))
        chain.send(world.guardian, guard.pause(vaults[4].address))
        yield world, vaults


def world_tokens(index: int) -> Any:
    from offchain.demo.world import TOKENS

    return [TOKENS[index]]


@pytest.fixture
def addresses(built: tuple[World, list[Contract]], world: World) -> list[str]:
    return [vault.address for vault in built[1]]


def one_by_one(web3: Web3, addresses: list[str], at: BlockRef) -> list[Any]:
    """What `read_vault` says of each, None where it raises."""
    found: list[Any] = []
    for address in addresses:
        try:
            found.append(read_vault(web3, address, at))
        except (ChainError, Web3RPCError):  # the second where all gas is burnt
            found.append(None)
    return found


def test_reads_what_the_vaults_say_one_by_one(world: World, addresses: list[str]) -> None:
    web3, place = world.chain.web3, world.lens.address
    several = [*addresses, world.oracle.address, NOBODY, addresses[0].lower()]
    for days in (0, 15):  # fees run, quarantine and pause end, feeds go stale
        world.chain.mine(world.chain.now + days * DAY)
        at = latest_block(web3)
        found = read_vaults(web3, place, several, at)
        assert found == one_by_one(web3, several, at)
        assert [snapshot is None for snapshot in found] == [False] * 6 + [True, True, False]


@pytest.mark.parametrize("broken", ["token", "feed", "oracle"])
def test_reads_the_same_where_something_is_broken(world: World, addresses: list[str], broken: str) -> None:
    web3 = world.chain.web3
    place = {"token": world.tokens[0], "feed": world.feeds[0], "oracle": world.oracle}[broken].address
    world.chain._rpc("anvil_setCode", [place, DEAD])
    at = latest_block(web3)
    found = read_vaults(web3, world.lens.address, addresses, at)
    assert found == one_by_one(web3, addresses, at)
    # a token that does not answer is left alone only by the vault that has it in quarantine
    readable = {"token": [2], "feed": list(range(6)), "oracle": []}[broken]
    assert [i for i, snapshot in enumerate(found) if snapshot is not None] == readable


def test_a_basket_that_no_vault_can_store_is_refused_before_anybody_reckons_with_it(
    world: World, addresses: list[str]
) -> None:
    """A digit that a bad node changed: ten to the power of that many decimals takes for ever."""
    web3, vault = world.chain.web3, bind(world.chain.web3, "Vault", addresses[0])
    asks = vault.encode_abi("basket")
    answer = web3.eth.call({"to": vault.address, "data": asks}).hex()

    class Bad(HTTPProvider):
        def make_request(self, method: RPCEndpoint, params: Any) -> Any:
            if method == "eth_call" and params[0].get("data") == asks:
                word = 3 * 64  # offset, length, token, decimals
                return {"jsonrpc": "2.0", "id": 1, "result": f"0x{answer[:word]}7{answer[word + 1 :]}"}
            return super().make_request(method, params)

    with pytest.raises(ChainError, match="answers what no vault can store"):
        read_vault(Web3(Bad(world.chain.url)), vault.address)


@pytest.mark.parametrize(
    "changes",
    [
        {"decimals": 25},
        {"target_bps": 10_001},
        {"max_target_bps": 2**40},
        {"mode": 4},
        {"calendar_every": 0},
        {"cooldown_seconds": 2**40},
        {"opened_at": 2**40},
    ],
)
def test_what_a_vault_can_store(world: World, addresses: list[str], changes: dict[str, Any]) -> None:
    state = read_vault(world.chain.web3, addresses[0]).state
    parts: list[Any] = [state.assets[0], state.rules, state.session]
    assert storable(state.assets, state.rules, state.session, state.time)
    assert not storable(state.assets, state.rules, state.session, 2**40)
    assert not storable((), state.rules, state.session)
    changed = [replace(part, **changes) if hasattr(part, next(iter(changes))) else part for part in parts]
    assert not storable((changed[0], *state.assets[1:]), *changed[1:])


def test_reads_at_an_earlier_block(world: World, addresses: list[str]) -> None:
    web3, at = world.chain.web3, latest_block(world.chain.web3)
    before = read_vaults(web3, world.lens.address, addresses, at)
    world.mint(addresses[0], 100, FIRST)
    assert read_vaults(web3, world.lens.address, addresses, at) == before
    assert read_vaults(web3, world.lens.address, addresses, latest_block(web3)) != before


def test_300_vaults_take_three_calls_of_the_lens(world: World, addresses: list[str]) -> None:
    web3 = Web3(provider := Counting(world.chain.url))
    web3.middleware_onion.remove("validation")
    at = latest_block(web3)
    read_vaults(web3, world.lens.address, addresses, at)
    provider.asked.clear()
    found = read_vaults(web3, world.lens.address, [*addresses] * 50, at)
    assert len(found) == 300
    assert sorted(provider.asked) == ["eth_call"] * 3 + ["eth_chainId", "eth_getBlockByNumber"]


def test_a_node_that_refuses_large_calls_is_asked_for_fewer(world: World, addresses: list[str]) -> None:
    at = latest_block(world.chain.web3)
    many = [*addresses] * 5
    small = Web3(Counting(world.chain.url, longest=2 * (4 + 64 + 32 * 5) + 2))  # five addresses
    assert read_vaults(small, world.lens.address, many, at) == read_vaults(
        world.chain.web3, world.lens.address, many, at
    )
    none = Web3(Counting(world.chain.url, longest=100))
    with pytest.raises(ChainError, match="lens: the node refuses a call for one vault"):
        read_vaults(none, world.lens.address, many, at)
    assert read_one(none, None, addresses[0], at) == read_one(none, world.lens.address, addresses[0], at)


def test_what_is_no_lens_is_refused_by_name(world: World, addresses: list[str]) -> None:
    at = latest_block(world.chain.web3)
    for place in (world.oracle.address, NOBODY):
        with pytest.raises(ConfigError, match="lens: the contract at"):
            read_vaults(world.chain.web3, place, addresses, at)


def test_a_block_that_was_replaced_is_refused(world: World, addresses: list[str]) -> None:
    at = replace(latest_block(world.chain.web3), hash="0x" + "ab" * 32)
    with pytest.raises(ChainError, match="was replaced while it was read"):
        read_vaults(world.chain.web3, world.lens.address, addresses, at)


def test_the_screen_says_what_a_look_would(world: World, addresses: list[str], journal: Journal) -> None:
    web3, at = world.chain.web3, latest_block(world.chain.web3)
    seen = screen(web3, world.lens.address, [*addresses, NOBODY], at)
    assert [s.vault for s in seen] == [*addresses, NOBODY]
    for one in seen[:-1]:
        assert one.snapshot == read_vault(web3, one.vault, at)
        expected = waiting(one.snapshot, at.time).reason
        assert (one.reason, one.could_act) == (expected, not expected)
    assert {one.could_act for one in seen} == {True, False}
    assert seen[4].reason == "paused"
    assert (seen[-1].snapshot, seen[-1].could_act, seen[-1].reason) == (None, False, UNREADABLE)


def test_a_keeper_with_a_lens_sees_the_same(world: World, built: Any, tmp_path: Any) -> None:
    outcomes = []
    for place in (None, world.lens.address):
        journal = Journal(tmp_path / f"{place}.sqlite")
        outcomes.append(make_keeper(world, built[1][0], journal, lens=place).once())
        journal.close()
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].snapshot is not None


def test_a_keeper_whose_lens_fails_reads_call_by_call(
    world: World, built: Any, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise ChainError("the node's answer is cut off")

    monkeypatch.setattr(chain_lens, "read_vaults", fails)
    outcome = make_keeper(world, built[1][0], journal, lens=world.lens.address).once()
    assert outcome.snapshot == read_vault(world.chain.web3, built[1][0].address)
