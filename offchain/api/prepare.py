"""Unsigned calls for a deposit or a redemption. Whoever signs them decodes and checks them first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from offchain import policy
from offchain.api import models, views
from offchain.api.problems import Problem
from offchain.api.source import Account, Source, TokenInfo
from offchain.chain.vault import Snapshot
from offchain.planner.pools import same

__all__ = ["Quotes", "prepare"]


class Quotes(Protocol):
    """What prepares a zap."""

    def zap_in(self, vault: str, token: str, amount: int, slippage_bps: int) -> models.ZapIn:
        """Shares for `amount` of `token`."""

    def zap_out(self, vault: str, token: str, shares: int, skip: int, slippage_bps: int) -> models.ZapOut:
        """`token` for `shares`."""


def prepare(
    source: Source, quotes: Quotes, wanted: models.Prepare, quote_seconds: int, deadline_seconds: int
) -> models.PreparedCalls:
    """The calls that do what is wanted, approvals first."""
    block = source.newest()
    if not source.serves(wanted.vault, block):
        raise Problem(
            "not_a_vault", f"{wanted.vault} is no vault that is served here (chain {source.chain_id})"
        )
    found = source.snapshot(wanted.vault, block)
    tokens = [a.token for a in found.state.assets]
    if wanted.token is not None and not any(same(wanted.token, t) for t in tokens):
        tokens.append(wanted.token)
    has = source.account(wanted.vault, wanted.account, tokens, block)
    names = source.tokens([*tokens, wanted.vault], block)
    job = _Job(source, quotes, wanted, found, has, names)
    quote, calls = job.run()
    return models.PreparedCalls(
        block=views.block_of(block),
        chain_id=source.chain_id,
        expires_at=quote.expires_at if quote else block.time + quote_seconds,
        quote=quote,
        calls=calls,
    )


class _Job:
    def __init__(
        self,
        source: Source,
        quotes: Quotes,
        wanted: models.Prepare,
        found: Snapshot,
        has: Account,
        names: dict[str, TokenInfo],
    ) -> None:
        self.source, self.quotes, self.wanted, self.found = source, quotes, wanted, found
        self.has, self.names = has, names
        self.receiver = wanted.receiver or wanted.account

    def run(self) -> tuple[models.ZapIn | models.ZapOut | None, list[models.Call]]:
        """The quote where there is one, and the calls."""
        match self.wanted.kind:
            case "mint_in_kind":
                return None, self._mint()
            case "redeem_in_kind":
                return None, self._redeem()
            case "zap_in":
                return self._zap_in()
            case "zap_out":
                return self._zap_out()
            case "teller_deposit":
                return None, self._teller_deposit()
            case "teller_redeem":
                return None, self._teller_redeem()

    def _mint(self) -> list[models.Call]:
        shares, vault, state = self._shares(), self.wanted.vault, self.found.state
        melting = self.source.extras(vault, self.found.block).melting
        supply = state.supply - melting
        if supply <= 0 or shares == 0:
            raise Problem("cannot_plan", "shares_units: must be above 0, and the vault must have shares")
        slack = 10_000 + self.wanted.slippage_bps
        most = [-(-q * shares * slack // (supply * 10_000)) for q in state.balances]
        calls = []
        for asset, units in zip(state.assets, most, strict=True):
            if units:
                allowed = self.has.wallets[asset.token].allowance_vault
                calls += self._approvals(asset.token, vault, units, allowed)
        return [
            *calls,
            self._call(
                vault,
                "mint_in_kind(uint256,uint256[],address)",
                [("shares", shares), ("max_amounts", most), ("receiver", self.receiver)],
                f"Deposit every asset for {self._whole(vault, shares)}",
            ),
        ]

    def _redeem(self) -> list[models.Call]:
        shares, vault, skip = self._shares(), self.wanted.vault, self.wanted.skip
        state = self.found.state
        if shares == 0 or shares > state.supply:
            raise Problem("cannot_plan", "shares_units: must be above 0 and not above the vault's supply")
        if skip >> len(state.assets):
            raise Problem("invalid_request", f"skip: the vault has {len(state.assets)} assets")
        slack = 10_000 - self.wanted.slippage_bps
        least = [units * slack // 10_000 for units in policy.redeem_amounts(state, shares, skip)]
        return [
            self._call(
                vault,
                "redeem_in_kind(uint256,address,address,uint256[],uint256)",
                [
                    ("shares", shares),
                    ("receiver", self.receiver),
                    ("owner", self.wanted.account),
                    ("min_amounts", least),
                    ("skip", skip),
                ],
                f"Redeem {self._whole(vault, shares)} for every asset"
                + (" but the skipped ones" if skip else ""),
            )
        ]

    def _zap_in(self) -> tuple[models.ZapIn, list[models.Call]]:
        token, amount = self._token(), self._amount()
        quote = self.quotes.zap_in(self.wanted.vault, token, amount, self.wanted.slippage_bps)
        arguments = [
            ("vault", quote.vault),
            ("token", token),
            ("amount", amount),
            ("payload", quote.payload),
            ("via", quote.via),
            ("min_shares", int(quote.min_shares_units)),
            ("receiver", self.receiver),
            ("deadline", quote.deadline),
        ]
        return quote, [
            *self._approvals(token, quote.zap, amount, self.has.wallets[self._own(token)].allowance_zap),
            self._call(
                quote.zap,
                "zap_in(address,address,uint256,bytes,address[],uint256,address,uint256)",
                arguments,
                f"Deposit {self._whole(token, amount)} for at least "
                f"{self._whole(quote.vault, int(quote.min_shares_units))}",
            ),
        ]

    def _zap_out(self) -> tuple[models.ZapOut, list[models.Call]]:
        token, shares = self._token(), self._shares()
        quote = self.quotes.zap_out(
            self.wanted.vault, token, shares, self.wanted.skip, self.wanted.slippage_bps
        )
        arguments = [
            ("vault", quote.vault),
            ("shares", shares),
            ("skip", quote.skip),
            ("token", token),
            ("payload", quote.payload),
            ("via", quote.via),
            ("min_amount", int(quote.min_amount_units)),
            ("receiver", self.receiver),
            ("deadline", quote.deadline),
        ]
        return quote, [
            *self._approvals(quote.vault, quote.zap, shares, self.has.allowance_zap_shares),
            self._call(
                quote.zap,
                "zap_out(address,uint256,uint256,address,bytes,address[],uint256,address,uint256)",
                arguments,
                f"Redeem {self._whole(quote.vault, shares)} for at least "
                f"{self._whole(token, int(quote.min_amount_units))}",
            ),
        ]

    def _teller_deposit(self) -> list[models.Call]:
        token, amount = self._token(), self._amount()
        teller = self._teller(token)
        block = self.found.block
        shares = self.source.teller_preview(teller, amount, True, block)
        least = shares * (10_000 - self.wanted.slippage_bps) // 10_000
        return [
            *self._approvals(token, teller, amount, None),
            self._call(
                teller,
                "deposit(uint256,address,uint256)",
                [("assets", amount), ("receiver", self.receiver), ("min_shares", least)],
                f"Deposit {self._whole(token, amount)} for at least {self._whole(self.wanted.vault, least)}",
            ),
        ]

    def _teller_redeem(self) -> list[models.Call]:
        token, shares = self._token(), self._shares()
        teller = self._teller(token)
        amount = self.source.teller_preview(teller, shares, False, self.found.block)
        least = amount * (10_000 - self.wanted.slippage_bps) // 10_000
        return [
            self._call(
                teller,
                "redeem(uint256,address,address,uint256)",
                [
                    ("shares", shares),
                    ("receiver", self.receiver),
                    ("owner", self.wanted.account),
                    ("min_assets", least),
                ],
                f"Redeem {self._whole(self.wanted.vault, shares)} for at least {self._whole(token, least)}",
            )
        ]

    # ---------------------------------------------------------------- parts

    def _approvals(self, token: str, spender: str, units: int, allowed: int | None) -> list[models.Call]:
        """Exactly `units`, after a reset where there is an allowance that is too low. `allowed`: None, not known."""
        if allowed is not None and allowed >= units:
            return []

        def approve(value: int, says: str) -> models.Call:
            arguments = [("spender", spender), ("value", value)]
            return self._call(token, "approve(address,uint256)", arguments, says)

        symbol = self.names[self._own(token)].symbol
        exact = approve(units, f"Allow {spender} to take {self._whole(token, units)}, exactly")
        if allowed == 0:
            return [exact]
        return [approve(0, f"Take back what {spender} may take of {symbol}"), exact]

    def _call(self, to: str, function: str, arguments: Sequence[tuple[str, Any]], says: str) -> models.Call:
        types = _types(function)
        values = [_value(value) for _, value in arguments]
        data = keccak(text=function)[:4] + encode(types, values)
        return models.Call(
            to=to,
            value_units="0",
            data="0x" + data.hex(),
            function=function,
            arguments={name: _shown(value) for name, value in arguments},
            says=says,
        )

    def _whole(self, token: str, units: int) -> str:
        info = self.names[self._own(token)]
        whole, part = divmod(units, 10**info.decimals)
        digits = f"{part:0{info.decimals}d}".rstrip("0") if info.decimals else ""
        return f"{whole}{'.' + digits if digits else ''} {info.symbol}"

    def _own(self, token: str) -> str:
        return next(name for name in self.names if same(name, token))

    def _teller(self, token: str) -> str:
        extras = self.source.extras(self.wanted.vault, self.found.block)
        tellers = self.source.tellers(self.wanted.vault, extras.timelock, self.found.block)
        found = next((t.teller for t in tellers if same(t.asset, token)), None)
        if found is None:
            raise Problem("cannot_plan", f"the vault has no teller for {token}")
        return found

    def _shares(self) -> int:
        return int(self._need("shares_units"))

    def _amount(self) -> int:
        return int(self._need("amount_units"))

    def _token(self) -> str:
        return self._need("token")

    def _need(self, name: str) -> str:
        value: str | None = getattr(self.wanted, name)
        if value is None:
            message = f"needed for {self.wanted.kind}"
            raise Problem(
                "invalid_request", f"{name}: {message}", errors=[{"field": name, "message": message}]
            )
        return value


def _types(function: str) -> list[str]:
    return [kind for kind in function[function.index("(") + 1 : -1].split(",") if kind]


def _value(value: Any) -> Any:
    return bytes.fromhex(value[2:]) if isinstance(value, str) and len(value) != 42 else value


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return str(value)
