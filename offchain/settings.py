"""Settings of the keeper and the command line: environment (`EVENKEEL_…`), then `evenkeel.toml`, then defaults.

A file `evenkeel_<setting>` in the folder that EVENKEEL_SECRETS_DIR names holds one setting, and comes before the TOML.
Nothing is signed unless a keystore is named. `ETH_RPC_URL` is accepted for the node's address.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from offchain.chain.contracts import address_of
from offchain.chain.errors import ConfigError
from offchain.chain.rpc_rules import is_address

__all__ = ["Settings", "StrategySettings", "VaultSettings", "load_settings"]

TOML_FILE = "evenkeel.toml"
SECRETS_FOLDER = "EVENKEEL_SECRETS_DIR"  # variable
YEAR = 366 * 86_400  # seconds: no wait is longer, and clocks take it


class StrategySettings(BaseModel):
    """A strategy that moves a vault's targets, and when: the `strategy` of a `[[vaults]]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description='as in a backtest: "min-variance" …, or a file of your own, mine.py:Class')
    data: dict[str, Any] = Field(description="where its history comes from, as [data] of a backtest")
    settings: dict[str, Any] = Field(default={}, description="arguments of the strategy")
    constraints: dict[str, Any] = Field(default={}, description="as [constraints] of a backtest")
    tokens: dict[str, str] = Field(
        default={}, description="token by the data's name of it, where that is not the token's symbol"
    )
    lookback: int | None = Field(
        default=None, ge=1, description="rows of history that it sees; default: all there are"
    )
    max_age_days: float = Field(
        default=7, gt=0, allow_inf_nan=False, description="of the history's last row; older: nothing is moved"
    )
    least_move_bps: int = Field(
        default=50,
        ge=1,
        le=20_000,
        description="of the path, the sum over all assets; less is not worth a step",
    )
    cron: str | None = Field(default=None, description="five-field cron line, when it decides")
    timezone: str = Field(default="UTC", description="of cron")
    interval_seconds: int = Field(default=86_400, ge=1, le=YEAR, description="when it decides, without cron")

    @field_validator("tokens")
    @classmethod
    def _are_addresses(cls, values: dict[str, str]) -> dict[str, str]:
        return {name: _checked(value) for name, value in values.items()}


