"""`evenkeel serve`, `evenkeel api key`, and the client example: several chains in one table."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from typer.testing import CliRunner

from examples.wealth_platform import main as wealth_platform
from offchain.api import Options, create_app
from offchain.api.edge import Rates
from offchain.api.serving import host_names, listening, places_from, serving, url_of
from offchain.api.store import Store
from offchain.chain.errors import ConfigError
from offchain.cli import app as cli
from offchain.settings import load_settings
from tests.support.api import CASH, EXECUTOR, HOLDER, HUB, VAULT, ZAP, FakeSource, address, vault_state


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


def test_a_wealth_platform_sees_vaults_of_several_chains_in_one_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stale = FakeSource(chain_id=8_453, state=vault_state(statuses=(5, 0, 0)))
    with serving(create_app(FakeSource())) as one, serving(create_app(stale)) as two:
        assert wealth_platform([one, f"{two}/", "--account", HOLDER]) == 0
        shown = capsys.readouterr().out
        assert wealth_platform([one, "http://127.0.0.1:1"]) == 1
        partly = capsys.readouterr().out
    assert "31337" in shown and "8453" in shown and "100,000.00" in shown and "1,000.00" in shown
    assert (
        "a price is not usable" in shown and "?" in shown and "0.00 USD" not in shown.replace("1,000.00", "")
    )
    assert "and what is not known" in shown
    assert "not asked" in partly and "100,000.00" in partly


def test_keys_are_made_listed_and_revoked() -> None:
    run = CliRunner()
    made = run.invoke(cli, ["api", "key", "create", "--name", "crm [x]", "--scope", "notes:read"])
    assert made.exit_code == 0 and made.stdout.startswith("ek_")
    number = made.stdout.split("_")[1]
    rows = json.loads(run.invoke(cli, ["api", "key", "list", "--json"]).stdout)
    assert [(r["id"], r["name"], r["scopes"], r["revoked_at"]) for r in rows] == [
        (number, "crm [x]", ["notes:read"], None)
    ]
    assert "crm [x]" in run.invoke(cli, ["api", "key", "list"]).stdout
    assert run.invoke(cli, ["api", "key", "revoke", number]).exit_code == 0
    assert Store.open(Path("evenkeel-api.sqlite")).key(made.stdout.strip()) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["api", "key", "create", "--name", "a", "--scope", "all"], "--scope: 'all' is none of notes:read"),
        (["api", "key", "create", "--name", "\n", "--scope", "notes:read"], "--name: 1 to 100 printable"),
        (["api", "key", "revoke", "nobody"], "no key 'nobody'"),
        (["serve", "--rpc-url", "http://127.0.0.1:1"], "no Ethereum node answers at http://127.0.0.1:1"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], says: str) -> None:
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code != 0 and says in found.stderr and len(found.stderr.strip().splitlines()) == 1


def test_a_database_that_cannot_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVENKEEL_API_DATABASE", "nonsense://user:hunter2@host/db")
    found = CliRunner().invoke(cli, ["api", "key", "list"])
    assert found.exit_code == 2 and "api_database" in found.stderr and "hunter2" not in found.stderr


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = f"api_address, api_port: cannot listen at 127.0.0.1:{port}"
        with pytest.raises(ConfigError, match=taken), listening("127.0.0.1", port):
            pass
    with listening("127.0.0.1", 0) as free:
        assert url_of(free) == f"http://localhost:{free.getsockname()[1]}"


def test_at_a_loopback_address_only_own_names_are_answered_to() -> None:
    assert host_names("127.0.0.1", []) == ["localhost", "127.0.0.1", "[::1]"]
    assert host_names("127.0.0.1", ["vaults.example"])[-1] == "vaults.example"
    assert host_names("0.0.0.0", []) == [] and host_names("0.0.0.0", ["vaults.example"]) == ["vaults.example"]


def test_the_settings_name_the_deployment(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(
        f'vaults = ["{address(9)}", "{VAULT}"]\nzap = "{ZAP}"\nexecutor = "{EXECUTOR}"\n'
        f'hub = "{HUB}"\nfactory = "{CASH}"\napi_from_block = 7\n'
    )
    places = places_from(load_settings(file))
    assert places.vaults == (address(9), VAULT) and places.sources.hub == HUB
    assert (places.zap, places.executor, places.factory, places.from_block) == (ZAP, EXECUTOR, CASH, 7)
    assert places_from(load_settings(vault=VAULT)).vaults == (VAULT,)


@pytest.mark.parametrize(("proxies", "answers"), [([], [200, 429]), (["127.0.0.0/8"], [200, 200])])
def test_who_the_client_is_says_a_proxy_of_the_settings_only(
    proxies: list[str], answers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a made-up X-Forwarded-For would be a fresh allowance with every request."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    settings = load_settings(api_proxies=proxies)
    app = create_app(FakeSource(), Options(rates=Rates(requests=1)))
    with serving(app, proxies=settings.api_proxies) as url:
        told = [
            httpx.get(f"{url}/v1/vaults", headers={"x-forwarded-for": f"9.9.9.{n}"}).status_code
            for n in (1, 2)
        ]
    assert told == answers


@pytest.mark.parametrize("wrong", ["*", "proxy.example", "10.0.0.1/8"])
def test_a_proxy_that_is_no_address_is_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match="api_proxies"):
        load_settings(api_proxies=[wrong])
