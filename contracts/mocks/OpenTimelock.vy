# pragma version 0.4.3
# @license MIT
"""
@title OpenTimelock
@notice A vault's timelock without rules: it makes any call for anyone; for tests only.
"""

event Registered:
    vault: indexed(address)
    admin: indexed(address)
    delay_seconds: uint256


@external
def register(admin: address, delay_seconds: uint256):
    log Registered(vault=msg.sender, admin=admin, delay_seconds=delay_seconds)


@external
def forward(target: address, data: Bytes[4096]):
    raw_call(target, data)
