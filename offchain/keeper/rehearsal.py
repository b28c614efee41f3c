"""What `evenkeel plan` asks the node: in whose name, whether the vault would accept the plan, what venues offer.

Nothing is signed or sent, and no password is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace

from web3 import Web3
from web3.exceptions import ContractLogicError, Web3RPCError

from offchain.aggregators import AggregatedPlan, ask, requests_for, venues
from offchain.chain.contracts import address_of, bind
from offchain.chain.errors import ConfigError
from offchain.chain.events import BLOCKS_PER_REQUEST
from offchain.chain.pools import PoolSource
from offchain.chain.sender import Sender, is_revert, revert_reason
from offchain.chain.vault import KEEPER_ROLE, Snapshot
from offchain.keeper.journal import Journal
from offchain.keeper.loop import Keeper
from offchain.keeper.preview import Preview, Venues
from offchain.planner import Plan, Problem
from offchain.settings import Settings

__all__ = ["Simulation", "caller_of", "known_keeper", "simulate", "venues_of"]


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the vault says to the plan in an eth_call at the block that was read."""

    caller: str
    refusal: str = ""  # the revert string; "": accepted
    gas: int | None = None  # the node's estimate


def caller_of(settings: Settings) -> str | None:
    """The keeper's address, without any secret: `simulate_as`, or what the keystore says of itself in the clear."""
    if settings.simulate_as is not None:
        return settings.simulate_as
    if settings.keystore is None:
        return None
    try:
        content = json.loads(settings.keystore.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"keystore: cannot read {settings.keystore}: {error}") from None
    address = content.get("address") if isinstance(content, dict) else None
    return address_of(f"0x{str(address).removeprefix('0x')}", "keystore") if address else None


def venues_of(web3: Web3, snapshot: Snapshot, settings: Settings, caller: str) -> Venues | None:
    """Ask the venues of the settings and choose as the keeper does; None where none are named."""
    if not settings.aggregators or settings.executor is None:
        return None
    timeout = settings.aggregator_timeout_seconds
    asked = venues(settings.aggregators, settings.aggregator_urls, timeout)
    keeper = Keeper(
        web3=web3,
        vault=snapshot.vault,
        executor=settings.executor,
        hub="",
        pools=PoolSource(),
        sender=Sender(web3),
        journal=Journal(":memory:"),
        simulate_as=caller,
        venues=asked,
        quote_seconds=timeout,
        quote_margin_bps=settings.aggregator_margin_bps,
    )

    def best(problem: Problem, own: Plan, possible: bool) -> Plan:
        if possible:
            return replace(keeper, planner=lambda _: own).best_route(snapshot, problem)
        quotes = ask(asked, requests_for(problem, own, snapshot.chain_id, caller), timeout)
        same_plan = {field.name: getattr(own, field.name) for field in fields(own)}
        return AggregatedPlan(
            **same_plan, quotes=quotes, choice="own route: quotes are tried only when a session can open"
        )

    return best


def known_keeper(web3: Web3, snapshot: Snapshot) -> str | None:
    """The last account that rebalanced the vault in the last blocks, if it still has the role."""
    vault, last = bind(web3, "Vault", snapshot.vault), snapshot.block.number
    first = max(last - BLOCKS_PER_REQUEST + 1, 0)
    try:
        logs = vault.events.Rebalanced().get_logs(from_block=first, to_block=last)
    except Web3RPCError:  # some nodes keep no logs
        return None
    keepers = [str(log["args"]["keeper"]) for log in logs[-1:]]
    return next((k for k in keepers if vault.functions.roles(k).call() & KEEPER_ROLE), None)


def simulate(web3: Web3, found: Preview, caller: str, deadline_seconds: int = 600) -> Simulation:
    """Ask the vault, at the block that was read; what it would say to a plan that is not for now, too."""
    plan, block = found.plan, found.snapshot.block
    call = bind(web3, "Vault", found.snapshot.vault).functions.rebalance(
        list(plan.sells),
        Web3.to_checksum_address(found.problem.executor),
        plan.payload,
        bytes(32),
        plan.session,
        block.time + deadline_seconds,
    )
    sender = Web3.to_checksum_address(caller)
    try:
        call.call({"from": sender}, block_identifier=block.number)
        return Simulation(caller, gas=call.estimate_gas({"from": sender}, block_identifier=block.number))
    except (ContractLogicError, Web3RPCError) as error:
        if isinstance(error, Web3RPCError) and not is_revert(error):
            raise
        return Simulation(caller, revert_reason(error) or "reverted without a reason")
