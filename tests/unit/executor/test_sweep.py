import pytest

from tests.support.evm import DEPLOYER, Reverted


def test_pays_whole_balances_to_the_caller(executor, caller, token_a, token_b, silent_token):
    token_a.call("mint", executor.address, 5)
    silent_token.call("mint", executor.address, 7)
    tokens = [token.address for token in (token_a, token_b, silent_token, token_a)]
    executor.call("sweep", tokens, sender=caller)
    assert [token.call("balanceOf", caller) for token in (token_a, token_b)] == [5, 0]
    assert silent_token.call("held", caller) == 7
    assert token_a.call("balanceOf", executor.address) == silent_token.call("held", executor.address) == 0


def test_of_nothing_does_nothing(evm, executor, token_a, caller):
    executor.call("sweep", [], sender=caller)
    executor.call("sweep", [token_a.address], sender=caller)
    assert evm.events() == []


def test_reverts_on_a_token_without_code(executor, caller):
    with pytest.raises(Reverted, match=r"^0x$"):
        executor.call("sweep", [DEPLOYER], sender=caller)


def test_reverts_when_a_transfer_returns_false(executor, caller, silent_token):
    silent_token.call("mint", executor.address, 7)
    silent_token.call("set_weird", 2 | 512)  # FALSE_ON_FAILURE, PAUSED
    with pytest.raises(Reverted, match=r"^transfer failed$"):
        executor.call("sweep", [silent_token.address], sender=caller)
