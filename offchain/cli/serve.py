"""`evenkeel serve` and `evenkeel api …`: the REST API and the page."""

from __future__ import annotations

from typing import Annotated

import typer

from offchain.chain.errors import ConfigError
from offchain.cli.common import ConfigOption, RpcOption, connect, plain_errors, settings_of

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog="Example:  evenkeel serve --port 8080 --rpc-url http://127.0.0.1:8545")
@plain_errors
def serve(
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen at \\[setting: api_address].")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help="Port; 0: a free one \\[setting: api_port]."),
    ] = None,
    rpc_url: RpcOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve the page and the REST API for one chain, until Ctrl-C. Prints the address to open.

    It reads only: it holds no key and signs nothing. Behind a proxy, let the proxy speak TLS.
    """
    need_api()
    from offchain.api.serving import app_from, listening, url_of
    from offchain.api.serving import serve as run

    settings = settings_of(config, rpc_url=rpc_url, api_address=host, api_port=port)
    application = app_from(settings, connect(settings))
    with listening(settings.api_address, settings.api_port) as listener:
        typer.echo(url_of(listener))
        try:
            run(application, listener)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)


def need_api() -> None:
    """ConfigError where the packages of the extra `api` are not installed."""
    try:
        import fastapi  # noqa: F401
        import limits  # noqa: F401
        import standardwebhooks  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        missing = (error.name or "a package").partition(".")[0]
        raise ConfigError(f"serve: {missing} is missing; install evenkeel[api]") from None
