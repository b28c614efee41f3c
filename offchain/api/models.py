"""The shapes of answers and bodies (docs/api.md): amounts are decimal strings, and their units are in the names."""

# ruff: noqa: D101 - the names say it, docs/api.md has the rest

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from offchain.chain.contracts import address_of
from offchain.chain.errors import ConfigError

MAX_UINT256 = 2**256 - 1


def _checked_address(value: str) -> str:
    # only plain spellings: no blanks around it, no capital X
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", value, re.ASCII):
        raise ValueError("address: expected 0x and 40 hex digits")
    try:
        return address_of(value, "address")
    except ConfigError:
        raise ValueError("address: wrong checksum: is a character mistyped?") from None


def _checked_units(value: str) -> str:
    if int(value) > MAX_UINT256:
        raise ValueError("above 2**256 - 1, the most that a contract can hold")
    return str(int(value))


# [0-9], not \d: a digit of another script is no digit here
Address = Annotated[
    str,
    AfterValidator(_checked_address),
    WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$", "examples": ["0x" + "00" * 20]}),
]
Units = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{1,78}$"), AfterValidator(_checked_units)
]  # an amount that somebody sends
Amount = Annotated[
    str, StringConstraints(pattern=r"^-?[0-9]+$")
]  # an integer in an answer, as a decimal string
Hash = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
HexData = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]*$")]


class Answer(BaseModel):
    """Base of what is sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(BaseModel):
    """Base of what is received."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Block(Answer):
    """The block that the answer is of."""

    number: int
    hash: Hash
    time: int = Field(description="timestamp, seconds UTC")


class FieldError(Answer):
    field: str
    message: str


