"""`evenkeel config check`: tries everything that the settings name, and says what is missing.

Nothing is signed or sent, and nothing is changed.

Each check gives findings: what was tried, whether it works, what was found and the setting to fix. What others say
(nodes, drivers, servers) is not repeated where it could hold an address with a key.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any

import requests
from eth_typing import BlockNumber, ChecksumAddress
from sqlalchemy import text
from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.exceptions import BadFunctionCallOutput, ContractLogicError

from offchain import policy
from offchain.aggregators import VENUES, venues
from offchain.chain.contracts import ERC20, ZERO, address_of, bind, bind_abi
from offchain.chain.errors import NODE_ERRORS, ChainError, ConfigError, TransactionError
from offchain.chain.lens import read_vaults
from offchain.chain.oracle import price_status
from offchain.chain.pools import PoolSource, discover
from offchain.chain.registry import batched, vaults_of
from offchain.chain.rpc import Nodes, WrongChain, nodes_from
from offchain.chain.rpc_rules import hidden
from offchain.chain.sender import ETHER, Sender
from offchain.chain.signer import METHOD_NOT_FOUND
from offchain.chain.vault import KEEPER_ROLE, STRATEGIST_ROLE, Snapshot, latest_block, read_vault
from offchain.errors import EvenkeelError
from offchain.extras import how_to_install
from offchain.keeper.database import SCHEMA, open_database, reading, version_of
from offchain.keeper.health import Limits, low_gas_wei
from offchain.keeper.market import Sources, need_factories, pairs, read_gas_price
from offchain.keeper.rhythm import Rhythm
from offchain.keeper.sanity import Limits as SanityLimits
from offchain.keeper.sanity import Sanity, market_refusal
from offchain.keeper.ticker import Ticker
from offchain.keeper.watch import AccountSeen, NodeSeen, words_of
from offchain.settings import SECRETS_FOLDER, Settings, StrategySettings

__all__ = ["Finding", "State", "check", "need_contracts"]

NODE_SECONDS = 8.0  # a node that takes longer is no use to a keeper
STATE_DEPTH = (
    64  # blocks back that the keeper may read state of (offchain.keeper.dispatch): no archive needed
)
SAMPLE = 3  # vaults of a factory that are looked at
TIMES = 5  # in a row, that a contract is not what it should be, before that is believed
NOT_SAID: tuple[type[Exception], ...] = (ChainError, WrongChain, *NODE_ERRORS)
CLOCK_SECONDS = 30  # by which this machine's clock may be behind the chain's
WEBHOOK_SECONDS = 10
OTHERS = {"auction": ("Auction", "grace_seconds"), "taker": ("Taker", "owner"), "zap": ("Zap", "executor")}
EXECUTE = "0x09c5eabe"  # execute(bytes), what the executor answers


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # it runs, but not as one would want
    FAILED = "failed"  # it does not run


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    what: str
    state: State
    said: str
    setting: str = ""  # the one to fix


@dataclass
class _Seen:
    """What earlier checks found, for the later ones."""

    settings: Settings
    web3: Web3 | None = None  # None: no node answers
    account: ChecksumAddress | None = None  # who signs, or simulate_as
    signs: bool = False
    snapshots: list[Snapshot] | None = None


def check(settings: Settings, *, send_test_alert: bool = False) -> list[Finding]:
    """Try all of it. A check that fails stops no other, unless there is nothing left to ask."""
    seen = _Seen(settings)
    found: list[Finding] = []
    local: list[tuple[str, str, Callable[[_Seen], Iterator[Finding]]]] = [
        ("environment", "", _environment),
        ("nodes", "rpc_url", _nodes),
        ("key", "keystore", _key),
        ("kill switch", "kill_switch", _kill_switch),
        ("database", "database", _database),
        ("metrics", "metrics_port", _metrics),
        ("alerts", "alert_webhook_url", lambda seen: _alerts(seen, send_test_alert)),
        ("schedule", "cron, timezone", _schedules),
        ("strategy", "vaults.strategy", _strategies),
        ("queue", "database", _queue),
        ("new blocks", "ws_url", _subscription),
        ("venues", "aggregators", _venues),
        ("private relay", "private_rpc_url", _relay),
    ]
    on_chain: list[tuple[str, str, Callable[[_Seen], Iterator[Finding]]]] = [
        ("vault", "vault", _vaults),
        ("registry", "factory", _registry),
        ("executor", "executor", _executor),
        ("contracts", "auction, taker, zap", _others),
        ("pools", "v2_factories, v3_factories", _pools),
        ("tokens", "hub, native_token", _tokens),
        ("lens", "lens", _lens),
        ("gas", "native_token, native_price_usd", _gas),
        ("market", "market_source", _market),
        ("limits", "", _limits),
    ]
    for what, setting, one in local:
        found += _tried(what, setting, one, seen)
    if seen.web3 is None:
        return [*found, Finding("chain", State.WARNING, "not asked about anything else: no node answers")]
    for what, setting, one in on_chain:
        found += _tried(what, setting, one, seen)
    return found


def need_contracts(settings: Settings, web3: Web3) -> None:
    """ConfigError where executor, lens or a vault of the settings is another contract, or none.

    A few calls, for the start. Where no node answers, or none of the right chain, nothing is found out. Nobody starts
    a keeper again that ends with this, so a node that garbles an answer now and then must not be the reason.
    """
    found = ""
    try:
        for _ in range(TIMES):
            if not (found := _wrong_contract(settings, web3)):
                return
    except NOT_SAID:
        return
    raise ConfigError(found)


def _wrong_contract(settings: Settings, web3: Web3) -> str:
    """The first address where there is not what the settings say; "" where all are right."""
    if settings.executor is not None:
        for finding in _executor(_Seen(settings, web3)):
            if finding.state == State.FAILED:
                return f"{finding.setting}: {finding.said}"
    for vault, _ in _named_vaults(settings):
        try:
            bind(web3, "Vault", vault).functions.head().call()
        except (BadFunctionCallOutput, ContractLogicError):
            return f"vault: {vault} does not answer head(): not a vault, or of another chain?"
    if settings.lens is not None:
        try:
            read_vaults(web3, settings.lens, [], latest_block(web3))
        except WrongChain:
            raise
        except ConfigError as error:
            return str(error)
    return ""


def _tried(
    what: str, setting: str, one: Callable[[_Seen], Iterator[Finding]], seen: _Seen
) -> Iterator[Finding]:
    """The check's findings, and its end as one where it is an error."""
    try:
        yield from one(seen)
    except ModuleNotFoundError as error:
        yield Finding(what, State.FAILED, how_to_install(error), setting)
    except Exception as error:
        words, named = words_of(error), setting
        start = words.split(":", 1)[0]
        if isinstance(error, ConfigError) and all(
            name.strip() in type(seen.settings).model_fields for name in start.split(",")
        ):
            named, words = start, words.split(":", 1)[1].strip()
        yield Finding(what, State.FAILED, words, named)


