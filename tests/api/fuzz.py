"""Schemathesis against the API on a local chain: `make test-api-fuzz` (EXAMPLES=n cases an operation, SEED=n again).

Two rounds: with whatever addresses it makes up, and with a vault, tokens and an account that are there. It has an
environment of its own, .venv/api-fuzz: brownie pins an older hypothesis than it needs.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from offchain.api import ChainSource, Options, Places, create_app
from offchain.api.edge import Rates
from offchain.api.routes import Limits
from offchain.api.serving import serving
from offchain.api.store import SCOPES, Store
from offchain.api.writes import writes
from offchain.keeper.journal import Journal
from offchain.keeper.market import Sources
from tests.support.demo_vault import FIRST, funded_vault, make_keeper

SCHEMATHESIS = Path(__file__).parents[2] / ".venv" / "api-fuzz" / "bin" / "schemathesis"
# A mistyped address is 400, a cursor of another list 422: schemas cannot say which strings those are.
ACCEPTED = '["2xx", "400", "401", "403", "404", "409", "422"]'
CONFIG = """\
[checks.positive_data_acceptance]
expected-statuses = {accepted}
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422"]
"""
KNOWN = """\
[parameters]
"path.vault" = "{vault}"
"path.account" = "{account}"
"query.token" = "{token}"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both rounds; 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=50, help="cases an operation and phase")
    parser.add_argument("--seed", type=int)
    chosen = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with funded_vault() as (world, vault), tempfile.TemporaryDirectory() as folder:
        chain = world.chain
        jump = list(FIRST.prices)
        jump[0] = jump[0] * 16 // 10
        world.set_market(replace(FIRST, prices=tuple(jump)))
        make_keeper(world, vault, Journal(":memory:")).once()
        sources = Sources(world.pool_source, world.executor.address, world.cash.address)
        places = Places(world.factory.address, None, world.zap.address, sources, (vault.address,))
        store = Store.open(Path(folder) / "api.sqlite")
        key = store.create_key("fuzz", SCOPES, 1)
        source = ChainSource(chain.web3, places)
        app = create_app(
            source,
            Options(
                limits=Limits(block_age_seconds=None),
                rates=Rates(10**7, 10**7, 10**7),
                routers=[writes(store, private=True)],
            ),
        )
        config = CONFIG.format(accepted=ACCEPTED)
        known = KNOWN.format(
            vault=vault.address, account=chain.accounts[6].address, token=world.tokens[0].address
        )
        with serving(app) as url:
            codes = [
                _run(url, Path(folder) / f"{name}.toml", text, key, chosen.examples, chosen.seed)
                for name, text in (("any", config), ("known", config + known))
            ]
    return max(codes)


def _run(url: str, file: Path, config: str, key: str, examples: int, seed: int | None) -> int:
    file.write_text(config)
    command = [str(SCHEMATHESIS), "--config-file", str(file), "run", f"{url}/openapi.json", "--checks", "all"]
    command += [
        "--max-examples",
        str(examples),
        "--header",
        f"Authorization: Bearer {key}",
        "--warnings",
        "off",
    ]
    command += ["--continue-on-failure", "--no-color", "--request-timeout", "60"]
    command += [] if seed is None else ["--seed", str(seed)]
    print(f"round {file.stem}", flush=True)
    return subprocess.run(command, check=False, cwd=file.parent).returncode


if __name__ == "__main__":
    sys.exit(main())