class VaultSettings(BaseModel):
    """One of `vaults`; what is not set here is as in the settings for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str
    cron: str | None = None
    timezone: str | None = None
    interval_seconds: int | None = Field(default=None, ge=1, le=YEAR)
    on_block: bool | None = None
    on_price: bool | None = None
    trigger_blocks: int | None = Field(default=None, ge=1, le=64)
    strategy: StrategySettings | None = None

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return _checked(value)

    @model_validator(mode="after")
    def _one_rhythm(self) -> VaultSettings:
        if self.cron is not None and self.interval_seconds is not None:
            raise ValueError("cron and interval_seconds: set one of them")
        return self


def _table(value: Any) -> Any:
    return {"address": value} if isinstance(value, str) else value


class Settings(BaseSettings):
    """One typed settings class; every field's name is also its key in `evenkeel.toml`."""

    model_config = SettingsConfigDict(
        env_prefix="EVENKEEL_",
        toml_file=TOML_FILE,
        extra="forbid",
        populate_by_name=True,
        validate_default=False,
    )

    rpc_url: SecretStr = Field(
        default=SecretStr("http://127.0.0.1:8545"),
        validation_alias=AliasChoices("EVENKEEL_RPC_URL", "rpc_url", "ETH_RPC_URL"),
        description="the node's HTTP address",
    )
    rpc_urls: list[SecretStr] = Field(
        default=[],
        description="several nodes' HTTP addresses instead of rpc_url, the preferred first",
    )
    rpc_timeout_seconds: float = Field(
        default=20, gt=0, le=3_600, description="how long one request to the node may take"
    )
    rpc_max_lag_blocks: int = Field(
        default=5, ge=0, description="a node further than this from the newest block is not read from"
    )
    rpc_quorum: int | None = Field(
        default=None,
        ge=1,
        description="how many of rpc_urls must show the same before anything is sent; default: all that answer",
    )
    chain_id: int | None = Field(
        default=None, ge=1, description="the chain; nodes of another one are refused"
    )
    vault: str | None = Field(default=None, description="the vault to keep on target")
    vaults: list[Annotated[VaultSettings, BeforeValidator(_table)]] = Field(
        default=[],
        description="several vaults instead: addresses, or tables with an address and other settings for it",
    )
    factory: str | None = Field(
        default=None,
        description="a VaultFactory: a fleet keeps all its vaults for which the account has the keeper role",
    )
    executor: str | None = Field(default=None, description="the Executor contract that runs the swaps")
    hub: str | None = Field(
        default=None,
        description="a cash token that swaps may pass through, such as USDC; adds the single-pool plan to compare with",
    )
    native_token: str | None = Field(
        default=None, description="the wrapped native token, WETH; the vault's oracle prices gas with it"
    )
    native_price_usd: Decimal | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="USD a whole native token, to price gas where the oracle cannot",
    )
    keystore: Path | None = Field(
        default=None, description="encrypted account file; without it nothing is signed"
    )
    account: str | None = Field(default=None, description="a brownie account's name, instead of keystore")
    password_file: Path | None = Field(
        default=None, description="file with the password of keystore or account"
    )
    signer_url: SecretStr | None = Field(
        default=None, description="a signer's JSON-RPC address (web3signer, clef), instead of keystore"
    )
    signer_address: str | None = Field(default=None, description="the account that signer_url signs for")
    simulate_as: str | None = Field(
        default=None, description="the keeper's address, to simulate without a keystore"
    )
    dry_run: bool = Field(default=False, description="simulate only, never send")
    kill_switch: Path | None = Field(
        default=None, description="while this file exists nothing is signed or sent"
    )
    v2_factories: list[str] = Field(default=[], description="Uniswap V2 factories to look for pairs in")
    v3_factories: list[str] = Field(default=[], description="Uniswap V3 factories to look for pools in")
    v3_fees: list[Annotated[int, Field(gt=0, lt=10**6)]] = Field(
        default=[100, 500, 3000, 10000], description="V3 fee tiers, millionths"
    )
    v2_fee_bps: int = Field(default=30, ge=0, lt=10_000, description="fee of V2 pairs, basis points")
    closing_margin_bps: int = Field(
        default=10,
        ge=0,
        le=10_000,
        description="of NAV: a trade aims to end so far inside the drifts at which the session closes",
    )
    aggregators: list[str] = Field(
        default=[],
        description="venues whose quotes are compared with the own route: 0x, 1inch, cow, uniswapx",
    )
    aggregator_urls: dict[str, str] = Field(
        default={}, description="other addresses of these venues' interfaces, by name"
    )
    aggregator_timeout_seconds: float = Field(
        default=5, gt=0, le=60, description="how long all quotes of one look may take"
    )
    aggregator_margin_bps: int = Field(
        default=2,
        ge=0,
        le=1_000,
        description="by how much of what it exchanges a quote must beat the own route",
    )
    allowed_targets: list[str] | None = Field(
        default=None,
        description="contracts besides pools that a payload may call or approve: venues' routers; default: any",
    )
    allowed_tokens: list[str] | None = Field(
        default=None, description="tokens that a payload may touch, the basket's own among them; default: any"
    )
    max_pool_share_bps: int | None = Field(
        default=5_000, ge=1, le=10_000, description="the most that a trade may take of what a pool holds"
    )
    daily_spend_limit_usd: Decimal | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="gas and NAV that rebalances of a vault may cost in 24 hours, US dollars",
    )
    market_source: str | None = Field(
        default=None, description="an exchange by its ccxt name, whose prices the oracle's are compared with"
    )
    market_symbols: dict[str, str] = Field(
        default={}, description="the exchange's symbols by token address, quoted in dollars"
    )
    market_deviation_bps: int = Field(
        default=300,
        ge=1,
        le=10_000,
        description="nothing is traded while oracle and exchange are further apart",
    )
    market_when_away: Literal["wait", "trade"] = Field(
        default="wait", description="what to do while the exchange gives no prices"
    )
    market_max_age_seconds: int = Field(
        default=300, ge=1, description="an exchange's price that is older counts as none"
    )
    market_options: dict[str, Any] = Field(default={}, description="ccxt's own options", repr=False)
    interval_seconds: int = Field(
        default=60, ge=1, le=YEAR, description="seconds between two looks at the vault"
    )
    cron: str | None = Field(default=None, description="five-field cron line instead of the interval")
    timezone: str = Field(default="UTC", description="of cron, by its IANA name such as Europe/Berlin")
    on_block: bool = Field(default=False, description="look at each new block, too")
    on_price: bool = Field(default=False, description="look when a price of the vault's assets moved, too")
    poll_seconds: float = Field(
        default=2, gt=0, le=3_600, description="how often the node is asked for a new block"
    )
    ws_url: SecretStr | None = Field(
        default=None, description="a node's WebSocket address, ws://…, that tells of new blocks at once"
    )
    trigger_blocks: int = Field(
        default=1, ge=1, le=64, description="blocks that a band has to be broken before it is acted on"
    )
    deadline_seconds: int = Field(
        default=600, ge=1, le=YEAR, description="a transaction not mined by then is void"
    )
    receipt_timeout_seconds: float = Field(
        default=180, gt=0, le=86_400, description="how long to wait for a receipt"
    )
    gas_margin_percent: int = Field(default=60, ge=0, le=500, description="gas limit above the estimate")
    max_fee_gwei: float | None = Field(
        default=None, gt=0, le=10**9, description="never pay more than this a gas unit"
    )
    max_tip_gwei: float | None = Field(
        default=None, gt=0, le=10**9, description="never tip more than this a gas unit"
    )
    fee_percentile: int = Field(
        default=50, ge=1, le=99, description="the tip is what this share of recent blocks' gas paid less than"
    )
    replace_after_seconds: int = Field(
        default=60,
        ge=1,
        le=YEAR,
        description="chain time after which a waiting transaction is offered for more",
    )
    confirmations: int | None = Field(
        default=None, ge=1, description="blocks until a transaction counts as final; default by chain"
    )
    daily_gas_limit_native: Decimal | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="gas that the account may pay in 24 hours, whole native tokens",
    )
    private_rpc_url: SecretStr | None = Field(
        default=None, description="a private relay that gets transactions instead of the public node"
    )
    private_method: Literal["eth_sendRawTransaction", "eth_sendPrivateTransaction"] = Field(
        default="eth_sendRawTransaction", description="how the relay wants them"
    )
    public_after_blocks: int | None = Field(
        default=None, ge=1, description="blocks after which the public node gets them too; default: never"
    )
    database: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy address of the journal, postgresql+psycopg://…, instead of a file",
    )
    auction: str | None = Field(default=None, description="the Auction contract, for the filler")
    taker: str | None = Field(default=None, description="the filler's own Taker contract")
    min_profit_usd: Decimal = Field(
        default=Decimal(1), ge=0, allow_inf_nan=False, description="what a fill has to gain after gas"
    )
    journal: Path = Field(default=Path("evenkeel.sqlite"), description="the keeper's journal")
    log_json: bool = Field(default=False, description="log lines as JSON")
    metrics_port: int | None = Field(
        default=None, ge=1, le=65_535, description="port of /metrics, /healthz and /readyz; default: off"
    )
    metrics_address: str = Field(default="127.0.0.1", description="address that metrics_port is opened at")
    alert_webhook_url: SecretStr | None = Field(
        default=None, description="where alerts are posted as JSON; Slack and Mattermost understand them"
    )
    alert_repeat_seconds: int = Field(
        default=14_400, ge=60, description="an alert that goes on is sent again after this long"
    )
    alert_stuck_seconds: int = Field(
        default=900, ge=1, description="a transaction that waits for longer is an alert; chain time"
    )
    alert_block_age_seconds: int = Field(
        default=300, ge=1, description="a newest block that is older is an alert: node or chain stand still"
    )
    low_gas_multiple: float = Field(
        default=4, ge=1, le=10**6, description="alert below so many rebalances' gas on the account"
    )
    max_exceptions: int = Field(
        default=3, ge=1, description="looks in a row that end in an error before a vault's keeper pauses"
    )
    fleet_tick_seconds: int = Field(
        default=10, ge=1, le=60, description="seconds between two rounds of a fleet: who is due, who is gone"
    )
    fleet_looks: int = Field(default=4, ge=1, le=64, description="looks that a worker takes at the same time")
    fleet_timeout_seconds: int = Field(
        default=60, ge=5, description="a worker that has been silent for so long loses its vaults to others"
    )
    fleet_worker: str | None = Field(
        default=None, max_length=100, description="the worker's name in reports; default: host and process"
    )

    lens: str | None = Field(default=None, description="the VaultLens contract: many vaults in one call")
    zap: str | None = Field(
        default=None, description="the Zap contract: deposits and redemptions in one token"
    )
    api_address: str = Field(default="127.0.0.1", description="address that `evenkeel serve` listens at")
    api_port: int = Field(
        default=8080, ge=0, le=65_535, description="its port; 0: a free one, which it prints"
    )
    api_hosts: list[str] = Field(
        default=[], description="host names that the API answers to; at a loopback address its own are added"
    )
    api_proxies: list[str] = Field(
        default=[],
        description="addresses or networks of proxies whose X-Forwarded-For names the client; empty: of none",
    )
    api_cors_origins: list[str] = Field(
        default=[], description="other sites, https://…, whose pages may read the API"
    )
    api_requests_per_minute: int = Field(default=600, ge=1, description="requests of one client to the API")
    api_quotes_per_minute: int = Field(default=60, ge=1, description="plans and quotes of one client")
    api_rpc_calls_per_minute: int = Field(
        default=3_000, ge=1, description="calls of one client that are passed on to the node"
    )
    api_from_block: int = Field(
        default=0,
        ge=0,
        description="no vault is older; where the node keeps no old states, events are read from here",
    )
    api_high_impact_bps: int = Field(
        default=100, ge=0, le=10_000, description="cost of a zap above which the page asks for typed consent"
    )
    api_blocked_impact_bps: int = Field(
        default=500, ge=0, le=10_000, description="cost of a zap above which the page does not send it"
    )
    api_database: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy address of keys, webhooks and notes, instead of evenkeel-api.sqlite",
    )
    api_webhook_private: bool = Field(
        default=False, description="webhooks may go to private addresses, and by http"
    )

    @field_validator(
        "vault",
        "factory",
        "zap",
        "lens",
        "executor",
        "auction",
        "taker",
        "hub",
        "native_token",
        "simulate_as",
        "signer_address",
    )
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        return None if value is None else _checked(value)

    @field_validator("v2_factories", "v3_factories", "allowed_targets", "allowed_tokens")
    @classmethod
    def _are_addresses(cls, values: list[str] | None) -> list[str] | None:
        return None if values is None else [_checked(value) for value in values]

    @field_validator("api_proxies")
    @classmethod
    def _are_networks(cls, values: list[str]) -> list[str]:
        for value in values:
            try:
                ip_network(value)
            except ValueError:
                raise ValueError(f"{value!r} is no IP address or network such as 10.0.0.0/8") from None
        return values

    @field_validator("market_symbols")
    @classmethod
    def _are_by_address(cls, values: dict[str, str]) -> dict[str, str]:
        return {_checked(token): symbol for token, symbol in values.items()}

    @field_validator("fleet_tick_seconds")
    @classmethod
    def _divides_a_minute(cls, value: int) -> int:
        if 60 % value:
            raise ValueError(f"{value} does not divide a minute evenly: take 1, 2, 5, 10, 15, 30 or 60, say")
        return value

    @field_validator("alert_webhook_url", "signer_url", "private_rpc_url")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_address(value.get_secret_value()):
            raise ValueError("not an http:// or https:// address")  # the value is a secret
        return value

    @field_validator("ws_url")
    @classmethod
    def _is_web_socket(cls, value: SecretStr | None) -> SecretStr | None:
        start, _, rest = ("" if value is None else value.get_secret_value()).partition("://")
        if value is not None and (start not in ("ws", "wss") or not is_address(f"http://{rest}")):
            raise ValueError("not a ws:// or wss:// address")  # the value is a secret
        return value

    @field_validator("database", "api_database")
    @classmethod
    def _is_database(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None or "://" in value.get_secret_value():
            return value
        valid = "postgresql+psycopg://user@host/name"  # the value may hold a password
        if info.field_name == "database":
            raise ValueError(f"not an address such as {valid}; a file is named by the setting journal")
        raise ValueError(f"not an address such as {valid} or sqlite:///evenkeel-api.sqlite")

    @property
    def nodes(self) -> list[str]:
        """The nodes' addresses, the preferred first. They may hold keys: not for logs or errors."""
        return [url.get_secret_value() for url in self.rpc_urls or [self.rpc_url]]

    @model_validator(mode="after")
    def _one_way_to_nodes(self) -> Settings:
        if self.rpc_quorum is not None and self.rpc_quorum > max(len(self.rpc_urls), 1):
            raise ValueError(f"rpc_quorum: {self.rpc_quorum} is more than there are rpc_urls")
        ambient = os.environ.get("ETH_RPC_URL")
        named = "rpc_url" in self.model_fields_set and self.rpc_url.get_secret_value() != ambient
        if named and self.rpc_urls:
            raise ValueError("rpc_url and rpc_urls: set one of them")
        return self

    @model_validator(mode="after")
    def _one_way_to_vaults(self) -> Settings:
        listed = [vault.address for vault in self.vaults]
        if twice := [address for address in listed if listed.count(address) > 1]:
            raise ValueError(f"vaults: {twice[0]} is there twice")
        if self.vault is not None and listed and self.vault not in listed:
            raise ValueError(f"vault: {self.vault} is not one of vaults: add it there, or set one of the two")
        return self

    def kept(self) -> list[VaultSettings]:
        """The vaults to keep, each with its own settings and the general ones; of several only `vault`, if set."""
        listed = [table.address for table in self.vaults] if self.vault is None else [self.vault]
        return [self.of(address) for address in listed]

    def of(self, address: str) -> VaultSettings:
        """The settings of one vault, whether it has a table of its own or not."""
        tables = (table for table in self.vaults if table.address == address)
        return self._filled(next(tables, VaultSettings(address=address)))

    def _filled(self, table: VaultSettings) -> VaultSettings:
        own = table.cron is not None or table.interval_seconds is not None
        found = {
            name: value if (value := getattr(table, name)) is not None else getattr(self, name)
            for name in ("timezone", "on_block", "on_price", "trigger_blocks")
        }
        if not own:
            found |= {"cron": self.cron} if self.cron else {"interval_seconds": self.interval_seconds}
        return table.model_copy(update=found)

    @model_validator(mode="after")
    def _one_way_to_sign(self) -> Settings:
        named = [name for name in ("keystore", "account", "signer_url") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)}: set one of them")
        if self.password_file is not None and named not in (["keystore"], ["account"]):
            raise ValueError("password_file is set but keystore is not")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What the caller says, then the environment, files of secrets, the TOML file."""
        return init_settings, env_settings, file_secret_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from the environment and `config` (default: `evenkeel.toml` here, if there is one).

    Overrides that are None are left out. Raises ConfigError that names each wrong key.
    """
    path = config or Path(TOML_FILE)
    if config is not None and not config.is_file():
        raise ConfigError(f"config: no such file: {config}")

    class _Settings(Settings):
        model_config = SettingsConfigDict(**{**Settings.model_config, "toml_file": path})

    if overrides.get("rpc_url") is not None:
        overrides = {"rpc_urls": [], "rpc_quorum": 1} | overrides  # that one and no other
    try:
        return _Settings(
            _secrets_dir=_secrets_folder(),
            **{key: value for key, value in overrides.items() if value is not None},
        )
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{_not_text(path)}: not UTF-8 text: save it as UTF-8") from None
    except ValidationError as error:
        raise ConfigError("settings: " + "; ".join(_line(item) for item in error.errors())) from None
    except Exception as error:  # pydantic-settings wraps what it cannot parse in the environment
        if type(error).__name__ != "SettingsError":
            raise
        if isinstance(error.__cause__, UnicodeDecodeError):
            raise ConfigError(f"{_not_text(path)}: not UTF-8 text: save it as UTF-8") from None
        raise ConfigError(f"settings: {_not_json(str(error))}") from None