# ---------------------------------------------------------------- this machine


def _environment(seen: _Seen) -> Iterator[Finding]:
    """Variables that no setting is called like: the settings do not read them."""
    known = {f"EVENKEEL_{name.upper()}" for name in type(seen.settings).model_fields}
    known |= {SECRETS_FOLDER, *(venue.key_variable for venue in VENUES.values())}
    for name in sorted(os.environ):
        if name.upper().startswith("EVENKEEL_") and name.upper() not in known:
            near = get_close_matches(name.upper(), known, 1)
            yield Finding(
                "environment",
                State.WARNING,
                f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""),
                near[0].removeprefix("EVENKEEL_").lower() if near else "",
            )


def _key(seen: _Seen) -> Iterator[Finding]:
    settings = seen.settings
    for name in ("keystore", "password_file"):
        path: Path | None = getattr(settings, name)
        if path is not None and path.is_file() and path.stat().st_mode & 0o077:
            yield Finding("key", State.WARNING, f"{path} can be read by others: chmod 600", name)
    sender = Sender.from_settings(Web3(), settings)
    if sender.account is None:
        if settings.simulate_as is not None:
            seen.account = address_of(settings.simulate_as, "simulate_as")
        said = "nothing is signed: no key is named" + (
            f"; simulated as {seen.account}" if seen.account else ""
        )
        yield Finding("key", State.WARNING, said, "keystore, account or signer_url")
        return
    seen.account, seen.signs = sender.account.address, True
    if settings.signer_url is not None:
        yield _signer(settings.signer_url.get_secret_value(), seen.account)
        return
    yield Finding("key", State.OK, f"opens; the account is {seen.account}")


