# pragma version 0.4.3
# @license MIT
"""
@title Two-step ownership
@notice The deployer owns first. A transfer takes effect only when the new owner accepts it, so that ownership cannot
        go to an address that nobody controls.
"""

event OwnershipTransferStarted:
    previous_owner: indexed(address)
    new_owner: indexed(address)

event OwnershipTransferred:
    previous_owner: indexed(address)
    new_owner: indexed(address)


owner: public(address)
pending_owner: public(address)


@deploy
def __init__():
    self._transfer_ownership(msg.sender)


@external
def transfer_ownership(new_owner: address):
    """
    @notice Offer ownership to `new_owner`; the zero address withdraws an offer.
    """
    self._check_owner()
    self.pending_owner = new_owner
    log OwnershipTransferStarted(previous_owner=self.owner, new_owner=new_owner)


@external
def accept_ownership():
    """
    @notice Take the ownership that was offered to the caller.
    """
    assert msg.sender == self.pending_owner, "not pending owner"
    self._transfer_ownership(msg.sender)


@internal
@view
def _check_owner():
    assert msg.sender == self.owner, "not owner"


@internal
def _transfer_ownership(new_owner: address):
    previous_owner: address = self.owner
    self.owner = new_owner
    self.pending_owner = empty(address)
    log OwnershipTransferred(previous_owner=previous_owner, new_owner=new_owner)
