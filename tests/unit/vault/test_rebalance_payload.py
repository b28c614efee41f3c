"""rebalance(): a payload may be as long as the executor takes."""

from tests.support.venue import call_data
from tests.unit.stage import ON_TARGET, Stage

CALL, HEADER_SIZE, MAX_PAYLOAD = 0, 23, 8_192  # bytes


def test_takes_a_payload_of_8192_bytes(stage: Stage) -> None:
    """One call that sets the balances, with zeros behind its arguments."""
    executor = stage.deploy("Executor")
    tokens = [token.address for token in stage.tokens]
    data = call_data(stage.executor, "set_balances", stage.vault.address, tokens, ON_TARGET)
    data = data.ljust(MAX_PAYLOAD - HEADER_SIZE, b"\0")
    header = bytes([CALL]) + bytes.fromhex(stage.executor.address[2:]) + len(data).to_bytes(2, "big")
    stage.rebalance(ON_TARGET, executor=executor.address, payload=header + data)
    assert stage.balances() == ON_TARGET
