from brownie import reverts


def test_pays_whole_balances_to_the_caller(executor, caller, token_a, token_b, silent_token, deployer):
    token_a.mint(executor, 5, {"from": deployer})
    silent_token.mint(executor, 7, {"from": deployer})
    executor.sweep([token_a, token_b, silent_token, token_a], {"from": caller})
    assert [token.balanceOf(caller) for token in (token_a, token_b, silent_token)] == [5, 0, 7]
    assert [token.balanceOf(executor) for token in (token_a, token_b, silent_token)] == [0, 0, 0]


def test_of_nothing_does_nothing(executor, caller):
    assert len(executor.sweep([], {"from": caller}).events) == 0


def test_reverts_on_a_token_without_code(executor, caller, deployer):
    with reverts():
        executor.sweep([deployer], {"from": caller})
