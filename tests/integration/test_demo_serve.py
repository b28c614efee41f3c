"""`evenkeel demo --serve`: what the page shows a newcomer is there, and time goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
import structlog

from offchain.api import ChainSource, Options, create_app
from offchain.api.demo_wallet import DemoWallet
from offchain.demo import serve as demo
from offchain.policy import WAD
from tests.support.anvil import anvil
from tests.support.api import Client


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


def test_a_newcomer_finds_a_vault_a_teller_and_test_money(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "EVERY", 63)  # four days instead of eighteen
    with demo.staged(anvil) as stage:
        chain = stage.world.chain
        options = Options(wallet=DemoWallet(chain.web3, stage.wallet))
        client = Client(create_app(ChainSource(chain.web3, stage.places), options))
        config = client.get("/v1/config").json()
        vault = client.get(f"/v1/vaults/{config['default_vault']}").json()
        account = client.get(f"/v1/vaults/{vault['vault']}/accounts/{stage.wallet.address}").json()
        hub = config["hub"]["token"]
        quote = client.get(f"/v1/vaults/{vault['vault']}/quotes/zap-in?token={hub}&amount_units={10**9}")
        stop = threading.Event()
        monkeypatch.setattr(chain, "mine", lambda at: (mined.append(at), stop.set()))
        monkeypatch.setattr(demo, "BLOCK_SECONDS", 0)
        mined: list[int] = []
        demo._live(stage, stop)
        assert config["demo"]["wallet"] == stage.wallet.address and config["lens"]
    assert int(vault["nav_usd_wad"]) > 100_000 * WAD and vault["prices_usable"] is True
    assert [teller["asset"] for teller in vault["tellers"]] == [hub]
    assert len(account["balances"]) == 4 and all(int(row["units"]) > 0 for row in account["balances"])
    assert len(mined) == 1 and mined[0] > vault["block"]["time"]  # blocks go on
    assert quote.status_code == 200 and int(quote.json()["expected_shares_units"]) > 0
