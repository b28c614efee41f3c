"""The command line: a thin skin on the library. Results on stdout, talk on stderr, non-zero exit on failure."""

from __future__ import annotations

import typer

from offchain import __version__
from offchain.cli import audit, config, filler, fleet, keeper, research, serve, tax, vault

__all__ = ["app", "main"]

app = typer.Typer(
    help="Keeps on-chain baskets at their target weights.\n\n"
    "Settings come from EVENKEEL_… variables (EVENKEEL_RPC_URL or ETH_RPC_URL for the node) and from evenkeel.toml.",
    epilog="Start with:  evenkeel demo   then   evenkeel status VAULT --rpc-url URL",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(vault.app)
app.add_typer(keeper.app, name="keeper")
app.add_typer(fleet.app, name="fleet")
app.add_typer(filler.app)
app.add_typer(audit.app, name="audit")
app.add_typer(tax.app, name="tax")
app.add_typer(config.app, name="config")
app.add_typer(serve.app)
app.add_typer(research.app)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of the `evenkeel` command."""
    app()