def _signer(url: str, account: str) -> Finding:
    """Whether the signer answers and has the account. It is not asked to sign anything."""
    for method in ("eth_accounts", "account_list"):  # web3signer and nodes; clef
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": []}
        try:
            answer = requests.post(url, json=body, timeout=NODE_SECONDS, allow_redirects=False).json()
        except (requests.RequestException, ValueError) as error:
            return Finding(
                "key", State.FAILED, f"the signer does not answer ({type(error).__name__})", "signer_url"
            )
        listed = answer.get("result") if isinstance(answer, dict) else None
        if isinstance(listed, list):
            has = account.lower() in {str(one).lower() for one in listed}
            if has:
                return Finding("key", State.OK, f"the signer answers and has {account}")
            return Finding("key", State.FAILED, f"the signer does not have {account}", "signer_address")
        error_code = (answer.get("error") or {}).get("code") if isinstance(answer, dict) else None
        if error_code != METHOD_NOT_FOUND:
            break
    return Finding("key", State.WARNING, f"the signer answers, but does not say whether it has {account}")


def _kill_switch(seen: _Seen) -> Iterator[Finding]:
    settings, path = seen.settings, seen.settings.kill_switch
    if settings.dry_run:
        yield Finding("sending", State.WARNING, "dry run: nothing is sent", "dry_run")
    if path is None:
        yield Finding("kill switch", State.WARNING, "no file is named that stops all sending", "kill_switch")
    elif path.exists():
        yield Finding(
            "kill switch", State.WARNING, f"{path} exists: nothing is signed or sent", "kill_switch"
        )
    elif not path.parent.is_dir():
        yield Finding("kill switch", State.FAILED, f"there is no folder {path.parent}", "kill_switch")
    else:
        yield Finding("kill switch", State.OK, f"off; `touch {path}` stops all sending")


def _database(seen: _Seen) -> Iterator[Finding]:
    settings = seen.settings
    if settings.database is None:
        yield from _file(settings.journal)
        return
    version = version_of(settings.database.get_secret_value())
    if _is_newer(version):
        said = f"PostgreSQL answers; written by a newer evenkeel (schema {version}): upgrade the program"
        yield Finding("database", State.FAILED, said, "database")
    elif version == SCHEMA:
        yield Finding("database", State.OK, f"PostgreSQL answers; schema {version}")
    else:
        said = "has no tables yet" if version is None else f"has schema {version}, this program {SCHEMA}"
        yield Finding("database", State.OK, f"PostgreSQL answers; {said}: the keeper migrates at its start")


def _file(path: Path) -> Iterator[Finding]:
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield Finding("database", State.FAILED, f"cannot write in {folder}", "journal")
        return
    if not path.exists():
        yield Finding("database", State.OK, f"{path} will be made by the keeper at its start")
        return
    version = version_of(path)
    if _is_newer(version):
        said = f"{path} was written by a newer evenkeel (schema {version}): upgrade the program"
        yield Finding("database", State.FAILED, said, "journal")
        return
    in_use = "; a keeper uses it now" if _is_locked(path) else ""
    said = f"{path}, schema {version}" if version == SCHEMA else f"{path}, migrated at the keeper's start"
    yield Finding("database", State.OK, said + in_use)


def _is_newer(version: str | None) -> bool:
    """Whether `keeper run` would refuse the database for its schema."""
    return version is not None and version > SCHEMA


