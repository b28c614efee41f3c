"""Many vaults' states at one block, in few calls: what `read_vault` reads of each, through contracts/VaultLens.vy.

A call of the lens reads up to `MAX_VAULTS`; where a node refuses one (its cap on gas, its time), it is cut in halves.
Around them stand one call for the chain's id and one that sees whether the block is still the chain's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from weakref import WeakKeyDictionary

import structlog
from eth_abi.abi import encode
from eth_typing import BlockNumber, ChecksumAddress
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3RPCError

from offchain.chain.contracts import address_of, load_artifact
from offchain.chain.errors import ChainError, ConfigError, PassingError
from offchain.chain.sender import revert_reason
from offchain.chain.vault import BlockRef, Snapshot, block_at, latest_block, read_vault, storable
from offchain.policy import NO_ASSET, Asset, Rules, Session, VaultState

__all__ = ["MAX_VAULTS", "read_one", "read_vaults"]

MAX_VAULTS = 128  # the contract's own limit for a call
WORD = 32  # bytes
STATES = keccak(text="states(address[])")[:4]

log = structlog.get_logger("evenkeel.lens")


def read_vaults(web3: Web3, lens: str, addresses: Sequence[str], at: BlockRef) -> list[Snapshot | None]:
    """The vaults at block `at`, equal to what `read_vault` returns; None where that would raise.

    None, too, where a token needs more than 200,000 gas to tell a balance: `read_vault` has no such limit.

    One eth_call for each `MAX_VAULTS`, and two requests more; another one when this lens is used for the first time.
    Raises ConfigError where `lens` is no VaultLens of this version, ChainError where the block was replaced meanwhile.
    """
    place = _checked(web3, lens, at)
    vaults = [_checksummed(address) for address in addresses]
    chain_id = web3.eth.chain_id
    states = _states(web3, place, vaults, at)
    found = [_snapshot(raw, vault, chain_id, at) for raw, vault in zip(states, vaults, strict=True)]
    if block_at(web3, BlockNumber(at.number)).hash != at.hash:
        raise PassingError(f"block {at.number} was replaced while it was read: try again")
    return found


def read_one(web3: Web3, lens: str | None, address: str, at: BlockRef | None = None) -> Snapshot:
    """`read_vault`, in one call of the lens where there is one and it answers. Raises what `read_vault` raises."""
    if lens is None:
        return read_vault(web3, address, at)
    block = at or latest_block(web3)
    vault = address_of(address, "vault")
    try:
        found = read_vaults(web3, lens, [vault], block)[0]
    except (ChainError, Web3RPCError) as error:
        log.warning("the lens does not answer, the vault is read call by call", lens=lens, error=str(error))
        found = None
    return found or read_vault(web3, vault, block)


# ---------------------------------------------------------------- the calls

_seen: WeakKeyDictionary[Web3, set[str]] = WeakKeyDictionary()  # lenses whose code was looked at


def _checked(web3: Web3, lens: str, at: BlockRef) -> ChecksumAddress:
    """The lens's address, once its code is known to be VaultLens: its answers are taken apart without asking back."""
    place = address_of(lens, "lens")
    seen = _seen.setdefault(web3, set())
    if place not in seen:
        code = web3.eth.get_code(place, BlockNumber(at.number))
        if bytes(code).hex() != str(load_artifact("VaultLens")["deployedBytecode"]).removeprefix("0x"):
            raise ConfigError(
                f"lens: the contract at {place} is not this version's VaultLens; deploy it (docs/operations.md), or "
                "leave lens out"
            )
        seen.add(place)
    return place


def _states(web3: Web3, lens: ChecksumAddress, vaults: Sequence[str], at: BlockRef) -> list[bytes | None]:
    """The lens's answer for each vault, None where that vault cannot be read."""
    size = MAX_VAULTS
    found: list[bytes | None] = []
    while len(found) < len(vaults):
        part = vaults[len(found) : len(found) + size]
        data = STATES + encode(["address[]"], [part])
        try:
            answer = bytes(web3.eth.call({"to": lens, "data": data}, BlockNumber(at.number)))
        except (ContractLogicError, Web3RPCError) as error:
            if len(part) == 1:
                raise ChainError(
                    f"lens: the node refuses a call for one vault, {part[0]}: {revert_reason(error)} "
                    "(it needs some 15,000,000 gas an eth_call)"
                ) from error
            size = len(part) // 2
            continue
        found += _parts(answer, part)
    return found


