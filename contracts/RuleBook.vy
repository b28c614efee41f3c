# pragma version 0.4.3
"""
@title Rule book: the rules that a vault enforces, without its tokens
@license MIT
@notice No storage, no owner, no calls but for a token's decimals: the vault hands over its state and gets a verdict.
        `enter` says whether a session is open or may open and how much may be sold; `settle` judges the outcome.
        Formulas, rounding and the order of the refusals: docs/spec.md. offchain/policy mirrors this file.
"""
from interfaces import IVault
from interfaces import IRuleBook
from contracts.modules import portfolio
from contracts.modules import rulebook
from contracts.modules import schedule

implements: IRuleBook


interface IDecimals:
    def decimals() -> uint8: view


WAD: constant(uint256) = 10**18
BPS: constant(uint256) = 10**14  # one basis point as a WAD
MAX_BPS: constant(uint256) = 10**4  # 100 %
MIN_SLIPPAGE_MARGIN: constant(uint256) = 10  # bps above the feeds' errors

CALENDAR_MODE: constant(uint256) = 0
THRESHOLD_MODE: constant(uint256) = 1
EITHER_MODE: constant(uint256) = 2


# Before a trade: the session, and what may be sold


@external
@view
def enter(
    words: DynArray[uint256, 16],
    rules: uint256,
    session: uint256,
    prices: DynArray[uint256, 16],
    balances: DynArray[uint256, 16],
    sells: DynArray[uint256, 16],
    id: uint256,
) -> IRuleBook.Entered:
    """
    @param sells The most to sell of each asset; empty to open the session only. A calendar slot is used by the first
           rebalance, not by the opening: else anyone could burn it by opening while the keeper is away.
    @param id The open session's, or the next one's to open it.
    @return The session, and each sell clipped to what the asset is above its target.
    """
    r: IVault.Rules = rulebook._unpack_rules(rules)
    position: portfolio.Position = portfolio._position(words, prices, balances, r.tolerance_bps)
    current: IVault.Session = rulebook._unpack_session(session)
    if self._is_open(current, r):
        assert id == current.id, "wrong session"
    else:
        assert id == current.id + 1, "wrong session"
        current = self._opened(current, r, position.out_of_band)
    if current.by_calendar and len(sells) > 0:
        current.slot = self._slot(r)

    sends: DynArray[uint256, 16] = []
    for i: uint256 in range(len(sells), bound=16):
        excess: uint256 = portfolio._excess(words[i], prices[i], position.nav, position.values[i])
        sends.append(min(min(sells[i], balances[i]), excess))
    return IRuleBook.Entered(session=current, sends=sends)


@internal
@view
def _opened(last: IVault.Session, rules: IVault.Rules, out_of_band: bool) -> IVault.Session:
    if last.id > 0:
        ended_at: uint256 = last.closed_at if last.closed_at > 0 else last.opened_at + rules.window_seconds
        assert block.timestamp >= ended_at + rules.cooldown_seconds, "cooldown not over"
    due: bool = rules.mode != THRESHOLD_MODE and self._slot(rules) > last.slot
    triggered: bool = due and out_of_band  # BOTH
    if rules.mode == CALENDAR_MODE:
        triggered = due
    elif rules.mode == THRESHOLD_MODE:
        triggered = out_of_band
    elif rules.mode == EITHER_MODE:
        triggered = due or out_of_band
    assert triggered, "no trigger"
    return IVault.Session(
        id=last.id + 1,
        opened_at=block.timestamp,
        closed_at=0,
        slot=last.slot,
        by_calendar=due,
    )


@internal
@view
def _is_open(session: IVault.Session, rules: IVault.Rules) -> bool:
    return session.id > 0 and session.closed_at == 0 and block.timestamp < session.opened_at + rules.window_seconds


@internal
@view
def _slot(rules: IVault.Rules) -> uint256:
    return schedule._slot(block.timestamp, rules.calendar_unit, rules.calendar_every, rules.calendar_anchor)


# After a trade: direction, overshoot, progress, slippage and loss budget, at the same prices


