"""From an intent to a settled transaction, journalled before each step: for what is no rebalance by the keeper's role.

plan -> eth_call -> journal -> `Dispatch.submit`, under the same dry run, kill switch, limits and nonces as a rebalance.
A run of a vault excludes every other run of it, so targets never move while a rebalance is under way.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from eth_typing import ChecksumAddress
from eth_utils.crypto import keccak
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError, Web3RPCError

from offchain.chain.sender import Sender, revert_reason
from offchain.keeper.dispatch import Dispatch, Fate
from offchain.keeper.journal import UNSENT, Run, Status

__all__ = ["Errand", "caller_of", "carry_out", "settle"]

log = structlog.get_logger("evenkeel.keeper")


@dataclass(frozen=True)
class Errand:
    """A call that is to be made for a vault, and why."""

    vault: str  # address
    chain_id: int
    block: int  # the one observed
    reason: str
    record: str  # canonical JSON of what was seen and decided
    deadline: int  # timestamp; not mined by then, the nonce is cancelled
    session: int = 0  # 0: the call is no part of one


def settle(dispatch: Dispatch, vault: str, chain_id: int) -> tuple[Run, Fate] | None:
    """Close every unfinished run of the vault; the one whose transaction is still open, if there is one."""
    dispatch.reopen(vault, chain_id)
    for run in dispatch.journal.unfinished(vault, chain_id):
        if run.status in UNSENT:
            dispatch.give_up(run)
            continue
        fate = dispatch.follow(run)
        if fate.status in (Status.SENT, Status.MINED):
            log.warning("waiting", vault=vault, tx_hash=fate.tx_hash, reason=fate.reason)
            dispatch.tend(chain_id)  # perhaps it waits for a nonce before its own
            return run, fate
    dispatch.tend(chain_id)
    return None


def carry_out(
    dispatch: Dispatch, errand: Errand, call: ContractFunction, caller: ChecksumAddress | None
) -> Fate:
    """Make the call, and follow it for as long as the sender waits. BusyError while another run of the vault is open.

    PLANNED: without a caller it is not even simulated. SIMULATED: nothing is sent, by the settings.
    """
    journal, sender = dispatch.journal, dispatch.sender
    run = journal.plan(
        errand.vault,
        errand.chain_id,
        errand.block,
        errand.session,
        errand.reason,
        "0x" + keccak(text=errand.record).hex(),
        errand.record,
        errand.deadline,
    )
    log.info("planned", vault=errand.vault, call=call.fn_name, reason=errand.reason)
    if caller is None:
        reason = "not simulated and not sent: no keystore and no simulate_as is named"
        journal.dry(run, reason)
        return Fate(Status.PLANNED, reason)
    try:
        call.call({"from": caller})
    except (ContractLogicError, Web3RPCError) as error:
        reason = f"the vault refuses in simulation: {revert_reason(error)}"
        journal.failed(run, reason)
        return Fate(Status.FAILED, reason)
    journal.simulated(run)
    if refusal := sender.refusal:
        why = refusal if refusal.startswith("kill_switch") else "dry run"
        reason = f"{why}, would act: {errand.reason}"
        journal.dry(run, reason)
        log.info("not sent", vault=errand.vault, reason=reason)
        return Fate(Status.SIMULATED, reason)
    return dispatch.submit(run, call)


def caller_of(sender: Sender, simulate_as: str | None) -> ChecksumAddress | None:
    """Whose transaction it is, or would be."""
    if sender.account is not None:
        return sender.account.address
    return None if simulate_as is None else Web3.to_checksum_address(simulate_as)