def _not_text(path: Path) -> str:
    """Which of the files that settings are read from is no UTF-8: the TOML, or one of the secrets."""
    folder = os.environ.get(SECRETS_FOLDER)
    for file in [path, *(sorted(Path(folder).iterdir()) if folder else [])]:
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return str(file)
        except OSError:
            continue
    return str(path)


def _not_json(words: str) -> str:
    """What pydantic-settings says of a variable (or a secret) that it cannot parse, with how it is written."""
    found = re.search(r'field "(\w+)"', words)
    name = found[1] if found else ""
    return f"{name}: not {_example(name)}" if name in Settings.model_fields else words


def _example(name: str) -> str:
    """How a setting with several values is written in TOML and, as JSON, in a variable."""
    default = Settings.model_fields[name].default
    if default == {}:
        return 'a table such as {"…": "…"}'
    return "a list such as " + (json.dumps(default) if default else '["…", "…"]')


def _secrets_folder() -> Path | None:
    """Where files hold settings, `evenkeel_database` for instance: a container's or systemd's secrets."""
    folder = os.environ.get(SECRETS_FOLDER)
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"{SECRETS_FOLDER}: there is no folder {folder}")
    return None if folder is None else Path(folder)


def _checked(value: str) -> str:
    try:
        return address_of(value, "address")
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _fields_beside(loc: tuple[int | str, ...]) -> Iterable[str]:
    """What may stand where the unknown key stands."""
    if "strategy" in loc[:-1]:
        return StrategySettings.model_fields
    return VaultSettings.model_fields if "vaults" in loc[:-1] else Settings.model_fields


def _line(error: Any) -> str:
    first, *rest = error["loc"] or ("",)
    first = "rpc_url" if first in ("EVENKEEL_RPC_URL", "ETH_RPC_URL") else first
    key = ".".join(str(part) for part in (first, *rest))
    message = error["msg"].removeprefix("Value error, ").removeprefix("address: ")
    if error["type"] == "extra_forbidden":
        known = _fields_beside(error["loc"])
        near = get_close_matches(str(error["loc"][-1]), known, 1)
        message = f"unknown key; did you mean {near[0]}?" if near else "unknown key"
    if error["type"] in ("list_type", "dict_type") and not rest:
        message = f"not {_example(key)}"
    return f"{key}: {message}" if key else message  # without a key the words name the settings
