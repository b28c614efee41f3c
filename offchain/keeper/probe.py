"""What a keeper process asks of the node and the database between its looks, for those who look at it from outside.

Asked now and then and remembered, so that a scrape or a health check never waits for a node and never costs a request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.engine import Engine
from web3 import Web3

from offchain.chain.contracts import ZERO, bind, bind_abi
from offchain.chain.errors import TransactionError
from offchain.chain.sender import Sender
from offchain.chain.vault import latest_block, symbols
from offchain.keeper.overview import answers
from offchain.keeper.watch import AccountSeen, Facts, NodeSeen, PriceSeen, Watch, plain

__all__ = ["Probe"]

MOST_FEEDS = 64  # read in one probe; of more, the next ones in the next probe
NAME_LENGTH = 12  # characters; a token may call itself anything
FEED: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": "latestRoundData",
        "stateMutability": "view",
        "inputs": [],
        "outputs": [
            {"name": "", "type": kind} for kind in ("uint80", "int256", "uint256", "uint256", "uint80")
        ],
    }
]

log = structlog.get_logger("evenkeel.keeper")


@dataclass
class Probe:
    """Asks, and tells the watch."""

    watch: Watch
    web3: Web3
    sender: Sender
    engine: Engine
    prices: bool = True  # also when the feeds last spoke, and the tokens' names
    _feeds: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # address, heartbeat
    _next: int = 0

    def ask(self) -> None:
        """Once; never raises."""
        try:
            self.watch.note(
                database=answers(self.engine),
                kill_switch=_kill_switch(self.sender),
                sends=self.sender.sends,
            )
            status = getattr(self.web3.provider, "status", None)
            if status is not None:
                self.watch.note(endpoints=status())
            self.watch.note(node=self._node())
            self._account()
            if self.prices:
                self._prices(self.watch.facts())
        except Exception as error:
            # What a node's client says may hold the node's address, and that a key.
            log.warning("probe failed", kind=type(error).__name__)

    def _node(self) -> NodeSeen:
        try:
            block = latest_block(self.web3)
            return NodeSeen(True, self.web3.eth.chain_id, block.number, block.time, self._gas_price())
        except Exception:
            return NodeSeen(False)

    def _gas_price(self) -> int | None:
        try:
            return self.sender.fees().most
        except TransactionError:
            return self.sender.max_fee_wei

    def _account(self) -> None:
        if self.sender.account is None:
            return
        node = self.watch.facts().node
        if node is None or node.chain_id is None:
            return
        address = self.sender.account.address
        self.watch.note(account=AccountSeen(node.chain_id, address, int(self.web3.eth.get_balance(address))))

    def _prices(self, facts: Facts) -> None:
        """When the feeds of the vaults' assets last spoke, and what the tokens call themselves."""
        wanted = list(
            dict.fromkeys(
                (seen.snapshot.state.oracle, asset.token)
                for seen in facts.vaults
                if seen.snapshot is not None and seen.snapshot.state.oracle
                for asset in seen.snapshot.state.assets
            )
        )
        if not wanted:
            return
        start = self._next % len(wanted)
        turn = (wanted[start:] + wanted[:start])[:MOST_FEEDS]
        self._next = start + len(turn)
        for oracle, token in turn:
            if token not in facts.names:
                self.watch.note(
                    names={token: plain(symbols(self.web3, [token])[0], NAME_LENGTH) or token[:8]}
                )
            if (found := self._price(oracle, token)) is not None:
                self.watch.note(prices={(oracle, token): found})

    def _price(self, oracle: str, token: str) -> PriceSeen | None:
        """None where the asset has no feed, or the feed does not answer: the oracle's status says so too."""
        try:
            if (oracle, token) not in self._feeds:
                said = bind(self.web3, "PriceOracle", oracle).functions.feeds(token).call()
                self._feeds[oracle, token] = (str(said[0]), int(said[2]))
            feed, heartbeat = self._feeds[oracle, token]
            if feed == ZERO:
                return None
            updated = int(bind_abi(self.web3, FEED, feed).functions.latestRoundData().call()[3])
        except Exception:
            self._feeds.pop((oracle, token), None)
            return None
        return PriceSeen(updated, heartbeat)


def _kill_switch(sender: Sender) -> str:
    """The file, while it exists or cannot be looked at, as the sender sees it: in a dry run and without a key too."""
    path = sender.kill_switch
    try:
        if path is not None:
            path.lstat()
    except FileNotFoundError:
        return ""
    except OSError:
        pass
    return str(path or "")
