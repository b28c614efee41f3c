"""`states` of as many assets as a vault may have, and of who says that it has more."""

from __future__ import annotations

import pyrevm
import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.support.evm import Contract, artifact
from tests.support.world import World

ASSET = "(address,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"
SETTINGS = "(uint256[],uint256,uint256,uint256,uint256,address,uint256)"


def test_of_a_vault_with_sixteen_assets() -> None:
    world = World((625,) * 16)
    readable, (state,) = world.deploy("VaultLens").call("states", [world.vault.address])
    assert readable == (True,)
    assert [len(field) for field in state[1:5]] == [16] * 4
    assert [asset[0] for asset in state[1]] == [token.address.lower() for token in world.tokens]
    assert list(state[2]) == world.seed


def replies(contract: Contract, by_name: dict[str, bytes]) -> None:
    """Its code is another from now on: to each of these functions a fixed reply, to all others 32 zero words."""
    head = b"\x60\x00\x35\x60\xe0\x1c"  # the selector: CALLDATALOAD(0) >> 224
    end = len(head) + 28 * len(by_name)
    zeros = bytes(32 * 32)
    code, data = head, zeros
    for signature, reply in by_name.items():
        following = (len(code) + 27).to_bytes(2, "big")
        code += b"\x80\x63" + keccak(text=signature)[:4] + b"\x14\x15\x61" + following + b"\x57"
        code += answer(len(reply), end + 15 + len(data)) + b"\x5b"
        data += reply
    assert len(code) == end
    code += answer(len(zeros), end + 15)
    contract.evm._evm.insert_account_info(contract.address, pyrevm.AccountInfo(code=code + data))


def answer(size: int, start: int) -> bytes:
    """CODECOPY(0, start, size) and RETURN(0, size): 15 bytes."""
    length = b"\x61" + size.to_bytes(2, "big")
    return length + b"\x61" + start.to_bytes(2, "big") + b"\x60\x00\x39" + length + b"\x60\x00\xf3"


@pytest.mark.parametrize(("count", "is_readable"), [(16, True), (17, False)])
def test_who_says_it_has_seventeen_is_no_vault(count: int, is_readable: bool) -> None:
    world = World()
    token = world.tokens[0].address
    vault, oracle = (world.deploy("ScriptedPool", token, token) for _ in "12")
    replies(oracle, {"prices(address[])": encode(["uint256[]", "uint256[]"], [[], []])})
    basket = encode([ASSET + "[]"], [[(token, *[0] * 7)] * count])
    settings = encode([SETTINGS], [([], 0, 0, 0, 0, oracle.address, 0)])
    replies(vault, {"basket()": basket, "settings()": settings})
    lens = world.evm.deploy(artifact("VaultLens"))
    readable, states = lens.call("states", [vault.address])
    assert readable == (is_readable,)
    assert len(states[0][1]) == (count if is_readable else 0)
