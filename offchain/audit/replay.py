"""A vault rebuilt from its events, every step checked against the rules of its time. Pure.

`Replay.feed(event)` takes the events one by one, in the chain's order, and raises an `AuditBreak` at the first that
cannot be. What the chain stores is kept exactly: rules, session, loss and speed budgets, roles, the share ledger.
Balances are what entries and flows say. Where they say something else than what was there, tokens came (a donation, a
rebase) or went without an event of the vault: a `Residual`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from offchain import policy
from offchain.audit.chain import AuditBreak, Created, Position, Rebalanced, RuleChanged, SessionOpened
from offchain.audit.history import (
    MAX_ASSETS,
    AnyEvent,
    Flow,
    History,
    Issued,
    MintedInKind,
    RedeemedInKind,
    Released,
    SessionClosed,
    SharesMinted,
    parse_config,
    with_decimals,
)
from offchain.audit.ledger import Ledger
from offchain.errors import EvenkeelError
from offchain.policy import DAY, NO_ASSET, Asset, Rules, Session, VaultState
from offchain.policy.changes import check_settings
from offchain.policy.rules import MAX_REDEEMABLE, Refused

__all__ = ["Replay", "Residual"]

KEEPER_ROLE, STRATEGIST_ROLE, GUARDIAN_ROLE = 1, 2, 4
STOP, STOP_GAP = 14 * DAY, 7 * DAY  # contracts/Timelock.vy: a pause, and from its end to the next
MAX_FEE_BPS = 300
WORD = 2**256
FIELD_OF = {  # of the entry, that a refusal is about; the others are about the outcome
    "not keeper": "keeper",
    "paused": "time",
    "wrong length": "sells",
    "executor not allowed": "executor",
    "price not usable": "prices",
    "no value": "prices",
    "wrong session": "session",
    "cooldown not over": "time",
    "no trigger": "session",
}


@dataclass(frozen=True, slots=True)
class Residual:
    """Tokens that came, or went (below 0), without an event of the vault, since the event before `position`."""

    position: Position
    token: str  # address
    amount: int  # token units


@dataclass(slots=True)
class Replay:
    """The vault after the events fed so far."""

    history: History
    rebasing: Collection[str] = ()  # tokens in lower case of which units may vanish
    state: VaultState | None = None  # prices and balances: of the last entry; supply and fee: not kept here
    ledger: Ledger = field(default_factory=Ledger)
    fee_bps: int = 0
    fee_recipient: str = ""
    roles: dict[str, int] = field(default_factory=dict)  # by account
    tellers: dict[str, int] = field(default_factory=dict)  # capacity in bps, by teller; 0: no right any more
    held: dict[str, int | None] = field(default_factory=dict)  # token units, by token; None: not known yet
    residuals: list[Residual] = field(default_factory=list)
    priced_at: Position | None = None  # the entry that the state's prices are of
    last: Position | None = None
    _birth: str = ""  # the transaction that created it
    _closed: SessionClosed | None = None
    _minted: SharesMinted | None = None

    # ------------------------------------------------------------ reading

    @property
    def vault(self) -> VaultState:
        """The state; AuditBreak before the vault was created."""
        if self.state is None:
            raise AuditBreak("kind", "the history does not start with Created: events are missing", self.last)
        return self.state

    def view(self, now: int) -> VaultState:
        """What the chain answers about the vault at `now`, prices and their statuses apart. Unknown balances are -1."""
        state, ledger = self.vault, self.ledger.current(now, self.fee_bps)
        at = replace(state, time=now)
        aside = policy.aside(at)
        balances = [self.held.get(asset.token) for asset in state.assets]
        return replace(
            at,
            balances=tuple(0 if i == aside else -1 if q is None else q for i, q in enumerate(balances)),
            supply=ledger.supply,
            pending_fee_shares=ledger.pending_fee,
            fee_bps=self.fee_bps,
            fee_accrued_at=now,
            loss_used=policy.loss_budget_used(state, now),
            loss_time=now,
            speed_used=policy.speed_budget_used(state, now),
            speed_time=now,
        )

    def copy(self) -> Replay:
        """The vault as it is now, to keep."""
        return replace(
            self, roles=dict(self.roles), tellers=dict(self.tellers), held=dict(self.held), residuals=[]
        )

    # ------------------------------------------------------------ feeding

    def feed(self, event: AnyEvent) -> None:
        """Take the next event. AuditBreak, naming its field, when it cannot be."""
        self._check_place(event.position)
        try:
            self._take(event)
        except AuditBreak:
            raise
        except (EvenkeelError, ArithmeticError, ValueError) as error:  # numbers that no chain holds
            raise AuditBreak("data", f"no vault can be in this state: {error}", event.position) from None
        self.last = event.position

    def _take(self, event: AnyEvent) -> None:
        if isinstance(event, Created):
            self._created(event)
        elif isinstance(event, SharesMinted):
            self.vault  # noqa: B018 - there must be one
            self._settle_mint()
            self._minted = event
        elif isinstance(event, SessionClosed):
            self._settle_mint()
            self._closed = event
        elif isinstance(event, MintedInKind | RedeemedInKind | Issued | Released):
            self._flowed(event)
        else:
            self._entry(event)

    def settle(self) -> None:
        """The end of a block: a mint that its next event could have explained is what it is."""
        self._settle_mint()

    def end(self) -> None:
        """No more events."""
        self.settle()
        if self._closed is not None:
            raise AuditBreak(
                "session", "SessionClosed without the rebalance that closed it", self._closed.position
            )

    def _check_place(self, at: Position) -> None:
        if self.last is None:
            return
        if (at.block, at.log_index) <= (self.last.block, self.last.log_index):
            raise AuditBreak("position", "the event is not after the one before it", at)
        same = at.block == self.last.block
        if at.time < self.last.time or (same and at.time != self.last.time):
            raise AuditBreak("time", f"block {at.block} of {at.time}, after one of {self.last.time}", at)

    def _created(self, event: Created) -> None:
        if self.state is not None:
            raise AuditBreak("kind", "a second Created event: a vault is created once", event.position)
        if keccak(self.history.config) != event.config_hash:
            raise AuditBreak(
                "config_hash", "the config is not the one that the vault was created with", event.position
            )
        config = parse_config(self.history.config, self.history.decimals)
        now, self._birth = event.position.time, event.position.transaction
        self.state = VaultState(
            assets=config.assets,
            rules=config.rules,
            session=Session(slot=policy.calendar_slot(config.rules, now)),
            balances=(0,) * len(config.assets),
            prices=(0,) * len(config.assets),
            statuses=(0,) * len(config.assets),
            supply=0,
            time=now,
            vault=to_checksum_address(event.vault),
            oracle=config.oracle,
        )
        for account, role in (
            (config.guardian, GUARDIAN_ROLE),
            (config.strategist, STRATEGIST_ROLE),
            *((keeper, KEEPER_ROLE) for keeper in config.keepers),
        ):
            self.roles[account] = self.roles.get(account, 0) | role
        self.ledger = Ledger(day=now // DAY)
        self.fee_bps, self.fee_recipient = config.fee_bps, config.fee_recipient
        seed = self.history.seed or (None,) * len(config.assets)
        self.held = {a.token: units for a, units in zip(config.assets, seed, strict=True)}

    # ------------------------------------------------------------ shares

    def _settle_mint(self, flow: Flow | None = None) -> None:
        """A mint that no flow explains is the seed's, in the vault's first transaction, or a collected fee."""
        mint, self._minted = self._minted, None
        if mint is None:
            if isinstance(flow, MintedInKind | Issued):
                raise AuditBreak("shares", "no shares were minted for this flow", flow.position)
            return
        if isinstance(flow, MintedInKind | Issued) and mint.position.transaction == flow.position.transaction:
            if (mint.receiver, mint.shares) != (flow.receiver, flow.shares):
                raise AuditBreak(
                    "shares", f"{flow.shares} in the flow, {mint.shares} were minted", flow.position
                )
            return
        if isinstance(flow, MintedInKind | Issued):
            raise AuditBreak("shares", "no shares were minted for this flow", flow.position)
        self.vault  # noqa: B018 - there must be one
        now = mint.position.time
        if mint.position.transaction == self._birth:
            self.ledger = self.ledger.minted(mint.shares, now, self.fee_bps)
            return
        owed = self.ledger.current(now, self.fee_bps).pending_fee
        if (mint.receiver, mint.shares) != (self.fee_recipient, owed):
            reason = (
                f"{mint.shares} minted to {mint.receiver}; a fee of {owed} was owed to {self.fee_recipient}"
            )
            raise AuditBreak("shares", reason, mint.position)
        self.ledger = self.ledger.collected(now, self.fee_bps)

    def _flowed(self, flow: Flow) -> None:
        state, now, at = self.vault, flow.position.time, flow.position
        self._settle_mint(flow)
        expected = self.ledger.flow_sequence + 1
        if flow.flow_sequence != expected:
            raise AuditBreak(
                "flow_sequence", f"{flow.flow_sequence} instead of {expected}: flows are missing", at
            )
        if flow.shares <= 0:
            raise AuditBreak("shares", "a flow of no shares", at)
        if isinstance(flow, MintedInKind | RedeemedInKind):
            if len(flow.amounts) != len(state.assets):
                raise AuditBreak("amounts", f"{len(flow.amounts)} amounts for {len(state.assets)} assets", at)
            self._in_kind(flow, state)
            shares = flow.shares if isinstance(flow, MintedInKind) else -flow.shares
            self.ledger = self.ledger.flowed(shares, now, self.fee_bps)
            return
        self._priced(flow, state)

    def _in_kind(self, flow: MintedInKind | RedeemedInKind, state: VaultState) -> None:
        """Exactly pro rata of what was there, which the amounts therefore tell."""
        now = flow.position.time
        inward = isinstance(flow, MintedInKind)
        supply = (
            self.ledger.entry_supply(now, self.fee_bps)
            if inward
            else self.ledger.current(now, self.fee_bps).supply
        )
        if not inward and flow.shares > supply:
            raise AuditBreak("shares", f"{flow.shares} redeemed of {supply}", flow.position)
        for i, (asset, amount) in enumerate(zip(state.assets, flow.amounts, strict=True)):
            if isinstance(flow, RedeemedInKind) and flow.skip >> i & 1:
                if amount:
                    raise AuditBreak(
                        "amounts", f"{amount} of {asset.token}, which was skipped", flow.position
                    )
                continue
            least, most = (
                _range_in(amount, flow.shares, supply) if inward else _range_out(amount, flow.shares, supply)
            )
            if least > most:
                raise AuditBreak(
                    "amounts", f"{amount} of {asset.token} is no such part of any balance", flow.position
                )
            held = self.held[asset.token]
            if held is None:
                continue
            if not least <= held <= most:
                self.differs(flow.position, asset.token, (least if held < least else most) - held, "amounts")
                held = least if held < least else most
            self.held[asset.token] = held + (amount if inward else -amount)

    def _priced(self, flow: Issued | Released, state: VaultState) -> None:
        now, at = flow.position.time, flow.position
        if not self.tellers.get(flow.teller):
            raise AuditBreak("teller", f"{flow.teller} has no right to issue or release", at)
        if now < state.paused_until:
            raise AuditBreak("time", "a priced flow while the vault was paused", at)
        if policy.aside(replace(state, time=now)) != NO_ASSET:
            raise AuditBreak("time", "a priced flow during a quarantine", at)
        seconds = self.history.melt_seconds.get(flow.teller.lower())
        if seconds is None:
            raise AuditBreak("teller", f"how long fees of {flow.teller} melt is not known", at)
        inward = isinstance(flow, Issued)
        if not inward and flow.fee > flow.shares:
            raise AuditBreak("fee", "fee above shares", at)
        self.ledger = self.ledger.flowed(
            flow.shares if inward else -flow.shares, now, self.fee_bps, flow.fee, seconds
        )
        if flow.asset not in self.held:
            raise AuditBreak("asset", f"{flow.asset} is no asset", at)
        held = self.held[flow.asset]
        if held is not None:
            after = held + (flow.paid if inward else -flow.paid)
            if after < 0:
                self.differs(at, flow.asset, -after, "paid")  # more went than was known to be there
            self.held[flow.asset] = max(after, 0)

    # ------------------------------------------------------------ entries

    def _entry(self, event: SessionOpened | Rebalanced | RuleChanged) -> None:
        state = self.vault
        self._settle_mint()
        if event.position.time != event.time:
            reason = f"{event.time} in a block of {event.position.time}"
            raise AuditBreak("time", reason, event.position)
        if isinstance(event, RuleChanged):
            self._rule_changed(event)
            return
        before = event.balances if isinstance(event, SessionOpened) else event.balances_before
        self._check_shares(event)
        at = self._observed(event, state, before)
        if isinstance(event, SessionOpened):
            self._session_opened(event, at)
        else:
            self._rebalanced(event, at)
        self.priced_at = event.position

    def _check_shares(self, event: SessionOpened | Rebalanced) -> None:
        if event.flow_sequence != self.ledger.flow_sequence:
            reason = f"{event.flow_sequence} flows, {self.ledger.flow_sequence} events of them"
            raise AuditBreak("flow_sequence", reason, event.position)
        supply = self.ledger.current(event.time, self.fee_bps).supply
        if event.supply != supply:
            reason = f"{event.supply} shares, {supply} by the flows and fees before: one of them was changed"
            raise AuditBreak("supply", reason, event.position)

    def _observed(
        self, event: SessionOpened | Rebalanced, state: VaultState, balances: tuple[int, ...]
    ) -> VaultState:
        """The state that the entry was made in; what its balances differ by is a residual."""
        n, now = len(state.assets), event.time
        for name, numbers in (("prices", event.prices), ("balances", balances)):
            if len(numbers) != n:
                raise AuditBreak(name, f"{len(numbers)} numbers for {n} assets", event.position)
        at = replace(
            state, prices=event.prices, balances=balances, statuses=(0,) * n, supply=event.supply, time=now
        )
        aside = policy.aside(at)
        if aside != NO_ASSET and aside < n and (event.prices[aside] or balances[aside]):
            raise AuditBreak("prices", "the asset in quarantine counts", event.position)
        for i, (asset, found) in enumerate(zip(state.assets, balances, strict=True)):
            if i == aside:
                continue
            held = self.held[asset.token]
            if held is not None and held != found:
                self.differs(event.position, asset.token, found - held, "balances")
            self.held[asset.token] = found
        return at

    def _session_opened(self, event: SessionOpened, at: VaultState) -> None:
        refusal, after = policy.check_open_session(at, event.time)
        if refusal:
            raise AuditBreak(
                FIELD_OF.get(refusal, "session"), f"the vault refuses this: {refusal}", event.position
            )
        said = (event.session, event.by_calendar, event.slot)
        found = (after.session.id, after.session.by_calendar, after.session.slot)
        for name, one, other in zip(("session", "by_calendar", "slot"), said, found, strict=True):
            if one != other:
                raise AuditBreak(name, f"{one} instead of {other}", event.position)
        self.state = after

    def _rebalanced(self, event: Rebalanced, at: VaultState) -> None:
        if len(event.balances_after) != len(at.assets):
            reason = f"{len(event.balances_after)} numbers for {len(at.assets)} assets"
            raise AuditBreak("balances_after", reason, event.position)
        verdict = policy.check_rebalance(
            at,
            event.sells,
            event.balances_after,
            event.session,
            event.time,
            event.time,
            executor=event.executor,
            keeper=bool(self.roles.get(event.keeper, 0) & KEEPER_ROLE),
        )
        if not verdict.ok:
            name = FIELD_OF.get(verdict.reason, "balances_after")
            raise AuditBreak(name, f"the vault refuses this: {verdict.reason}", event.position)
        closed, self._closed = self._closed, None
        if verdict.closed and (closed is None or closed.session != event.session):
            raise AuditBreak("session", "it closed, and there is no SessionClosed of it", event.position)
        if closed is not None and not verdict.closed:
            raise AuditBreak("session", "SessionClosed, and it stays open", closed.position)
        self.state = verdict.state
        aside = policy.aside(at)
        for i, (asset, found) in enumerate(zip(at.assets, event.balances_after, strict=True)):
            if i != aside:
                self.held[asset.token] = found

    def differs(self, at: Position, token: str, amount: int, name: str) -> None:
        """Note a residual; AuditBreak when units went, unless the token may do that."""
        self.residuals.append(Residual(at, token, amount))
        if amount < 0 and token.lower() not in self.rebasing:
            reason = (
                f"{-amount} units of {token} went without an entry or a flow: one of them is missing or was changed, "
                "or the token takes units away (then name it with --rebasing)"
            )
            raise AuditBreak(name, reason, at)

    # ------------------------------------------------------------ changes of rules

    def _rule_changed(self, event: RuleChanged) -> None:
        change = _CHANGES.get(event.name)
        if change is None:
            raise AuditBreak("name", f"{event.name[:40]!r} is no change that a vault records", event.position)
        types, apply = change
        try:
            values = decode(types, event.data)
            if encode(types, values) != event.data:
                raise DecodingError("not the one encoding")
        except (DecodingError, ValueError, OverflowError) as error:
            reason = f"not the arguments of {event.name}: {' '.join(str(error).split())[:200]}"
            raise AuditBreak("data", reason, event.position) from None
        try:
            apply(self, event, *values)
        except Refused as refusal:
            raise AuditBreak(
                "data", f"{event.name}: the vault refuses this: {refusal}", event.position
            ) from None

    def _keep(self, answer: tuple[str, VaultState]) -> None:
        refusal, state = answer
        if refusal:
            raise Refused(refusal)
        self.state = state

    def _checked(self, state: VaultState, now: int) -> None:
        at = replace(state, time=now)
        check_settings(at)
        self.state = at

    def set_targets(self, event: RuleChanged, targets_bps: Sequence[int]) -> None:
        """The strategist or the admin moved the targets."""
        self._keep(policy.set_targets(self.vault, targets_bps, event.time))

    def set_rules(self, event: RuleChanged, rules: Sequence[int]) -> None:
        """Other rules, and budgets as the old ones leave them."""
        self._keep(policy.set_rules(self.vault, Rules(*rules), event.time))

    def set_bands(self, event: RuleChanged, points: Sequence[int], relative: Sequence[int]) -> None:
        """Other bands."""
        self._fields(event, band_points_bps=points, band_relative_bps=relative)

    def set_limits(self, event: RuleChanged, least: Sequence[int], most: Sequence[int]) -> None:
        """Other limits of the targets."""
        self._fields(event, min_target_bps=least, max_target_bps=most)

    def _fields(self, event: RuleChanged, **columns: Sequence[int]) -> None:
        state = self.vault
        if any(len(column) != len(state.assets) for column in columns.values()):
            raise Refused("wrong length")
        if any(bps > 10_000 for column in columns.values() for bps in column):
            raise Refused("above 100%")
        assets = [
            replace(asset, **{name: column[i] for name, column in columns.items()})  # type: ignore[arg-type]
            for i, asset in enumerate(state.assets)
        ]
        self._checked(replace(state, assets=tuple(assets)), event.time)

    def add_asset(self, event: RuleChanged, row: Sequence[object]) -> None:
        """One more asset, with a target of 0; what the vault holds of it is not known yet."""
        state, asset = self.vault, with_decimals(row, self.history.decimals)
        if len(state.assets) >= MAX_ASSETS:
            raise Refused("too many assets")
        if asset.token in [other.token for other in state.assets]:
            raise Refused("asset twice")
        self._with_assets((*state.assets, asset), event.time)
        self.held.setdefault(asset.token, None)

    def remove_asset(self, event: RuleChanged, token: str) -> None:
        """An asset less; what is left of it belongs to nobody."""
        state = self.vault
        gone = [asset for asset in state.assets if asset.token.lower() == token.lower()]
        if not gone:
            raise Refused("not an asset")
        if gone[0].target_bps:
            raise Refused("target not 0")
        self._with_assets(tuple(asset for asset in state.assets if asset is not gone[0]), event.time)
        self.held.pop(gone[0].token, None)

    def _with_assets(self, assets: tuple[Asset, ...], now: int) -> None:
        old = self.vault
        prices = dict(
            zip([a.token for a in old.assets], zip(old.prices, old.balances, strict=True), strict=True)
        )
        rows = [prices.get(asset.token, (0, 0)) for asset in assets]
        state = replace(
            old,
            assets=assets,
            prices=tuple(row[0] for row in rows),
            balances=tuple(row[1] for row in rows),
            statuses=(0,) * len(assets),
        )
        self._checked(state, now)

    def set_oracle(self, event: RuleChanged, oracle: str) -> None:
        """Prices come from elsewhere."""
        self.state = replace(self.vault, oracle=to_checksum_address(oracle), time=event.time)

    def set_role(self, event: RuleChanged, account: str, roles: int) -> None:
        """An account's roles, replaced."""
        self.roles[to_checksum_address(account)] = roles

    def set_teller(self, event: RuleChanged, teller: str, capacity: int, refill: int) -> None:
        """A teller's right; a capacity of 0 ends it."""
        if capacity > 10_000 or refill > 10_000:
            raise Refused("flow limit above 100%")
        self.tellers[to_checksum_address(teller)] = capacity

    def set_fee(self, event: RuleChanged, fee_bps: int, recipient: str) -> None:
        """Another fee or recipient; what had accrued was paid just before."""
        if fee_bps > MAX_FEE_BPS:
            raise Refused("fee above cap")
        if self.ledger.current(event.time, self.fee_bps).pending_fee:
            raise AuditBreak("shares", "the fee that was owed is not paid before it changes", event.position)
        self.ledger = self.ledger.collected(event.time, self.fee_bps)
        self.fee_bps, self.fee_recipient = fee_bps, to_checksum_address(recipient)

    def pause(self, event: RuleChanged, until: int) -> None:
        """A guardian stopped trades for a time, or the admin lifted that."""
        state, now = self.vault, event.time
        free = state.paused_until == 0 or now >= state.paused_until + STOP_GAP
        if until != min(now, state.paused_until) and not (until == now + STOP and free):
            raise Refused("too soon after the last" if until == now + STOP else f"until {until} is neither")
        self.state = replace(state, paused_until=until)

    def quarantine(self, event: RuleChanged, index: int, until: int) -> None:
        """A guardian set an asset aside, or ended that."""
        state, now = self.vault, event.time
        if index >= len(state.assets):
            raise Refused("not an asset")
        if until == now:
            self._keep(policy.end_quarantine(state, now))
        else:
            self._keep(policy.quarantine(state, state.assets[index].token, now))
        after = self.vault
        if (after.aside, after.aside_until) != (index, until):
            raise Refused(f"asset {after.aside} until {after.aside_until} instead")