def _parts(answer: bytes, vaults: Sequence[str]) -> Iterator[bytes | None]:
    """`states`' two lists, the second one's elements still encoded."""
    flags, states = _number(answer, 0), _number(answer, WORD)
    if _number(answer, flags) != len(vaults) or _number(answer, states) != len(vaults):
        raise ChainError(
            f"lens: the node answers for another number of vaults than the {len(vaults)} asked for"
        )
    ends = [_number(answer, states + WORD * (i + 1)) for i in range(len(vaults))] + [len(answer)]
    base = states + WORD
    for i, vault in enumerate(vaults):
        if not _number(answer, flags + WORD * (i + 1)):
            yield None
            continue
        raw = answer[base + ends[i] : base + ends[i + 1]]
        if raw[12:WORD] != bytes.fromhex(vault[2:]):
            raise ChainError(f"lens: the node answers for another vault than {vault}")
        yield raw


# ---------------------------------------------------------------- the answer


class _At:
    """Where an encoded State has what, in words."""

    BASKET, BALANCES, PRICES, STATUSES, UNREADABLE, ASIDE, ASIDE_UNTIL, PAUSED_UNTIL, RULES = range(1, 10)
    SESSION = RULES + 12
    LOSS, SPEED, SUPPLY, PENDING, FEE, FLOWS, ORACLE, HEAD = range(SESSION + 5, SESSION + 13)


def _snapshot(raw: bytes | None, vault: str, chain_id: int, at: BlockRef) -> Snapshot | None:
    if raw is None:
        return None
    word = _reader(raw)
    assets = _assets(_list(raw, _At.BASKET, 8))
    aside, aside_until, unreadable = word(_At.ASIDE), word(_At.ASIDE_UNTIL), word(_At.UNREADABLE)
    quarantined = aside if at.time < aside_until else NO_ASSET
    balances = _numbers(_list(raw, _At.BALANCES))
    prices, statuses = _numbers(_list(raw, _At.PRICES)), _numbers(_list(raw, _At.STATUSES))
    if unreadable & ~(1 << quarantined) or not len(balances) == len(prices) == len(statuses) == len(assets):
        return None
    if quarantined < len(balances):
        balances = (*balances[:quarantined], 0, *balances[quarantined + 1 :])
    number, opened_at, closed_at, slot, by_calendar = _numbers(raw[WORD * _At.SESSION : WORD * _At.LOSS])
    rules = _rules(raw[WORD * _At.RULES : WORD * _At.SESSION])
    session = Session(number, opened_at, closed_at, slot, by_calendar == 1)
    if not storable(assets, rules, session, aside_until, word(_At.PAUSED_UNTIL)):
        return None
    state = VaultState(
        assets=assets,
        rules=rules,
        session=session,
        balances=balances,
        prices=prices,
        statuses=statuses,
        supply=word(_At.SUPPLY),
        time=at.time,
        pending_fee_shares=word(_At.PENDING),
        fee_bps=word(_At.FEE),
        fee_accrued_at=at.time,  # the views count what is pending up to now
        loss_used=word(_At.LOSS),
        loss_time=at.time,
        speed_used=word(_At.SPEED),
        speed_time=at.time,
        paused_until=word(_At.PAUSED_UNTIL),
        aside=aside,
        aside_until=aside_until,
        vault=vault,
        oracle=_address(raw[WORD * _At.ORACLE : WORD * _At.HEAD]),
    )
    return Snapshot(chain_id, at, vault, state, "0x" + raw[WORD * _At.HEAD : WORD * (_At.HEAD + 1)].hex())


def _reader(raw: bytes) -> Callable[[int], int]:
    return lambda at: _number(raw, WORD * at)


def _number(raw: bytes, at: int) -> int:
    """The word that begins at byte `at`."""
    word = raw[at : at + WORD]
    if len(word) != WORD:
        raise ChainError("lens: the node's answer is cut off")
    return int.from_bytes(word, "big")


def _list(raw: bytes, at: int, words: int = 1) -> bytes:
    """The list whose offset is word `at`, without its length, of items of so many words."""
    start = _number(raw, WORD * at)
    end = start + WORD + WORD * words * _number(raw, start)
    if end > len(raw):
        raise ChainError("lens: the node's answer is cut off")
    return raw[start + WORD : end]


def _numbers(raw: bytes) -> tuple[int, ...]:
    return tuple([int.from_bytes(raw[i : i + WORD], "big") for i in range(0, len(raw), WORD)])


@lru_cache(maxsize=4_096)  # a basket and its rules are the same from block to block
def _assets(raw: bytes) -> tuple[Asset, ...]:
    rows = [raw[i : i + 8 * WORD] for i in range(0, len(raw), 8 * WORD)]
    return tuple(Asset(_address(row[:WORD]), *_numbers(row[WORD:])) for row in rows)


@lru_cache(maxsize=4_096)
def _rules(raw: bytes) -> Rules:
    return Rules(*_numbers(raw))


@lru_cache(maxsize=4_096)
def _address(word: bytes) -> ChecksumAddress:
    return Web3.to_checksum_address(word[12:])


@lru_cache(maxsize=131_072)
def _checksummed(address: str) -> ChecksumAddress:
    return address_of(address, "vaults")
