"""Code put in place by hand: it notices with how much gas it is called, or answers everybody the same."""

from __future__ import annotations

import pyrevm

from tests.support.evm import DEPLOYER, Contract, Evm

ASK = b"\x5a"  # GAS
ASK_COST = 2
BASE_COST, ZERO_BYTE, OTHER_BYTE = 21_000, 4, 16  # of a transaction


def needs_gas(evm: Evm, contract: Contract, gas: int, answer: bytes) -> None:
    """From now on what is at the contract's address answers a call with exactly so much gas, and reverts else."""
    wanted = (gas - ASK_COST).to_bytes(3, "big")
    refusal = b"\x60\x00\x60\x00\xfd"  # REVERT(0, 0)
    _put(evm, contract, ASK + b"\x62" + wanted + b"\x14\x60\x0e\x57" + refusal + b"\x5b", answer)


def tells_gas(evm: Evm, contract: Contract, answer: bytes, place: int) -> None:
    """From now on it answers with the gas that it is called with in the word at `place`, less ASK_COST."""
    _put(evm, contract, ASK, answer, b"\x61" + place.to_bytes(2, "big") + b"\x52")  # MSTORE


def answers(evm: Evm, contract: Contract, answer: bytes) -> None:
    """From now on it answers this, whatever it is asked."""
    _put(evm, contract, b"", answer)


def call_with(evm: Evm, contract: Contract, data: bytes, gas: int) -> bytes:
    """A call that has exactly so much gas when it begins."""
    paid = BASE_COST + sum(OTHER_BYTE if byte else ZERO_BYTE for byte in data)
    return bytes(evm._evm.message_call(DEPLOYER, contract.address, data, gas=gas + paid))


def _put(evm: Evm, contract: Contract, head: bytes, answer: bytes, change: bytes = b"") -> None:
    size = b"\x61" + len(answer).to_bytes(2, "big")
    start = len(head) + 9 + len(change) + 6
    copy = size + b"\x61" + start.to_bytes(2, "big") + b"\x60\x00\x39"  # CODECOPY(0, start, size)
    code = head + copy + change + size + b"\x60\x00\xf3" + answer  # RETURN(0, size)
    evm._evm.insert_account_info(contract.address, pyrevm.AccountInfo(code=code))