def _is_locked(path: Path) -> bool:
    """A keeper has this journal open."""
    try:
        with path.with_name(path.name + ".lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    return False


def _metrics(seen: _Seen) -> Iterator[Finding]:
    settings, port = seen.settings, seen.settings.metrics_port
    if port is None:
        yield Finding("metrics", State.WARNING, "off: no metrics, no health page", "metrics_port")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.metrics_address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and settings.database is None and _is_locked(settings.journal):
                yield Finding("metrics", State.OK, f"port {port} is in use, as is the journal: by a keeper")
                return
            said = f"cannot open {settings.metrics_address}:{port}: {error.strerror}"
            yield Finding("metrics", State.FAILED, said, "metrics_port, metrics_address")
            return
    yield Finding("metrics", State.OK, f"{settings.metrics_address}:{port} is free")


def _alerts(seen: _Seen, send: bool) -> Iterator[Finding]:
    url = seen.settings.alert_webhook_url
    if url is None:
        yield Finding(
            "alerts", State.WARNING, "off: nobody is told when something is wrong", "alert_webhook_url"
        )
        return
    if not send:
        yield Finding("alerts", State.OK, "an address is set; --send-test-alert tries it")
        return
    message = {"kind": "test", "status": "test", "text": "[test] evenkeel config check: alerts arrive here"}
    try:
        answer = requests.post(
            url.get_secret_value(), json=message, timeout=WEBHOOK_SECONDS, allow_redirects=False
        )
    except requests.RequestException as error:
        yield Finding("alerts", State.FAILED, f"no answer ({type(error).__name__})", "alert_webhook_url")
        return
    taken = 200 <= answer.status_code < 300
    said = "the test alert was taken" if taken else f"HTTP {answer.status_code}"
    yield Finding("alerts", State.OK if taken else State.FAILED, said, "" if taken else "alert_webhook_url")


def _schedules(seen: _Seen) -> Iterator[Finding]:
    """Cron lines and time zones, as `keeper run` reads them."""
    tables = seen.settings.kept() or [seen.settings.of(ZERO)]  # of a factory's vaults: what is for all
    rhythms: dict[tuple[Any, ...], list[str]] = {}
    for one in tables:
        key = (one.interval_seconds, one.cron, one.timezone or "UTC", bool(one.on_block), bool(one.on_price))
        rhythms.setdefault(key, []).append(one.address)
    for key, vaults in rhythms.items():
        of = f" of vault {vaults[0]}" if len(rhythms) > 1 else ""
        more = f" and {len(vaults) - 1} more" if of and len(vaults) > 1 else ""
        yield _rhythm(f"schedule{of}{more}", *key)


def _rhythm(what: str, *rhythm: Any) -> Finding:
    try:
        return Finding(what, State.OK, str(Rhythm(*rhythm)))
    except ConfigError as error:
        setting, _, words = str(error).partition(": ")
        return Finding(what, State.FAILED, words, setting)


def _strategies(seen: _Seen) -> Iterator[Finding]:
    """Each strategy is made, as at the start of `keeper run`; a history in files is read."""
    for vault in seen.settings.kept():
        if (strategy := vault.strategy) is None:
            continue
        what, setting = f"strategy of vault {vault.address}", "vaults.strategy"
        timed = _rhythm(what, strategy.interval_seconds, strategy.cron, strategy.timezone)
        if timed.state == State.FAILED:
            yield timed
        try:
            said = _strategy(strategy)
        except ModuleNotFoundError as error:
            yield Finding(what, State.FAILED, how_to_install(error), setting)
        except EvenkeelError as error:
            yield Finding(what, State.FAILED, words_of(error), setting)
        else:
            yield Finding(what, State.OK, f"{said}; {timed.said}" if timed.state == State.OK else said)


def _strategy(settings: StrategySettings) -> str:
    from offchain.data import load
    from offchain.keeper.targets import FromHistory

    made = FromHistory.of(settings)
    if made.data.source not in ("csv", "parquet"):
        return f"{settings.name} is made; its history ({made.data.source}) was not asked for"
    market = load(made.data).market
    return f"{settings.name} is made; {len(market.dates)} rows of {', '.join(market.names)}"


def _queue(seen: _Seen) -> Iterator[Finding]:
    """What a fleet needs besides the journal: PostgreSQL, its packages, its queue."""
    if not _is_fleet(seen.settings):
        return
    from offchain.keeper.fleet import postgres_of

    address, found = postgres_of(seen.settings), False
    if version_of(address) == SCHEMA:
        engine = open_database(address)
        try:
            with reading(engine) as db:
                found = db.scalar(text("select to_regclass('procrastinate_jobs')")) is not None
        finally:
            engine.dispose()
    said = "is there" if found else "will be made by the first worker at its start"
    yield Finding("queue", State.OK, f"the fleet's queue {said}")


def _is_fleet(settings: Settings) -> bool:
    """Whether only a fleet could keep these vaults: a factory's, and not to fill their auctions."""
    return settings.factory is not None and not settings.kept() and settings.taker is None


def _subscription(seen: _Seen) -> Iterator[Finding]:
    if (url := seen.settings.ws_url) is None:
        return
    try:
        asyncio.run(_subscribe(url.get_secret_value()))
    except Exception as error:  # of whatever library: its words may hold the address
        said = f"no subscription ({type(error).__name__}): blocks are polled for"
        yield Finding("new blocks", State.WARNING, said, "ws_url")
    else:
        yield Finding("new blocks", State.OK, "the WebSocket tells of new blocks")


async def _subscribe(url: str) -> None:
    async with asyncio.timeout(NODE_SECONDS), AsyncWeb3(WebSocketProvider(url)) as web3:
        await web3.eth.subscribe("newHeads")


def _venues(seen: _Seen) -> Iterator[Finding]:
    settings = seen.settings
    if settings.aggregators:
        venues(settings.aggregators, settings.aggregator_urls, settings.aggregator_timeout_seconds)
        yield Finding("venues", State.OK, f"{', '.join(settings.aggregators)}: named and keyed; not asked")


def _relay(seen: _Seen) -> Iterator[Finding]:
    url = seen.settings.private_rpc_url
    if url is None:
        return
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    try:
        answer = requests.post(url.get_secret_value(), json=body, timeout=NODE_SECONDS, allow_redirects=False)
        answer.json()
    except (requests.RequestException, ValueError) as error:
        said = f"no answer in JSON ({type(error).__name__})"
        yield Finding("private relay", State.FAILED, said, "private_rpc_url")
        return
    yield Finding("private relay", State.OK, "answers; no transaction was sent to try it")


# ---------------------------------------------------------------- nodes


@dataclass(frozen=True)
class _Node:
    """What one node said."""

    name: str
    problem: str = ""
    chain_id: int = 0
    head: int = 0
    age: float = 0  # seconds, of its newest block by this machine's clock
    has_state: bool = True  # of STATE_DEPTH blocks ago


def _nodes(seen: _Seen) -> Iterator[Finding]:
    settings = seen.settings
    setting, urls = "rpc_urls" if settings.rpc_urls else "rpc_url", settings.nodes
    nodes_from(settings)  # the addresses' own mistakes
    with ThreadPoolExecutor(len(urls)) as pool:
        said = list(pool.map(lambda at: _ask(at[0], at[1], setting), enumerate(urls, 1)))
    answering = [node for node in said if not node.problem]
    expected = settings.chain_id or (answering[0].chain_id if answering else 0)
    newest = max((node.head for node in answering), default=0)
    usable = [node for node in answering if node.chain_id == expected]
    needed = settings.rpc_quorum or 1
    for node in said:
        yield _node_finding(node, setting, settings, expected, newest, len(usable) >= needed)
    if len(urls) > 1 and len(usable) < needed:
        yield Finding(
            "nodes", State.FAILED, f"{len(usable)} can be used, {needed} must agree", "rpc_quorum, rpc_urls"
        )
    if usable:
        seen.web3 = Web3(nodes_from(settings))
    if usable and settings.chain_id is None:
        yield Finding(
            "nodes", State.WARNING, f"set chain_id = {expected}: a wrong node is refused then", "chain_id"
        )


def _node_finding(
    node: _Node, setting: str, settings: Settings, expected: int, newest: int, enough: bool
) -> Finding:
    def finding(state: State, said: str, fix: str = "") -> Finding:
        return Finding(f"node {node.name}", state, said, fix)

    if node.problem:
        return finding(State.WARNING if enough else State.FAILED, node.problem, setting)
    if node.chain_id != expected:
        said = f"is of chain {node.chain_id}, not of {expected}"
        return finding(State.FAILED, said, "chain_id" if settings.chain_id else setting)
    said = f"chain {node.chain_id}, block {node.head}, {_span(node.age)} old"
    if newest - node.head > settings.rpc_max_lag_blocks:
        return finding(State.WARNING, f"{said}; {newest - node.head} blocks behind the others", setting)
    if node.age > settings.alert_block_age_seconds:
        return finding(
            State.WARNING, f"{said}: node or chain stand still", f"{setting}, alert_block_age_seconds"
        )
    if node.age < -CLOCK_SECONDS:
        return finding(
            State.WARNING, f"chain {node.chain_id}: this machine's clock is {_span(-node.age)} behind"
        )
    if not node.has_state:
        return finding(
            State.WARNING, f"{said}; it has forgotten the state of {STATE_DEPTH} blocks ago", setting
        )
    return finding(State.OK, f"{said}; has what is needed, no archive")


def _ask(position: int, url: str, setting: str) -> _Node:
    name = f"{position} ({hidden(url)})"
    nodes = Nodes([url], timeout_seconds=NODE_SECONDS, setting=setting)
    web3 = Web3(nodes)
    try:
        chain, block = web3.eth.chain_id, latest_block(web3)
    except Exception as error:
        return _Node(name, f"does not answer ({words_of(error).rpartition(': ')[2]})")
    finally:
        nodes.close()
    try:
        back = BlockNumber(max(block.number - STATE_DEPTH, 0))
        web3.eth.get_balance(Web3.to_checksum_address("0x" + "00" * 20), back)
        has_state = True
    except Exception:
        has_state = False
    finally:
        nodes.close()
    return _Node(name, "", chain, block.number, time.time() - block.time, has_state)


# ---------------------------------------------------------------- the chain


def _vaults(seen: _Seen) -> Iterator[Finding]:
    web3, settings = _web3(seen), seen.settings
    named = _named_vaults(settings)
    seen.snapshots = []
    if not named and not getattr(settings, "factory", None):
        yield Finding("vault", State.FAILED, "none is named", "vault")
    for address, strategy in named:
        try:
            snapshot = read_vault(web3, address)
        except Exception as error:
            yield Finding(
                f"vault {address}", State.FAILED, words_of(error).removeprefix("vault: "), "vault, rpc_url"
            )
            continue
        seen.snapshots.append(snapshot)
        yield from _vault(seen, snapshot, strategy)


def _vault(seen: _Seen, snapshot: Snapshot, strategy: bool) -> Iterator[Finding]:
    state, what = snapshot.state, f"vault {snapshot.vault}"
    nav = policy.nav(state)
    yield Finding(what, State.OK, f"{len(state.assets)} assets, {nav / policy.WAD:,.2f} USD by its oracle")
    if snapshot.block.time < state.paused_until:
        yield Finding(what, State.WARNING, f"its guardian has it paused until {state.paused_until}")
    bad = [
        f"{asset.token} ({price_status(status)})"
        for i, (asset, status) in enumerate(zip(state.assets, state.statuses, strict=True))
        if status and i != policy.aside(state)
    ]
    if bad:
        yield Finding(what, State.WARNING, f"no trade while prices are not usable: {', '.join(bad)}")
    else:
        yield Finding(what, State.OK, "all prices of its oracle are usable")
    if seen.account is None:
        return
    roles = bind(_web3(seen), "Vault", snapshot.vault).functions.roles(seen.account).call()
    keeps = seen.settings.taker is None  # a filler needs no role
    for name, role, wanted in (("keeper", KEEPER_ROLE, keeps), ("strategist", STRATEGIST_ROLE, strategy)):
        if roles & role:
            yield Finding(what, State.OK, f"{seen.account} has the {name} role")
        elif wanted:
            yield Finding(
                what,
                State.FAILED,
                f"{seen.account} lacks the {name} role: the admin queues set_role at the Timelock",
                "keystore, account, signer_address or simulate_as",
            )


def _named_vaults(settings: Settings) -> list[tuple[str, bool]]:
    """(address, whether a strategy moves its targets) of each vault that the settings name."""
    return [(one.address, one.strategy is not None) for one in settings.kept()]


def _registry(seen: _Seen) -> Iterator[Finding]:
    """The factory's vaults; the first of those that the account may keep are looked at like named ones."""
    settings, web3, account = seen.settings, _web3(seen), seen.account
    if settings.factory is None:
        return
    vaults = vaults_of(web3, settings.factory)
    yield Finding("registry", State.OK, f"{settings.factory} has {len(vaults)} vaults")
    if not _is_fleet(settings):
        return
    if account is None:
        said = "whose vaults? set the account with the keeper role"
        yield Finding("registry", State.FAILED, said, "keystore, account, signer_url or simulate_as")
        return
    roles = batched(web3, [bind(web3, "Vault", vault).functions.roles(account) for vault in vaults])
    mine = [vault for vault, held in zip(vaults, roles, strict=True) if int(held) & KEEPER_ROLE]
    said = f"{account} has the keeper role of {len(mine)} of them"
    if not mine:
        yield Finding("registry", State.FAILED, said, "factory, keystore, account or simulate_as")
        return
    yield Finding("registry", State.OK, f"{said}; looked at here: {min(len(mine), SAMPLE)}")
    seen.snapshots = []
    for vault in mine[:SAMPLE]:
        seen.snapshots.append(snapshot := read_vault(web3, vault))
        yield from _vault(seen, snapshot, False)


def _others(seen: _Seen) -> Iterator[Finding]:
    """The filler's contracts and the Zap are what the settings say."""
    for name, (contract, view) in OTHERS.items():
        address: str | None = getattr(seen.settings, name)
        if address is None:
            continue
        try:
            said = bind(_web3(seen), contract, address).get_function_by_name(view)().call()
        except (BadFunctionCallOutput, ContractLogicError):
            wrong = f"{address} does not answer {view}(): not the {contract}, or of another chain?"
            yield Finding(name, State.FAILED, wrong, name)
            continue
        if name == "taker" and seen.signs and said != seen.account:
            yield Finding(name, State.FAILED, f"{address} belongs to {said}, not to {seen.account}", name)
        else:
            yield Finding(name, State.OK, f"{address} answers")


def _executor(seen: _Seen) -> Iterator[Finding]:
    web3, executor = _web3(seen), seen.settings.executor
    if executor is None:
        yield Finding("executor", State.FAILED, "not set: nothing can be traded", "executor")
        return
    address = Web3.to_checksum_address(executor)
    if not web3.eth.get_code(address):
        yield Finding("executor", State.FAILED, f"no contract at {executor}", "executor")
        return
    try:
        said = bind(web3, "Executor", executor).functions.execute(b"").call()
    except (BadFunctionCallOutput, ContractLogicError):
        said = b""
    if "0x" + bytes(said).hex() != EXECUTE:
        yield Finding("executor", State.FAILED, f"{executor} does not answer as an executor", "executor")
        return
    yield Finding("executor", State.OK, f"{executor} answers")


def _pools(seen: _Seen) -> Iterator[Finding]:
    settings, web3 = seen.settings, _web3(seen)
    need_factories(settings)
    wanted = sorted(
        {
            (min(a, b), max(a, b))
            for snapshot in seen.snapshots or []
            for a, b in pairs(snapshot.state, settings.hub or "")
        }
    )
    total, newest = 0, latest_block(web3).number
    for version, factories in (("v2", settings.v2_factories), ("v3", settings.v3_factories)):
        for factory in factories:
            source = PoolSource(
                *(([factory], []) if version == "v2" else ([], [factory])), v3_fees=settings.v3_fees
            )
            setting = f"{version}_factories"
            if not web3.eth.get_code(Web3.to_checksum_address(factory)):
                yield Finding("pools", State.FAILED, f"no contract at {factory}", setting)
                continue
            try:
                known = len(
                    discover(web3, wanted or [(factory, settings.executor or factory)], source, newest)
                )
            except Exception as error:
                said = f"{factory} does not answer as a Uniswap {version.upper()} factory ({words_of(error)})"
                yield Finding("pools", State.FAILED, said, setting)
                continue
            total += known
            yield Finding("pools", State.OK, f"{factory}: {known} pools of these vaults' tokens")
    if wanted and not total:
        yield Finding(
            "pools", State.FAILED, "no pool trades these vaults' tokens", "v2_factories, v3_factories, hub"
        )


def _tokens(seen: _Seen) -> Iterator[Finding]:
    web3 = _web3(seen)
    for name in ("hub", "native_token"):
        address: str | None = getattr(seen.settings, name)
        if address is None:
            continue
        try:
            bind_abi(web3, ERC20, address).functions.decimals().call()
        except Exception:
            yield Finding(name, State.FAILED, f"{address} does not answer as a token", name)
            continue
        yield Finding(name, State.OK, f"{address} answers")


def _lens(seen: _Seen) -> Iterator[Finding]:
    lens = getattr(seen.settings, "lens", None)
    if not lens:
        return
    read_vaults(_web3(seen), lens, [], latest_block(_web3(seen)))  # ConfigError where it is another contract
    vaults = [snapshot.vault for snapshot in seen.snapshots or []][:1]
    readable, _ = bind(_web3(seen), "VaultLens", lens).functions.states(vaults).call()
    if all(readable):
        yield Finding("lens", State.OK, f"{lens} answers")
    else:
        yield Finding("lens", State.FAILED, f"{lens} cannot read {vaults[0]}", "lens")


def _gas(seen: _Seen) -> Iterator[Finding]:
    web3, settings = _web3(seen), seen.settings
    for snapshot in (seen.snapshots or [])[:1]:
        price = read_gas_price(web3, snapshot, Sources.from_settings(settings))
        if price.note:
            yield Finding("gas", State.WARNING, price.note, "native_token, native_price_usd, max_fee_gwei")
        else:
            said = (
                f"{price.wei / 10**9:g} gwei; the native token at {price.native_price / policy.WAD:,.2f} USD"
            )
            yield Finding("gas", State.OK, f"{said} ({price.source})")
    if seen.account is None or not seen.signs:
        return
    balance = web3.eth.get_balance(seen.account)
    limits = Limits(low_gas_multiple=settings.low_gas_multiple)
    try:
        most = Sender(web3, fee_percentile=settings.fee_percentile).fees().most
    except TransactionError:
        most = int(web3.eth.gas_price)
    node = NodeSeen(True, web3.eth.chain_id, gas_price=most)
    low = low_gas_wei(AccountSeen(node.chain_id or 0, seen.account, balance), None, node, limits) or 0
    said = f"{seen.account} has {balance / ETHER:.6f}; {settings.low_gas_multiple:g} rebalances: {low / ETHER:.6f}"
    state = State.FAILED if balance == 0 else State.WARNING if balance < low else State.OK
    yield Finding("gas", state, said, "" if state == State.OK else "fill the account up")


def _market(seen: _Seen) -> Iterator[Finding]:
    settings = seen.settings
    ticker = Ticker.from_settings(settings)
    if ticker is None:
        yield Finding(
            "market", State.WARNING, "the oracle is not compared with another source", "market_source"
        )
        return
    try:
        prices = ticker.prices()
    except ConnectionError as error:
        does = "trades" if settings.market_when_away == "trade" else "waits"
        yield Finding(
            "market", State.FAILED, f"{error}; the keeper {does} meanwhile", "market_source, market_symbols"
        )
        return
    limits = SanityLimits(market_deviation_bps=settings.market_deviation_bps)
    for snapshot in seen.snapshots or []:
        refusal = market_refusal(snapshot.state, prices, limits, ticker.name)
        tokens = [asset.token for asset in snapshot.state.assets]
        missing = [token for token in tokens if token.lower() not in {one.lower() for one in prices}]
        if refusal:
            yield Finding("market", State.WARNING, refusal.partition(": ")[2], "market_deviation_bps")
        elif missing:
            said = f"{ticker.name}: not compared for lack of a symbol: {', '.join(missing)}"
            yield Finding("market", State.WARNING, said, "market_symbols")
        else:
            yield Finding("market", State.OK, f"{ticker.name} agrees with the oracle on all prices")


def _limits(seen: _Seen) -> Iterator[Finding]:
    """The operator's own limits make sense, and fit the vaults."""
    settings = seen.settings
    Sanity.from_settings(_without_market(settings))
    allowed = settings.allowed_tokens
    for snapshot in seen.snapshots or []:
        missing = [
            asset.token
            for asset in snapshot.state.assets
            if allowed is not None and asset.token.lower() not in {one.lower() for one in allowed}
        ]
        if missing:
            said = f"tokens of {snapshot.vault} are not in the list: {', '.join(missing)}"
            yield Finding("limits", State.FAILED, said, "allowed_tokens")
    for name in ("daily_spend_limit_usd", "daily_gas_limit_native", "max_fee_gwei"):
        value: Decimal | float | None = getattr(settings, name)
        if value is None:
            yield Finding("limits", State.WARNING, "not limited", name)
        else:
            yield Finding("limits", State.OK, f"{name} = {value}")


def _without_market(settings: Settings) -> Settings:
    """The settings without the second market source, which has a check of its own."""
    return settings.model_copy(update={"market_source": None})


def _web3(seen: _Seen) -> Web3:
    assert seen.web3 is not None
    return seen.web3


def _span(seconds: float) -> str:
    whole = max(round(seconds), 0)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7_200 else f"{whole // 3_600} h"
