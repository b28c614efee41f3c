import pytest

from tests.support.evm import DEPLOYER, artifact


def test_remembers_the_executor(zap, executor):
    assert zap.call("executor") == executor.address.lower()


def test_reverts_on_an_executor_without_code(evm):
    with pytest.raises(RuntimeError, match=b"executor has no code".hex()):
        evm.deploy(artifact("Zap"), DEPLOYER)
