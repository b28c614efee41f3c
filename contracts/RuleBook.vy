# pragma version 0.4.3
"""
@title Rule book: the rules that a vault enforces, without its tokens
@license MIT
@notice No storage, no owner, and it only reads: the vault, which is the caller, hands over its state and gets a
        verdict. `enter` says whether a session is open or may open and how much may be sold; `settle` judges the
        outcome. Formulas, rounding and the order of the refusals: docs/spec.md. offchain/policy mirrors this file.
"""
from ethereum.ercs import IERC20
from interfaces import IVault
from interfaces import IPriceOracle
from interfaces import IRuleBook
from contracts.modules import bucket
from contracts.modules import portfolio
from contracts.modules import packing
from contracts.modules import schedule

implements: IRuleBook


interface IDecimals:
    def decimals() -> uint8: view


WAD: constant(uint256) = 10**18
BPS: constant(uint256) = 10**14  # one basis point as a WAD
MAX_BPS: constant(uint256) = 10**4  # 100 %
YEAR: constant(uint256) = 365 * 86400
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
    trading: uint256,
    oracle: address,
    sells: DynArray[uint256, 16],
    id: uint256,
) -> IRuleBook.Entered:
    """
    @param sells The most to sell of each asset; empty to open the session only.
    @param id The open session's, or the next one's to open it.
    @return The session, prices and balances, and each sell clipped to what the asset is above its target.
    """
    r: IVault.Rules = packing._unpack_rules(rules)
    aside: uint256 = packing._aside(rules)
    prices: DynArray[uint256, 16] = self._prices(words, oracle, aside)
    balances: DynArray[uint256, 16] = self._balances(words, aside)
    values: uint256[16] = empty(uint256[16])
    nav: uint256 = 0
    for i: uint256 in range(len(words), bound=16):
        held: uint256 = portfolio._value(words[i], prices[i], balances[i])
        values[i] = held
        nav += held
    assert nav > 0, "no value"

    whole: uint256 = portfolio._whole(words, aside)
    out_of_band: bool = False
    sends: DynArray[uint256, 16] = []
    for i: uint256 in range(len(words), bound=16):
        word: uint256 = words[i]
        held: uint256 = values[i]
        target: uint256 = portfolio._share(word, whole, i == aside)
        drift: uint256 = portfolio._drift(held * WAD // nav, target)  # weight down
        out_of_band = out_of_band or drift >= portfolio._band(word, target)
        if len(sells) > 0:
            excess: uint256 = portfolio._excess(word, prices[i], nav, held, target)
            sends.append(min(min(sells[i], balances[i]), excess))

    current: IVault.Session = packing._unpack_session(trading)
    if self._is_open(current, r):
        assert id == current.id, "wrong session"
    else:
        assert id == current.id + 1, "wrong session"
        current = self._opened(current, r, out_of_band)
    return IRuleBook.Entered(
        trading=packing._with_session(trading, current), prices=prices, balances=balances, sends=sends
    )


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
@view
def settle(
    words: DynArray[uint256, 16],
    rules: uint256,
    trading: uint256,
    prices: DynArray[uint256, 16],
    balances_before: DynArray[uint256, 16],
    sent: DynArray[uint256, 16],
) -> IRuleBook.Settled:
    """
    @param sent What left the vault of each asset.
    @return Balances after it, the session and the loss budget, and whether the session closes, which uses its calendar
            slot: else anyone could burn a slot by opening a session or filling dust. Reverts with the rule that is broken.
    """
    session: IVault.Session = packing._unpack_session(trading)
    r: IVault.Rules = packing._unpack_rules(rules)
    aside: uint256 = packing._aside(rules)
    balances_after: DynArray[uint256, 16] = self._balances(words, aside)
    values_before: uint256[16] = empty(uint256[16])
    values_after: uint256[16] = empty(uint256[16])
    nav_before: uint256 = 0
    nav_after: uint256 = 0
    for i: uint256 in range(len(words), bound=16):
        price: uint256 = prices[i]
        scale: uint256 = portfolio._scale(words[i])
        before: uint256 = balances_before[i] * price // scale  # down
        after: uint256 = balances_after[i] * price // scale  # down
        values_before[i] = before
        values_after[i] = after
        nav_before += before
        nav_after += after
    assert nav_after > 0, "no value"

    whole: uint256 = portfolio._whole(words, aside)
    gain: uint256 = (max(nav_before, nav_after) - nav_before) * WAD // nav_after  # down: less overshoot
    sold: uint256 = 0  # USD WAD
    at_risk: uint256 = 0  # USD WAD * bps
    drift_before: uint256 = 0
    drift_after: uint256 = 0
    closes: bool = True
    for i: uint256 in range(len(words), bound=16):
        word: uint256 = words[i]
        before: uint256 = values_before[i]
        after: uint256 = values_after[i]
        target: uint256 = portfolio._share(word, whole, i == aside)
        band: uint256 = portfolio._band(word, target)
        tolerance: uint256 = portfolio._tolerance(band, r.tolerance_bps)
        weight_before: uint256 = before * WAD // nav_before  # down
        weight_after: uint256 = after * WAD // nav_after  # down
        drift: uint256 = portfolio._drift(weight_after, target)
        drift_before += portfolio._drift(weight_before, target)
        drift_after += drift
        closes = closes and drift <= (tolerance if session.by_calendar else band // 2)

        had: uint256 = balances_before[i]
        has: uint256 = balances_after[i]
        if has == had:
            continue
        traded: uint256 = max(before, after) - min(before, after)
        at_risk += portfolio._price_error(word) * traded
        if has < had:
            assert had - has <= sent[i], "balance fell by more than sent"
            assert weight_before > target, "asset not overweight"
            assert weight_after + tolerance + gain >= target, "sold past target"
            sold += traded
        else:
            assert weight_before < target, "asset not underweight"
            assert weight_after <= target + tolerance + gain, "bought past target"

    # half of what a perfect trade achieves; up: more progress
    progress: uint256 = (sold * WAD + nav_before - 1) // nav_before
    assert drift_before >= drift_after + progress, "drift fell too little"

    lost: uint256 = nav_before - min(nav_before, nav_after)
    assert lost * MAX_BPS <= r.max_slippage_bps * sold, "loss above slippage"
    # each part up: charge more
    used: uint256 = bucket._level(packing._loss_of(trading), r.loss_refill_bps_per_year, YEAR)
    used += (lost * WAD + nav_before - 1) // nav_before
    used += (at_risk * BPS + nav_before - 1) // nav_before
    assert used <= r.loss_capacity_bps * BPS, "loss budget exceeded"
    if closes:
        session.closed_at = block.timestamp
        if session.by_calendar:
            session.slot = self._slot(r)
    return IRuleBook.Settled(
        balances=balances_after,
        trading=packing._pack_trading(packing._pack_session(session), bucket._pack(used)),
        closes=closes,
    )


# Reading


@external
@view
def appraise(words: DynArray[uint256, 16], rules: uint256, oracle: address, asset: address) -> IVault.Appraisal:
    """
    @return What the vault, which calls, is worth and holds of `asset`; the supplies are for the vault to fill in.
    """
    assert packing._aside(rules) == portfolio.NO_ASSET, "quarantined"
    prices: DynArray[uint256, 16] = self._prices(words, oracle, portfolio.NO_ASSET)
    balances: DynArray[uint256, 16] = self._balances(words, portfolio.NO_ASSET)
    appraisal: IVault.Appraisal = empty(IVault.Appraisal)
    for i: uint256 in range(len(words), bound=16):
        held: uint256 = portfolio._value(words[i], prices[i], balances[i])
        appraisal.nav += held
        if portfolio._token(words[i]) == asset:
            appraisal.held = held
            appraisal.target = portfolio._target(words[i])
            appraisal.price = prices[i]
            appraisal.scale = portfolio._scale(words[i])
            appraisal.balance = balances[i]
    assert appraisal.scale > 0, "not an asset"
    assert appraisal.nav > 0, "no value"
    return appraisal


@internal
@view
def _prices(words: DynArray[uint256, 16], oracle: address, aside: uint256) -> DynArray[uint256, 16]:
    tokens: DynArray[address, 16] = []
    for word: uint256 in words:
        tokens.append(portfolio._token(word))
    prices: DynArray[uint256, 16] = []
    statuses: DynArray[uint256, 16] = []
    prices, statuses = staticcall IPriceOracle(oracle).prices(tokens)
    assert len(prices) == len(words) and len(statuses) == len(words), "price not usable"
    if aside < len(words):
        prices[aside] = 0
    for i: uint256 in range(len(words), bound=16):
        assert i == aside or (statuses[i] == 0 and prices[i] > 0), "price not usable"
    return prices


@internal
@view
def _balances(words: DynArray[uint256, 16], aside: uint256) -> DynArray[uint256, 16]:
    """
    @return The caller's; 0 of the asset in quarantine, which is not called at all.
    """
    balances: DynArray[uint256, 16] = []
    for i: uint256 in range(len(words), bound=16):
        balance: uint256 = 0
        if i != aside:
            balance = staticcall IERC20(portfolio._token(words[i])).balanceOf(msg.sender)
        balances.append(balance)
    return balances


# Setting assets and rules


@external
@view
def renumber(old_rules: uint256, rules: uint256, session: uint256) -> uint256:
    """
    @return The session under new rules. Slots are numbered by the calendar's terms: where those change, the present
            slot counts as used. A session that has run out stays so, whatever the new window.
    """
    current: IVault.Session = packing._unpack_session(session)
    old: IVault.Rules = packing._unpack_rules(old_rules)
    new: IVault.Rules = packing._unpack_rules(rules)
    if current.id > 0 and current.closed_at == 0 and not self._is_open(current, old):
        current.closed_at = current.opened_at + old.window_seconds
    if (
        new.calendar_unit != old.calendar_unit
        or new.calendar_every != old.calendar_every
        or new.calendar_anchor != old.calendar_anchor
    ):
        current.slot = self._slot(new)
    return packing._pack_session(current)


@external
@view
def first_session(rules: uint256) -> uint256:
    """
    @return The session word of a new vault: none yet, the present calendar slot counts as used.
    """
    unopened: IVault.Session = empty(IVault.Session)
    unopened.slot = self._slot(packing._unpack_rules(rules))
    return packing._pack_session(unopened)


@external
@view
def pack_asset(given: IVault.Asset) -> uint256:
    """
    @notice An asset in one word, with the decimals that its token says.
    """
    asset: IVault.Asset = given
    assert asset.token != empty(address), "no token"
    asset.decimals = convert(staticcall IDecimals(asset.token).decimals(), uint256)
    return portfolio._pack(asset)


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
    @notice The rules in one word, without a quarantine, if they and the assets work together. Refused: fewer than two
            assets, one of them twice, targets that do not sum to 100 % or lie outside their limits, a slippage that the
            feeds' errors alone use up, a loss budget too small for one full rebalance of twice the widest band, a
            calendar without a tolerance: no trade hits a target to the wei, so its sessions would never close.
    """
    assert len(words) >= 2, "fewer than 2 assets"
    total: uint256 = 0
    band: uint256 = 0
    error: uint256 = 0  # bps, the worst feed's
    second: uint256 = 0  # bps, the second worst's
    for i: uint256 in range(len(words), bound=16):
        asset: IVault.Asset = portfolio._unpack(words[i])
        portfolio._check(asset)
        for j: uint256 in range(i, bound=16):
            assert asset.token != portfolio._token(words[j]), "asset twice"
        total += asset.target_bps
        band = max(band, portfolio._band(words[i], portfolio._target(words[i])))
        second = max(second, min(error, asset.price_error_bps))
        error = max(error, asset.price_error_bps)
    assert total == MAX_BPS, "targets do not sum to 100%"
    error += second
    assert rules.max_slippage_bps >= error + MIN_SLIPPAGE_MARGIN, "slippage below price errors"
    # both sides in WAD * bps
    assert (
        rules.loss_capacity_bps * BPS * MAX_BPS >= 2 * band * (rules.max_slippage_bps + error)
    ), "loss budget below one rebalance"
    assert rules.mode == THRESHOLD_MODE or rules.tolerance_bps > 0, "tolerance 0 with a calendar"
    return packing._pack_rules(rules)
