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
    assert config.owner != empty(address), "no owner"
    assert len(seed_amounts) == len(config.assets), "wrong length"
    words: DynArray[uint256, 16] = staticcall IRuleBook(rule_book).pack_assets(config.assets)
    rules: uint256 = staticcall IRuleBook(rule_book).pack_rules(config.rules, words)
    config_hash: bytes32 = keccak256(abi_encode(config))
    for i: uint256 in range(len(seed_amounts), bound=16):
        self._pull(config.assets[i].token, seed_amounts[i])

    # only now; should a token's `approve` initialise the vault before we do, `initialize` below reverts it all
    vault: address = create_minimal_proxy_to(
        implementation, salt=keccak256(abi_encode(msg.sender, salt, config_hash))
    )
    for i: uint256 in range(len(seed_amounts), bound=16):
        if seed_amounts[i] > 0:
            assert extcall IERC20(config.assets[i].token).approve(
                vault, seed_amounts[i], default_return_value=True
            ), "approve failed"
    self.is_vault[vault] = True
    self.vaults.append(vault)
    log VaultCreated(vault=vault, creator=msg.sender, config=config)
    extcall IVault(vault).initialize(
        IVault.Setup(
            name=config.name,
            symbol=config.symbol,
            words=words,
            rules=rules,
            oracle=config.oracle,
            owner=config.owner,
            guardian=config.guardian,
            strategist=config.strategist,
            keeper=config.keeper,
            fee_bps=config.fee_bps,
            fee_recipient=config.fee_recipient,
            config_hash=config_hash,
        ),
        seed_amounts,
        msg.sender,
    )
    return vault


@external
@view
def vault_count() -> uint256:
    return len(self.vaults)


@internal
def _pull(token: address, amount: uint256):
    if amount == 0:
        return
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transferFrom(msg.sender, self, amount, default_return_value=True), "transfer failed"
    assert staticcall IERC20(token).balanceOf(self) >= before + amount, "received less than asked"
