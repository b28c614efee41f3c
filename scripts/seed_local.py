"""Fill the local chain that brownie runs with all that the demo has: tokens, feeds, Uniswap, Evenkeel, three vaults.

brownie run seed_local          on a fresh local chain
brownie run seed_local -I       the same, and stay in the console; `world` is what the script returns

Only for local chains: the accounts' keys are public.
"""

from brownie import accounts, network, web3

from offchain.chain.vault import KEEPER_ROLE
from offchain.demo.localchain import LocalChain
from offchain.demo.localchain import accounts as demo_accounts
from offchain.demo.market import history
from offchain.demo.run import VAULTS
from offchain.demo.world import World, build_world

ETHER = 10**18
FUNDS = 10  # ether for each account


def main() -> World:
    """Deploy and seed; prints where everything is."""
    if not network.main.CONFIG.network_type == "development":
        raise SystemExit(
            f"network: {network.show_active()} is not a local chain; seed_local is for local chains only"
        )
    url = web3.provider.endpoint_uri
    chain = LocalChain(web3, url, demo_accounts())
    for account in chain.accounts:
        accounts[0].transfer(account.address, FUNDS * ETHER, silent=True)
    day = history(2)[0]
    world = build_world(chain, day)
    for mode, name, symbol in VAULTS:
        vault = world.create_vault(mode, f"Evenkeel {name}", symbol, day)
        assert vault.functions.roles(world.keeper.address).call() & KEEPER_ROLE
        print(f"{name:10} {vault.address}")
    for name in ("factory", "timelock", "oracle", "executor", "zap", "auction"):
        print(f"{name:10} {getattr(world, name).address}")
    for token in world.tokens:
        print(f"{token.functions.symbol().call():10} {token.address}")
    print(f"RPC        {url}")
    return world
