"""From settings to a server that answers: what `evenkeel serve` and `evenkeel demo --serve` run."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import uvicorn
from fastapi import FastAPI
from web3 import Web3

from offchain.api.app import Options, create_app
from offchain.api.edge import Rates
from offchain.api.routes import Limits
from offchain.api.source import ChainSource, Places
from offchain.api.store import FILE, Store
from offchain.api.webhooks import Courier
from offchain.api.writes import writes
from offchain.chain.errors import ConfigError
from offchain.keeper.market import Sources
from offchain.settings import Settings

__all__ = [
    "app_from",
    "host_names",
    "listening",
    "options_from",
    "places_from",
    "sending",
    "serve",
    "serving",
    "store_from",
    "url_of",
]

CONFIRMATIONS = 3  # blocks that hold an event before webhooks hear of it


def places_from(settings: Settings) -> Places:
    """The deployment that the settings name."""
    named = [settings.vault] if settings.vault else []
    named += [vault.address for vault in settings.vaults]
    return Places(
        factory=settings.factory,
        lens=settings.lens,
        zap=settings.zap,
        sources=Sources.from_settings(settings),
        vaults=tuple(dict.fromkeys(named)),
        from_block=settings.api_from_block,
    )


def options_from(settings: Settings) -> Options:
    """How the settings want it served."""
    return Options(
        limits=Limits(
            high_impact_bps=settings.api_high_impact_bps,
            blocked_impact_bps=settings.api_blocked_impact_bps,
            block_age_seconds=settings.alert_block_age_seconds,
        ),
        rates=Rates(
            settings.api_requests_per_minute,
            settings.api_quotes_per_minute,
            settings.api_rpc_calls_per_minute,
        ),
        hosts=host_names(settings.api_address, settings.api_hosts),
        origins=settings.api_cors_origins,
    )


def app_from(settings: Settings, web3: Web3) -> tuple[FastAPI, Courier]:
    """The application of these settings, and who sends its webhooks."""
    source, store = ChainSource(web3, places_from(settings)), store_from(settings)
    routes = writes(store, private=settings.api_webhook_private)
    app = create_app(source, replace(options_from(settings), routers=(routes,)))
    blocks = settings.confirmations or CONFIRMATIONS
    return app, Courier(source, store, blocks, private=settings.api_webhook_private)


def store_from(settings: Settings) -> Store:
    """Where keys, webhooks and notes are."""
    return Store.open(settings.api_database.get_secret_value() if settings.api_database else FILE)


def host_names(address: str, named: list[str]) -> list[str]:
    """The names that are answered to: at a loopback address its own, so that no site can point a name at it."""
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = address == "localhost"
    own = ["localhost", "127.0.0.1", "[::1]"] if loopback else []
    return [*own, *named] if loopback or named else []


@contextmanager
def sending(courier: Courier) -> Iterator[None]:
    """Webhooks are sent, in a thread, while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=courier.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@contextmanager
def listening(address: str, port: int) -> Iterator[socket.socket]:
    """A socket at the address; port 0: a free one. ConfigError where it cannot be had."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"api_address, api_port: cannot listen at {address}:{port}: {why}") from None
        yield listener


def url_of(listener: socket.socket) -> str:
    """Where a browser finds it."""
    address, port = listener.getsockname()[:2]
    host = "localhost" if address in ("0.0.0.0", "::", "127.0.0.1") else address
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(app: FastAPI, listener: socket.socket, proxies: Sequence[str] = ()) -> None:
    """Answer until SIGINT or SIGTERM. `proxies`: whose word on the client's address counts (X-Forwarded-For)."""
    _server(app, proxies).run(sockets=[listener])


@contextmanager
def serving(app: FastAPI, address: str = "127.0.0.1", proxies: Sequence[str] = ()) -> Iterator[str]:
    """The application at a free port, in a thread, while the block runs: its URL. For tests."""
    with listening(address, 0) as listener:
        server = _server(app, proxies)
        started = threading.Event()
        thread = threading.Thread(target=_run, args=(server, listener, started.set), daemon=True)
        thread.start()
        started.wait(60)
        try:
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join(30)


class _Server(uvicorn.Server):
    """Says when it answers."""

    on_started: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()


def _server(app: FastAPI, proxies: Sequence[str]) -> _Server:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),  # never its default, nor what the environment says
    )
    return _Server(config)


def _run(server: _Server, listener: socket.socket, on_started: Callable[[], None]) -> None:
    server.on_started = on_started
    server.run(sockets=[listener])
