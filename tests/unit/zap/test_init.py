from brownie import reverts


def test_remembers_the_executor(zap, executor):
    assert zap.executor() == executor


def test_reverts_on_an_executor_without_code(Zap, deployer, depositor):
    with reverts("executor has no code"):
        deployer.deploy(Zap, depositor)