@external
@pure
def settle(
    words: DynArray[uint256, 16],
    rules: uint256,
    session: IVault.Session,
    prices: DynArray[uint256, 16],
    balances_before: DynArray[uint256, 16],
    sent: DynArray[uint256, 16],
    balances_after: DynArray[uint256, 16],
    loss_used: uint256,
) -> IRuleBook.Settled:
    """
    @param sent What left the vault of each asset.
    @param loss_used Level of the loss budget before the trade, WAD of NAV.
    @return Level of the loss budget after it, and whether the session closes. Reverts with the rule that is broken.
    """
    r: IVault.Rules = rulebook._unpack_rules(rules)
    before: portfolio.Position = portfolio._position(words, prices, balances_before, r.tolerance_bps)
    after: portfolio.Position = portfolio._position(words, prices, balances_after, r.tolerance_bps)
    gain: uint256 = (max(before.nav, after.nav) - before.nav) * WAD // after.nav  # down: less overshoot
    sold: uint256 = 0  # USD WAD
    at_risk: uint256 = 0  # USD WAD * bps
    for i: uint256 in range(len(words), bound=16):
        target: uint256 = portfolio._target(words[i])
        slack: uint256 = portfolio._tolerance(portfolio._band(words[i]), r.tolerance_bps) + gain
        traded: uint256 = max(before.values[i], after.values[i]) - min(before.values[i], after.values[i])
        at_risk += portfolio._price_error(words[i]) * traded
        if balances_after[i] < balances_before[i]:
            assert balances_before[i] - balances_after[i] <= sent[i], "balance fell by more than sent"
            assert before.weights[i] > target, "asset not overweight"
            assert after.weights[i] + slack >= target, "sold past target"
            sold += traded
        elif balances_after[i] > balances_before[i]:
            assert before.weights[i] < target, "asset not underweight"
            assert after.weights[i] <= target + slack, "bought past target"

    # half of what a perfect trade achieves; up: more progress
    progress: uint256 = (sold * WAD + before.nav - 1) // before.nav
    assert before.total_drift >= after.total_drift + progress, "drift fell too little"

    lost: uint256 = before.nav - min(before.nav, after.nav)
    assert lost * MAX_BPS <= r.max_slippage_bps * sold, "loss above slippage"
    used: uint256 = loss_used  # each part up: charge more
    used += (lost * WAD + before.nav - 1) // before.nav
    used += (at_risk * BPS + before.nav - 1) // before.nav
    assert used <= r.loss_capacity_bps * BPS, "loss budget exceeded"
    return IRuleBook.Settled(
        loss_used=used, closes=after.on_target if session.by_calendar else after.in_half_band
    )


# Values


@external
@pure
def nav(words: DynArray[uint256, 16], prices: DynArray[uint256, 16], balances: DynArray[uint256, 16]) -> uint256:
    return portfolio._position(words, prices, balances, 0).nav


# Setting assets and rules


@external
@view
def renumber(old_rules: uint256, rules: uint256, session: uint256) -> uint256:
    """
    @return The session under new rules: the present calendar slot counts as used, since slots are numbered by the
            calendar's terms, and a session that has run out stays so, whatever the new window.
    """
    current: IVault.Session = rulebook._unpack_session(session)
    old: IVault.Rules = rulebook._unpack_rules(old_rules)
    if current.id > 0 and current.closed_at == 0 and not self._is_open(current, old):
        current.closed_at = current.opened_at + old.window_seconds
    current.slot = self._slot(rulebook._unpack_rules(rules))
    return rulebook._pack_session(current)


@external
@view
def pack_assets(assets: DynArray[IVault.Asset, 16]) -> DynArray[uint256, 16]:
    """
    @notice One word per asset, with the decimals that its token says.
    """
    assert len(assets) >= 2, "fewer than 2 assets"
    words: DynArray[uint256, 16] = []
    for given: IVault.Asset in assets:
        asset: IVault.Asset = given
        assert asset.token != empty(address), "no token"
        for word: uint256 in words:
            assert asset.token != portfolio._token(word), "asset twice"
        asset.decimals = convert(staticcall IDecimals(asset.token).decimals(), uint256)
        words.append(portfolio._pack(asset))
    return words


@external
@pure
def unpack_assets(words: DynArray[uint256, 16]) -> DynArray[IVault.Asset, 16]:
    assets: DynArray[IVault.Asset, 16] = []
    for word: uint256 in words:
        assets.append(portfolio._unpack(word))
    return assets


@external
@pure
def pack_rules(rules: IVault.Rules, words: DynArray[uint256, 16]) -> uint256:
    """
    @notice The rules in one word, if they and the assets work together. Refused: targets that do not sum to 100 %
            or lie outside their limits, a slippage that the feeds' errors alone use up, a loss budget too small for
            one full rebalance of twice the widest band.
    """
    total: uint256 = 0
    band: uint256 = 0
    error: uint256 = 0  # bps, the worst feed's
    second: uint256 = 0  # bps, the second worst's
    for word: uint256 in words:
        asset: IVault.Asset = portfolio._unpack(word)
        portfolio._check(asset)
        total += asset.target_bps
        band = max(band, portfolio._band(word))
        second = max(second, min(error, asset.price_error_bps))
        error = max(error, asset.price_error_bps)
    assert total == MAX_BPS, "targets do not sum to 100%"
    error += second
    assert rules.max_slippage_bps >= error + MIN_SLIPPAGE_MARGIN, "slippage below price errors"
    # both sides in WAD * bps
    assert (
        rules.loss_capacity_bps * BPS * MAX_BPS >= 2 * band * (rules.max_slippage_bps + error)
    ), "loss budget below one rebalance"
    return rulebook._pack_rules(rules)
