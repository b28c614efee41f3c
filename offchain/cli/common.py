"""What every command shares: options, settings, the node, errors in one line."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TextIO, TypeVar, cast

import requests
import structlog
import typer
from web3 import Web3
from web3.exceptions import Web3Exception

from offchain.chain.errors import ConfigError
from offchain.chain.sender import revert_reason
from offchain.errors import EvenkeelError
from offchain.extras import how_to_install
from offchain.settings import Settings, load_settings

__all__ = [
    "EXIT_FAILED",
    "EXIT_USAGE",
    "ConfigOption",
    "DryRunOption",
    "JsonOption",
    "RpcOption",
    "VaultArgument",
    "VaultOption",
    "connect",
    "fail",
    "plain_errors",
    "settings_of",
]

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED = 1  # the thing asked for did not happen
EXIT_USAGE = 2  # a setting or argument is wrong

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with settings \\[default: evenkeel.toml]"),
]
RpcOption = Annotated[str | None, typer.Option("--rpc-url", help="Address of the node, http://… .")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
VaultArgument = Annotated[str, typer.Argument(metavar="VAULT", help="Address of the vault.")]
VaultOption = Annotated[str | None, typer.Option("--vault", help="Address of the vault \\[setting: vault].")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Read, plan and simulate, but send nothing.")]


def plain_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user or a node can get wrong into one line on stderr and a non-zero exit."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except EvenkeelError as error:
            fail(
                str(error),
                EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED,
                getattr(error, "tx_hash", None),
            )
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            fail(
                f"rpc_url: the node does not answer ({type(error).__name__}); is it running, and is the address right?"
            )
        except Web3Exception as error:
            fail(f"the node's answer cannot be used: {revert_reason(error)}")
        except ModuleNotFoundError as error:
            fail(how_to_install(error), EXIT_USAGE)
        except OSError as error:
            fail(f"{error.filename or 'file'}: {error.strerror or error}")

    return wrapped


def fail(message: str, code: int = EXIT_FAILED, tx_hash: str | None = None) -> NoReturn:
    """End with this message on stderr and this exit code; a transaction's hash is printed all the same."""
    if tx_hash:
        typer.echo(tx_hash)
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


def settings_of(config: Path | None, **overrides: Any) -> Settings:
    """The settings, with what the command line says; logs go to stderr."""
    settings = load_settings(config, **overrides)
    _log_to_stderr(settings.log_json)
    return settings


def connect(settings: Settings, *, check: bool = True) -> Web3:
    """The settings' node or nodes; ConfigError if, with `check`, none answers."""
    from offchain.chain.rpc import nodes_from

    nodes = nodes_from(settings)
    if check and not nodes.is_connected():
        where = " or ".join(node.url for node in nodes.status())
        raise ConfigError(
            f"{'rpc_urls' if settings.rpc_urls else 'rpc_url'}: no Ethereum node answers at {where}"
        )
    web3 = Web3(nodes)
    web3.middleware_onion.remove(
        "validation"
    )  # asks for the chain's id twice with every call; Nodes knows it
    return web3


class _Stderr:
    """Whatever stderr is at the time. A line that it does not take, on a full disk or into a pipe that nobody reads,
    is lost: a keeper that cannot say something goes on.
    """

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


_STDERR = _Stderr()  # one: structlog keeps a lock for each file


def _log_to_stderr(as_json: bool) -> None:
    # Tracebacks without the values of variables: one of them may be a key.
    plain = structlog.dev.plain_traceback
    renderers = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(cast(TextIO, _STDERR)),
        cache_logger_on_first_use=False,
    )
