"""What the oracle's tests share: accounts, settings, a clock to wait by, and hostile answers."""

from dataclasses import dataclass
from typing import Any

import pyrevm
from eth_abi import encode

from tests.support.evm import DEPLOYER, Contract, Evm, Reverted, artifact
from tests.support.venue import call_data

OK, NO_FEED, CALL_FAILED, BAD_ANSWER, BAD_ROUND, STALE, SEQUENCER_DOWN, DEVIATES, NO_SECOND_SOURCE = range(9)
WAD = 10**18
DAY = 86_400
START = 1_700_000_000
DELAY = 2 * DAY
EXPIRY = 14 * DAY
HEARTBEAT = 30 * DAY  # the widest, so that a delay that passes does not make prices stale
MIN, MAX = WAD, 1_000 * WAD  # bounds
WIDEST = 34_028_236 * 10**31  # 2**128 - 1 in eight digits, rounded down
WINDOW = 1_800  # seconds
DEVIATION = 100  # bps
ZERO = "0x" + "00" * 20
OWNER = DEPLOYER
GUARDIAN, STRANGER, NEW_OWNER, NEW_GUARDIAN = ("0x" + f"{n:02x}" * 20 for n in range(0xA1, 0xA5))
BAD_MODES = {"reverts": 1, "burns all gas": 2, "answers 64,000 bytes": 3, "reverts with an answer": 4}


@dataclass
class Desk:
    """An oracle, and how its owner works."""

    evm: Evm
    oracle: Contract

    def wait(self, seconds: int) -> None:
        self.evm.set_time(self.evm.now + seconds)

    def data(self, name: str, *args: Any) -> bytes:
        return call_data(self.oracle, name, *args)

    def change(self, name: str, *args: Any) -> None:
        """Queue a change, wait and make it."""
        data = self.data(name, *args)
        self.oracle.call("queue", data, sender=OWNER)
        self.wait(DELAY)
        self.oracle.call("execute", data, sender=OWNER)

    def token(self, decimals: int = 18) -> Contract:
        return self.evm.deploy(artifact("TestToken"), "Token", "TKN", decimals)

    def feed(self, answer: int = 100 * 10**8, decimals: int = 8) -> Contract:
        return self.evm.deploy(artifact("TestFeed"), decimals, "X / USD", answer)

    def erase(self, contract: Contract) -> None:
        """Leave no code where it was."""
        self.evm._evm.insert_account_info(contract.address, pyrevm.AccountInfo())

    def price(self, asset: str) -> tuple[int, int]:
        """Price and status of one asset."""
        prices, statuses = self.oracle.call("prices", [asset])
        assert len(prices) == len(statuses) == 1
        assert prices[0] > 0 if statuses[0] == OK else prices[0] == 0
        return prices[0], statuses[0]

    def status(self, asset: str) -> int:
        return self.price(asset)[1]


def open_desk(sequencer_feed: str = ZERO, grace_seconds: int = 0, evm: Evm | None = None) -> Desk:
    evm = evm or Evm(START)
    return Desk(evm, evm.deploy(artifact("PriceOracle"), GUARDIAN, DELAY, sequencer_feed, grace_seconds))


def round_data(now: int, answer: int = 100 * 10**8, round_id: int = 1, answered_in_round: int = 1) -> bytes:
    """What `latestRoundData` returns, in words of full width."""
    return encode(
        ["uint256", "int256", "uint256", "uint256", "uint256"],
        [round_id, answer, now, now, answered_in_round],
    )


def observed(then: int, now: int) -> bytes:
    """What `observe` returns for two tick cumulatives, in words of full width."""
    return encode(["int256[]", "uint256[]"], [[then, now], [0, 0]])


def deploy_reason(evm: Evm, *args: Any) -> str:
    """Why the oracle's constructor reverts."""
    try:
        evm.deploy(artifact("PriceOracle"), *args)
    except Reverted as error:
        return error.reason
    except RuntimeError as error:
        text = str(error)
        start = text.index("0x08c379a0")
        return Reverted(bytes.fromhex(text[start + 2 :].split()[0].rstrip('")}'))).reason
    return "nothing"