_RULES = "(" + ",".join(["uint256"] * 12) + ")"
_ASSET = "(address,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"
_CHANGES: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {  # by name: arguments, and what they do
    "set_targets": (("uint256[]",), Replay.set_targets),
    "set_rules": ((_RULES,), Replay.set_rules),
    "set_bands": (("uint256[]", "uint256[]"), Replay.set_bands),
    "set_limits": (("uint256[]", "uint256[]"), Replay.set_limits),
    "add_asset": ((_ASSET,), Replay.add_asset),
    "remove_asset": (("address",), Replay.remove_asset),
    "set_oracle": (("address",), Replay.set_oracle),
    "set_role": (("address", "uint256"), Replay.set_role),
    "set_teller": (("address", "uint256", "uint256"), Replay.set_teller),
    "set_fee": (("uint256", "address"), Replay.set_fee),
    "pause": (("uint256",), Replay.pause),
    "quarantine": (("uint256", "uint256"), Replay.quarantine),
}


def _range_in(amount: int, shares: int, supply: int) -> tuple[int, int]:
    """Balances of which a mint of `shares` takes `amount`: ceil(balance · shares / supply)."""
    return (0, 0) if amount == 0 else ((amount - 1) * supply // shares + 1, amount * supply // shares)


def _range_out(amount: int, shares: int, supply: int) -> tuple[int, int]:
    """Balances of which `amount` is paid: floor(balance · shares / supply); above 2**128 - 1 it no longer grows."""
    least, most = -(-amount * supply // shares), ((amount + 1) * supply - 1) // shares
    return least, WORD - 1 if least <= MAX_REDEEMABLE <= most else most
