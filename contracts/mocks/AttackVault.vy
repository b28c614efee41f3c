# pragma version 0.4.3
# @license MIT
"""
@title AttackVault
@notice Pretends to be a vault: registers with a Timelock under an admin of its choice, says that everybody holds every
        role, shows the settings of a real vault, and whenever the Timelock changes it, makes the call that a test
        chose. For tests only.
"""
from interfaces import ITimelock
from interfaces import IVault


ALL_ROLES: constant(uint256) = 7

model: public(address)  # the real vault
target: address
data: Bytes[4096]
calls: public(uint256)  # made
succeeded: public(bool)  # the last one


@external
def register(timelock: address, model: address, delay_seconds: uint256):
    """
    @notice The caller becomes the admin.
    """
    self.model = model
    extcall ITimelock(timelock).register(msg.sender, delay_seconds)


@external
def set_call(target: address, data: Bytes[4096]):
    self.target = target
    self.data = data


# What the Timelock asks a vault, and does to it


@external
@view
def roles(account: address) -> uint256:
    return ALL_ROLES


@external
@view
def fee_bps() -> uint256:
    return 300


@external
@view
def fee_recipient() -> address:
    return self


@external
@view
def settings() -> IVault.Settings:
    return staticcall IVault(self.model).settings()


@external
def configure(name: String[20], data: Bytes[1184], settings: IVault.Settings):
    self._strike()


@external
def set_role(account: address, roles: uint256):
    self._strike()


@external
def set_fee(fee_bps: uint256, fee_recipient: address):
    self._strike()


@internal
def _strike():
    self.calls += 1
    self.succeeded = raw_call(self.target, self.data, revert_on_failure=False)
