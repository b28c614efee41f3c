# pragma version 0.4.3
# @license MIT
"""
@title Queued changes
@notice A change is a call (`data`) that concerns a `subject`. It is announced, waits out its delay, may then be made
        for 14 days, and may be cancelled until it is made. One change at a time waits under one (subject, data).
        Who may queue, make and cancel, and how long the delay is, the importer decides.
"""

event Queued:
    id: indexed(bytes32)
    subject: indexed(address)
    ready_at: uint256
    data: Bytes[MAX_DATA]

event Executed:
    id: indexed(bytes32)

event Cancelled:
    id: indexed(bytes32)
    by: indexed(address)


MAX_DATA: constant(uint256) = 4096  # bytes
EXPIRY: constant(uint256) = 14 * 86400  # seconds after it is ready

ready_at: public(HashMap[bytes32, uint256])  # by id; 0: not queued


@internal
def _queue(subject: address, data: Bytes[MAX_DATA], delay_seconds: uint256) -> bytes32:
    """
    @notice Announce a change. One that has expired may be announced again.
    """
    id: bytes32 = self._id(subject, data)
    before: uint256 = self.ready_at[id]
    assert before == 0 or block.timestamp > before + EXPIRY, "already queued"
    ready: uint256 = block.timestamp + delay_seconds
    self.ready_at[id] = ready
    log Queued(id=id, subject=subject, ready_at=ready, data=data)
    return id


@internal
def _take(subject: address, data: Bytes[MAX_DATA]) -> bytes32:
    """
    @notice Take a ready change out of the queue. The importer makes it in the same call.
    """
    id: bytes32 = self._id(subject, data)
    ready: uint256 = self.ready_at[id]
    assert ready > 0, "not queued"
    assert block.timestamp >= ready, "not ready"
    assert block.timestamp <= ready + EXPIRY, "expired"
    self.ready_at[id] = 0
    log Executed(id=id)
    return id


@internal
def _cancel(subject: address, data: Bytes[MAX_DATA]) -> bytes32:
    """
    @notice Drop a queued change, ready or expired or neither.
    """
    id: bytes32 = self._id(subject, data)
    assert self.ready_at[id] > 0, "not queued"
    self.ready_at[id] = 0
    log Cancelled(id=id, by=msg.sender)
    return id


@internal
@pure
def _id(subject: address, data: Bytes[MAX_DATA]) -> bytes32:
    return keccak256(abi_encode(subject, data))
