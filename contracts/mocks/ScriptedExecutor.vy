# pragma version 0.4.3
# @license MIT
"""
@title ScriptedExecutor
@notice Leaves its caller with exactly the balances of ScriptedTokens that the payload names; for tests only.
"""

interface ScriptedToken:
    def set_balance(account: address, amount: uint256): nonpayable


@external
def execute(payload: Bytes[8192]) -> bytes4:
    """
    @param payload abi_encode(address[] tokens, uint256[] balances, bool answer); it answers wrongly if told so
    """
    tokens: DynArray[address, 16] = []
    balances: DynArray[uint256, 16] = []
    answer: bool = False
    tokens, balances, answer = abi_decode(
        payload, (DynArray[address, 16], DynArray[uint256, 16], bool)
    )
    self._set_balances(msg.sender, tokens, balances)
    if not answer:
        return 0x00000000
    return method_id("execute(bytes)", output_type=bytes4)


@external
def set_balances(account: address, tokens: DynArray[address, 16], balances: DynArray[uint256, 16]):
    """
    @notice Arrange the holdings of `account` in one call.
    """
    self._set_balances(account, tokens, balances)


@internal
def _set_balances(account: address, tokens: DynArray[address, 16], balances: DynArray[uint256, 16]):
    for i: uint256 in range(len(tokens), bound=16):
        extcall ScriptedToken(tokens[i]).set_balance(account, balances[i])
