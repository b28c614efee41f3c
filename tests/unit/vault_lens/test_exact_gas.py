"""What a vault and a token get to answer with."""

from eth_abi import decode, encode

from tests.support.evm import Function
from tests.support.venue import call_data
from tests.support.world import WAD, World
from tests.unit.exact_gas import ASK_COST, call_with, needs_gas, tells_gas

STATE_GAS, BALANCE_GAS = 10_000_000, 200_000
FIRST_PRICE = 96  # the byte where it begins in what an oracle answers


def test_a_token_gets_200_000() -> None:
    world = World()
    lens = world.deploy("VaultLens")
    needs_gas(world.evm, world.tokens[0], BALANCE_GAS, (123).to_bytes(32, "big"))
    state = lens.call("state", world.vault.address)
    assert (state[2][0], state[5]) == (123, 0)


def test_a_vault_gets_10_000_000() -> None:
    """The oracle that is asked for its prices sees as much as where the state is read with so much gas."""
    world = World()
    lens = world.deploy("VaultLens")
    answer = encode(["uint256[]", "uint256[]"], [[WAD] * 3, [0] * 3])
    tells_gas(world.evm, world.oracle, answer, FIRST_PRICE)
    readable, states = lens.call("states", [world.vault.address])
    assert readable == (True,)
    seen = states[0][3][0]
    assert STATE_GAS * 9 // 10 < seen + ASK_COST < STATE_GAS
    alone = call_with(world.evm, lens, call_data(lens, "state", world.vault.address), STATE_GAS)
    assert alone.count(seen.to_bytes(32, "big")) == 1
    less = call_with(world.evm, lens, call_data(lens, "state", world.vault.address), STATE_GAS - 1)
    assert less.count(seen.to_bytes(32, "big")) == 0


def test_the_last_of_many_vaults_gets_10_000_000_too_or_the_call_reverts() -> None:
    """The oracle's answer tells the gas that it saw: less of it must never look like another state."""
    world = World()
    lens = world.deploy("VaultLens")
    answer = encode(["uint256[]", "uint256[]"], [[WAD] * 3, [0] * 3])
    tells_gas(world.evm, world.oracle, answer, FIRST_PRICE)
    states = Function(next(entry for entry in lens.abi if entry["name"] == "states"))
    data = call_data(lens, "states", [world.vault.address] * 3)
    seen, refusals = [], set()
    for gas in range(9_000_000, 16_000_000, 100_000):
        try:
            output = call_with(world.evm, lens, data, gas)
        except RuntimeError as refusal:
            refusals.add(b"too little gas".hex() in str(refusal))
            continue
        _, found = decode(states.outputs, output)
        seen += [state[3][0] for state in found]
    assert refusals == {True}
    assert len(seen) > 3 and len(seen) % 3 == 0
    assert min(seen) + ASK_COST > STATE_GAS * 9 // 10
