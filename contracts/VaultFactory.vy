# pragma version 0.4.3
"""
@title Vault factory and registry
@license MIT
@notice Creates a vault as a minimal proxy, initialised and seeded in the same call. Anyone may create one.
"""
from ethereum.ercs import IERC20
from interfaces import IVault
from interfaces import IRuleBook


event VaultCreated:
    vault: indexed(address)
    creator: indexed(address)
    config: IVault.Config


implementation: public(immutable(address))
rule_book: public(immutable(address))
vaults: public(DynArray[address, 2**32])
is_vault: public(HashMap[address, bool])


@deploy
def __init__(implementation_: address, rule_book_: address):
    implementation = implementation_
    rule_book = rule_book_


@external
@nonreentrant
def create_vault(config: IVault.Config, seed_amounts: DynArray[uint256, 16], salt: bytes32) -> address:
    """
    @notice Create a vault and seed it with the caller's tokens: 1 share = 1 USD at the oracle's prices, 1 share dead.
    @param seed_amounts Of each asset in config's order; the caller has approved them to the factory.
    @param salt With caller and config it fixes the vault's address.
    """
    assert len(seed_amounts) == len(config.assets), "wrong length"
    words: DynArray[uint256, 16] = []
    for asset: IVault.Asset in config.assets:
        words.append(staticcall IRuleBook(rule_book).pack_asset(asset))
    rules: uint256 = staticcall IRuleBook(rule_book).pack_rules(config.rules, words)
    config_hash: bytes32 = keccak256(abi_encode(config))
    vault: address = create_minimal_proxy_to(
        implementation, salt=keccak256(abi_encode(msg.sender, salt, config_hash))
    )
    self.is_vault[vault] = True
    self.vaults.append(vault)
    log VaultCreated(vault=vault, creator=msg.sender, config=config)
    # a token that is called here cannot use the vault: nothing mints before `initialize`, which succeeds only once
    held: DynArray[uint256, 16] = []
    for i: uint256 in range(len(seed_amounts), bound=16):
        held.append(self._seed(config.assets[i].token, vault, seed_amounts[i]))
    # a token that takes the seed back, or two tokens that move one balance
    for i: uint256 in range(len(held), bound=16):
        assert staticcall IERC20(config.assets[i].token).balanceOf(vault) == held[i], "seed did not stay"
    extcall IVault(vault).initialize(
        IVault.Setup(
            name=config.name,
            symbol=config.symbol,
            settings=IVault.Settings(
                words=words,
                rules=rules,
                session=staticcall IRuleBook(rule_book).first_session(rules),
                loss=0,
                speed=0,
                oracle=config.oracle,
                paused_until=0,
            ),
            owner=config.owner,
            delay_seconds=config.delay_seconds,
            guardian=config.guardian,
            strategist=config.strategist,
            keepers=config.keepers,
            fee_bps=config.fee_bps,
            fee_recipient=config.fee_recipient,
            config_hash=config_hash,
        ),
        msg.sender,
    )
    return vault


@external
@view
def vault_count() -> uint256:
    return len(self.vaults)


@internal
def _seed(token: address, vault: address, amount: uint256) -> uint256:
    """
    @dev Some of every asset, so that each is seen to move and to arrive whole.
    @return What the vault then holds.
    """
    assert amount > 0, "no seed of an asset"
    before: uint256 = staticcall IERC20(token).balanceOf(vault)
    assert extcall IERC20(token).transferFrom(msg.sender, vault, amount, default_return_value=True), "transfer failed"
    held: uint256 = staticcall IERC20(token).balanceOf(vault)
    assert held >= before + amount, "received less than asked"
    return held