class ProblemBody(Answer):
    """RFC 9457; `code` does not change."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] = []


class Token(Answer):
    token: str
    symbol: str
    name: str
    decimals: int


class Demo(Answer):
    wallet: str
    wallet_script: str


class ImpactLimits(Answer):
    high: int
    blocked: int


class Config(Answer):
    block: Block
    chain_id: int
    rpc_path: str
    version: str
    factory: str | None
    lens: str | None
    zap: str | None
    executor: str | None
    native_token: str | None
    hub: Token | None
    default_vault: str | None
    impact_limits_bps: ImpactLimits
    quote_seconds: int
    demo: Demo | None


class AssetSummary(Answer):
    token: str
    symbol: str
    weight_wad: Amount | None
    target_wad: Amount
    band_wad: Amount


class VaultSummary(Answer):
    vault: str
    name: str | None
    symbol: str | None
    readable: bool
    reason: str | None
    nav_usd_wad: Amount | None
    share_price_usd_wad: Amount | None
    supply_units: Amount | None
    max_drift_wad: Amount | None
    max_drift_of_band_bps: int | None
    prices_usable: bool | None
    paused: bool | None
    session_open: bool | None
    assets: list[AssetSummary]


class Vaults(Answer):
    block: Block
    vaults: list[VaultSummary]
    next_cursor: str | None


class AssetState(Answer):
    index: int
    token: str
    symbol: str
    name: str
    decimals: int
    balance_units: Amount | None
    readable: bool
    price_usd_wad: Amount | None
    price_status: str
    price_usable: bool
    value_usd_wad: Amount | None
    weight_wad: Amount | None
    target_wad: Amount
    band_wad: Amount
    drift_wad: Amount | None
    outside_band: bool | None
    own_target_bps: int
    min_target_bps: int
    max_target_bps: int
    band_points_bps: int
    band_relative_bps: int
    price_error_bps: int
    quarantined: bool


class RulesState(Answer):
    mode: str
    calendar_unit: str
    calendar_every: int
    calendar_anchor: int
    window_seconds: int
    cooldown_seconds: int
    max_slippage_bps: int
    loss_capacity_bps: int
    loss_refill_bps_per_year: int
    tolerance_bps: int
    speed_capacity_bps: int
    speed_refill_bps_per_day: int


class SessionState(Answer):
    id: int
    open: bool
    opened_at: int
    closed_at: int | None
    closes_at: int | None
    by_calendar: bool
    slot: int


class Due(Answer):
    now: bool
    trigger: str | None
    reason: str
    refusal: str | None
    next_calendar_at: int | None


class Budget(Answer):
    capacity_wad: Amount
    used_wad: Amount


class Quarantine(Answer):
    index: int
    token: str
    until: int


class Fee(Answer):
    bps_per_year: int
    recipient: str


class Roles(Answer):
    admin: str
    delay_seconds: int
    guardians: list[str]
    strategists: list[str]
    keepers: list[str]
    complete: bool


class TellerState(Answer):
    teller: str
    asset: str
    floor_bps: int
    surcharge_bps: int
    burn_seconds: int
    room_in_wad: Amount
    room_out_wad: Amount


class VaultDetail(Answer):
    block: Block
    chain_id: int
    vault: str
    name: str
    symbol: str
    decimals: int
    from_factory: bool | None
    implementation: str
    oracle: str
    timelock: str
    head: Hash
    nav_usd_wad: Amount | None
    share_price_usd_wad: Amount | None
    supply_units: Amount
    pending_fee_shares_units: Amount
    melting_units: Amount
    flow_sequence: int
    prices_usable: bool
    assets: list[AssetState]
    rules: RulesState
    session: SessionState
    due: Due
    loss_budget: Budget
    speed_budget: Budget
    paused: bool
    paused_until: int
    quarantine: Quarantine | None
    fee: Fee
    roles: Roles
    tellers: list[TellerState]


class Point(Answer):
    block: Block
    tx_hash: Hash | None
    log_index: int | None
    kind: Literal["session_opened", "rebalanced", "now"]
    assets: list[str]
    nav_usd_wad: Amount
    share_price_usd_wad: Amount
    supply_units: Amount
    weights_wad: list[Amount]
    balances_units: list[Amount]
    prices_usd_wad: list[Amount]


class History(Answer):
    block: Block
    points: list[Point]
    next_cursor: str | None


class Proof(Answer):
    previous_head: Hash
    data: HexData
    head: Hash


class Rebalance(Answer):
    block: Block
    tx_hash: Hash
    log_index: int
    session: int
    keeper: str
    executor: str
    supply_units: Amount
    flow_sequence: int
    assets: list[str]
    prices_usd_wad: list[Amount]
    balances_before_units: list[Amount]
    balances_after_units: list[Amount]
    sells_units: list[Amount]
    nav_before_usd_wad: Amount | None
    nav_after_usd_wad: Amount | None
    payload_hash: Hash
    decision: Hash
    proof: Proof


class Rebalances(Answer):
    block: Block
    rebalances: list[Rebalance]
    next_cursor: str | None


class TokenUnits(Answer):
    token: str
    units: Amount


class Flow(Answer):
    block: Block
    tx_hash: Hash
    log_index: int
    kind: Literal["mint_in_kind", "redeem_in_kind", "issue", "release"]
    caller: str
    account: str
    receiver: str
    shares_units: Amount
    fee_units: Amount
    amounts: list[TokenUnits]
    skip: int
    flow_sequence: int


class Flows(Answer):
    block: Block
    flows: list[Flow]
    next_cursor: str | None


class NamedUnits(Answer):
    token: str
    symbol: str
    decimals: int
    units: Amount | None


class WalletUnits(NamedUnits):
    allowance_vault_units: Amount | None
    allowance_zap_units: Amount | None


class AccountState(Answer):
    block: Block
    vault: str
    account: str
    shares_units: Amount
    value_usd_wad: Amount | None
    in_kind: list[NamedUnits]
    native_units: Amount
    balances: list[WalletUnits]


class Lots(Answer):
    """As `evenkeel tax report --format json` says it: decimals in whole shares and USD."""

    block: Block
    vault: str
    account: str
    method: str
    wash_days: int
    unvalued: list[str]
    years: list[dict[str, Any]]
    sales: list[dict[str, Any]]
    open: list[dict[str, Any]]


class PlanAnswer(Answer):
    block: Block
    plan: dict[str, Any]


class Leg(Answer):
    pool: str
    pool_kind: Literal["uniswap_v2", "uniswap_v3"]
    fee_millionths: int
    token_in: str
    symbol_in: str
    amount_in_units: Amount
    token_out: str
    symbol_out: str
    expected_out_units: Amount
    min_out_units: Amount


class Leftover(Answer):
    token: str
    symbol: str
    decimals: int
    units: Amount
    value_usd_wad: Amount | None
    to: Literal["caller"]


class Cost(Answer):
    """Of what is put in; below 0 is a gain."""

    total_bps: int
    pool_fee_bps: int
    price_impact_bps: int
    other_bps: int
    total_usd_wad: Amount
    pool_fee_usd_wad: Amount
    price_impact_usd_wad: Amount
    other_usd_wad: Amount


class Quote(Answer):
    block: Block
    chain_id: int
    vault: str
    zap: str
    executor: str
    token: str
    symbol: str
    decimals: int
    payload: HexData
    via: list[str]
    slippage_bps: int
    deadline: int
    expires_at: int
    value_in_usd_wad: Amount | None
    value_out_usd_wad: Amount | None
    cost: Cost | None
    impact: Literal["normal", "high", "blocked", "unknown"]
    legs: list[Leg]
    leftovers: list[Leftover]


class ZapIn(Quote):
    kind: Literal["zap_in"]
    amount_units: Amount
    expected_shares_units: Amount
    min_shares_units: Amount


class ZapOut(Quote):
    kind: Literal["zap_out"]
    shares_units: Amount
    skip: int
    expected_amount_units: Amount
    min_amount_units: Amount
    redeemed: list[NamedUnits]


class Check(Answer):
    name: str
    ok: bool
    detail: str


class Health(Answer):
    block: Block | None
    status: Literal["ok", "degraded", "down"]
    checks: list[Check]


class Prepare(Body):
    """What to prepare calls for."""

    kind: Literal["mint_in_kind", "redeem_in_kind", "zap_in", "zap_out", "teller_deposit", "teller_redeem"]
    vault: Address
    account: Address
    receiver: Address | None = None
    shares_units: Units | None = None
    token: Address | None = None
    amount_units: Units | None = None
    skip: int = Field(default=0, ge=0, lt=2**16)
    slippage_bps: int = Field(default=50, ge=1, le=1000)


class Call(Answer):
    to: str
    value_units: Amount
    data: HexData
    function: str
    arguments: dict[str, Any]
    says: str


class PreparedCalls(Answer):
    block: Block
    chain_id: int
    expires_at: int
    quote: ZapIn | ZapOut | None
    calls: list[Call]
