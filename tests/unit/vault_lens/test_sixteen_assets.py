"""`states` of as many assets as a vault may have."""

from tests.support.world import World


def test_of_a_vault_with_sixteen_assets() -> None:
    world = World((625,) * 16)
    readable, (state,) = world.deploy("VaultLens").call("states", [world.vault.address])
    assert readable == (True,)
    assert [len(field) for field in state[1:5]] == [16] * 4
    assert [asset[0] for asset in state[1]] == [token.address.lower() for token in world.tokens]
    assert list(state[2]) == world.seed
