"""`evenkeel config check`, `show` and `example`: against a vault on anvil, with one thing wrong at a time."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import tomllib
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from typer.testing import CliRunner, Result
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.types import RPCEndpoint

from offchain.chain.errors import ConfigError
from offchain.cli import app
from offchain.cli.config import example_file
from offchain.demo.world import World
from offchain.keeper.check import TIMES, Finding, State, _signer, need_contracts
from offchain.keeper.journal import Journal
from offchain.settings import Settings, StrategySettings, VaultSettings, load_settings
from tests.support.demo_vault import funded_vault
from tests.support.evm import ROOT

NOBODY = "0x" + "00" * 19 + "99"


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    with funded_vault() as (world, vault):
        yield world, vault


@pytest.fixture
def settings(
    built: tuple[World, Contract], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What a keeper of this world needs."""
    world, vault = built
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETH_RPC_URL", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    keystore, password = tmp_path / "key.json", tmp_path / "password"
    keystore.write_text(json.dumps(Account.encrypt(world.keeper.key, "hush", kdf="pbkdf2", iterations=10)))
    password.write_text("hush\n")
    for file in (keystore, password):
        file.chmod(0o600)
    source = world.pool_source
    return {
        "rpc_url": world.chain.url,
        "chain_id": world.chain.web3.eth.chain_id,
        "vault": vault.address,
        "executor": world.executor.address,
        "hub": world.cash.address,
        "native_price_usd": 3_000,
        "keystore": str(keystore),
        "password_file": str(password),
        "kill_switch": str(tmp_path / "stop"),
        "v2_factories": list(source.v2_factories),
        "v3_factories": list(source.v3_factories),
        "v3_fees": list(source.v3_fees),
    }


def run(settings: dict[str, Any], *arguments: str) -> Result:
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if value is not None]
    Path("evenkeel.toml").write_text("\n".join(lines))
    return CliRunner().invoke(app, ["config", *arguments])


def check(settings: dict[str, Any], *arguments: str) -> tuple[int, list[Finding]]:
    result = run(settings, "check", "--json", *arguments)
    report = json.loads(result.stdout)
    found = [
        Finding(one["what"], State(one["state"]), one["said"], one["setting"] or "")
        for one in report["findings"]
    ]
    assert report["ok"] is (not any(one.state == State.FAILED for one in found))
    return result.exit_code, found


def of(found: list[Finding], what: str) -> list[Finding]:
    return [one for one in found if one.what.startswith(what)]


# ---------------------------------------------------------------- all is well


def test_a_keeper_that_can_run_passes(settings: dict[str, Any], built: tuple[World, Contract]) -> None:
    world, vault = built
    code, found = check(settings)
    assert code == 0 and not [one for one in found if one.state == State.FAILED]
    said = {(one.what, one.said) for one in found if one.state == State.OK}
    account = world.keeper.address
    assert ("key", f"opens; the account is {account}") in said
    assert (f"vault {vault.address}", f"{account} has the keeper role") in said
    assert (f"vault {vault.address}", "all prices of its oracle are usable") in said
    assert ("executor", f"{world.executor.address} answers") in said
    assert ("hub", f"{world.cash.address} answers") in said
    assert ("gas" in {what for what, _ in said}) and any("pools of these" in words for _, words in said)
    assert any(one.startswith("4 assets, ") for what, one in said if what == f"vault {vault.address}")


def test_nothing_is_made_or_sent_by_looking(settings: dict[str, Any], built: tuple[World, Contract]) -> None:
    web3 = built[0].chain.web3
    before = web3.eth.block_number
    check(settings)
    assert web3.eth.block_number == before
    assert sorted(path.name for path in Path().iterdir()) == ["evenkeel.toml", "key.json", "password"]


def test_a_journal_in_use_is_seen(settings: dict[str, Any], tmp_path: Path) -> None:
    Journal(tmp_path / "evenkeel.sqlite").close()
    (one,) = of(check(settings)[1], "database")
    assert one.state == State.OK and "schema " in one.said and "uses it now" not in one.said


def test_the_table_is_for_people(settings: dict[str, Any], built: tuple[World, Contract]) -> None:
    result = run(settings | {"executor": NOBODY}, "check")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if "no contract at" in line]
    assert line.split()[:2] == ["failed", "executor"] and line.split()[-1] == "executor"
    assert result.stdout.splitlines()[-1].startswith("1 failed, ")


# ---------------------------------------------------------------- one thing is wrong


Wrong = tuple[
    str, Any, str, str, str, State
]  # setting, value; what is said of which line, the setting to fix


def wrong(name: str, value: Any, what: str, said: str, fix: str = "", state: State = State.FAILED) -> Wrong:
    return name, value, what, said, fix or name, state


AT_ONCE: dict[str, list[Wrong]] = {  # mistakes that do not hide each other: each line of the table is by itself
    "not there": [
        wrong("executor", NOBODY, "executor", "no contract at"),
        wrong("v2_factories", [NOBODY], "pools", "no contract at"),
        wrong("v3_factories", [NOBODY], "pools", "no contract at"),
        wrong("hub", NOBODY, "hub", "does not answer as a token"),
        wrong("password_file", "nowhere", "key", "cannot read nowhere"),
        wrong("kill_switch", "no/such/stop", "kill switch", "there is no folder no/such"),
        wrong("journal", "no/such/file.sqlite", "database", "cannot write in no/such"),
        wrong("metrics_address", "192.0.2.1", "metrics", "cannot open 192.0.2.1:", "metrics_port, metrics_address"),
        wrong("aggregators", ["0x"], "venues", "0x needs a key in the environment"),
        wrong("private_rpc_url", "http://127.0.0.1:1/key-1234", "private relay", "no answer in JSON"),
        wrong("allowed_tokens", [NOBODY], "limits", "are not in the list: 0x"),
        wrong("market_source", "bitstmap", "market", "name a symbol a token", "market_symbols"),
    ],
    "not set, or of another kind": [
        wrong("executor", None, "executor", "not set"),
        wrong("password_file", "evenkeel.toml", "key", "key.json does not open with that password", "keystore"),
        wrong("journal", "key.json", "database", "file is not a database"),
        wrong("chain_id", None, "nodes", "set chain_id = 31337", "chain_id", State.WARNING),
        wrong("kill_switch", "key.json", "kill switch", "exists: nothing is signed", "kill_switch", State.WARNING),
        wrong("dry_run", True, "sending", "dry run: nothing is sent", "dry_run", State.WARNING),
        wrong("native_price_usd", None, "gas", "gas is left out", "native_token, native_price_usd, max_fee_gwei",
              State.WARNING),
    ],
    "no node": [
        wrong("rpc_url", "http://127.0.0.1:1/key-1234", "node 1", "does not answer (ClientConnectorError)"),
        wrong("database", "postgresql+psycopg://x:hush@127.0.0.1:1/x", "database", "cannot use"),
    ],
    "another chain": [wrong("chain_id", 5, "node 1", "is of chain 31337, not of 5")],
    "no vault": [wrong("vault", None, "vault", "none is named")],
    "no vault there": [wrong("vault", NOBODY, "vault", "no contract at", "vault, rpc_url")],
}  # fmt: skip


@pytest.mark.parametrize("mistakes", AT_ONCE.values(), ids=list(AT_ONCE))
def test_it_names_what_is_wrong_and_the_setting(settings: dict[str, Any], mistakes: list[Wrong]) -> None:
    change = {name: value for name, value, *_ in mistakes}
    code, found = check(settings | {"metrics_port": 1_024} | change)
    for name, _, what, said, fix, state in mistakes:
        hits = [(one.setting, one.state) for one in of(found, what) if said in one.said]
        assert (fix, state) in hits, (name, found)
    assert code == 1
    assert "key-1234" not in str(found) and "hush" not in str(found)


def test_an_account_without_the_role_and_without_gas_fails(settings: dict[str, Any]) -> None:
    stranger = Account.create()
    Path("other.json").write_text(
        json.dumps(Account.encrypt(stranger.key, "hush", kdf="pbkdf2", iterations=10))
    )
    code, found = check(settings | {"keystore": "other.json"})
    failed = [one.said for one in found if one.state == State.FAILED]
    assert code == 1 and len(failed) == 2
    assert failed[0].startswith(f"{stranger.address} lacks the keeper role")
    assert failed[1].startswith(f"{stranger.address} has 0.000000; 4 rebalances: ")
    warned = [one.setting for one in of(found, "key") if one.state == State.WARNING]
    assert warned == ["keystore"]  # others can read the file


def test_of_two_nodes_one_may_be_away(settings: dict[str, Any]) -> None:
    url = settings.pop("rpc_url")
    urls = [url, "http://127.0.0.1:1"]
    code, found = check(settings | {"rpc_urls": urls})
    assert code == 0
    assert [one.state for one in of(found, "node 2")] == [State.WARNING]
    code, found = check(settings | {"rpc_urls": urls, "rpc_quorum": 2})
    assert code == 1
    assert any(one.said == "1 can be used, 2 must agree" for one in of(found, "nodes"))


def test_stale_prices_and_a_pause_are_pointed_out(
    settings: dict[str, Any], built: tuple[World, Contract]
) -> None:
    world, vault = built
    kept = world.chain._rpc("evm_snapshot", [])
    try:
        world.chain.mine(world.chain.now + 30 * 86_400)
        world.chain.send(world.guardian, world.timelock.functions.pause(vault.address))
        _, found = check(settings)
    finally:
        world.chain._rpc("evm_revert", [kept])
    said = [one.said for one in of(found, "vault") if one.state == State.WARNING]
    assert any(one.startswith("no trade while prices are not usable: 0x") and "STALE" in one for one in said)
    assert any(one.startswith("its guardian has it paused until ") for one in said)


def test_a_port_that_is_taken(settings: dict[str, Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, found = check(settings | {"metrics_port": taken.getsockname()[1]})
    assert code == 1 and [one.state for one in of(found, "metrics")] == [State.FAILED]


def test_a_variable_that_is_no_setting(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENKEEL_INTERVALL_SECONDS", "5")
    (one,) = of(check(settings)[1], "environment")
    assert one.said == "EVENKEEL_INTERVALL_SECONDS is no setting; did you mean EVENKEEL_INTERVAL_SECONDS?"
    assert (one.state, one.setting) == (State.WARNING, "interval_seconds")


# ---------------------------------------------------------------- at a keeper's start


@pytest.mark.parametrize("command", ["once", "run"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("executor", "no contract at"),
        ("executor", "does not answer as an executor"),
        ("vault", "does not answer head(): not a vault"),
        ("lens", "is not this version's VaultLens"),
    ],
)
def test_a_keeper_does_not_start_with_a_contract_that_is_another(
    settings: dict[str, Any],
    built: tuple[World, Contract],
    command: str,
    name: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def begins(*_: Any) -> None:
        raise AssertionError("it began")

    monkeypatch.setattr("offchain.keeper.schedule.run_settings", begins)
    monkeypatch.setattr("offchain.keeper.loop.from_settings", begins)
    there = NOBODY if says == "no contract at" else built[0].cash.address
    run(settings | {name: there}, "show")  # writes the file
    result = CliRunner().invoke(app, ["keeper", command])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {name}: ") and says in result.stderr and there in result.stderr
    assert not Path("evenkeel.sqlite").exists()


def test_what_a_node_says_once_or_not_at_all_keeps_no_keeper_from_its_start(
    settings: dict[str, Any], built: tuple[World, Contract]
) -> None:
    class Garbling(HTTPProvider):
        wrong = TIMES - 1

        def make_request(self, method: RPCEndpoint, params: Any) -> Any:
            answer = super().make_request(method, params)
            if method == "eth_getCode" and self.wrong:
                self.wrong -= 1
                return answer | {"result": "0x"}
            return answer

    given = Settings.model_validate(settings | {"lens": built[0].lens.address})
    garbling = Garbling(settings["rpc_url"])
    need_contracts(given, Web3(garbling))
    assert garbling.wrong == 0
    need_contracts(given, Web3(HTTPProvider("http://127.0.0.1:1")))
    garbling.wrong = TIMES
    with pytest.raises(ConfigError, match="executor: no contract at"):
        need_contracts(given, Web3(garbling))


# ---------------------------------------------------------------- who answers


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any], list[Any]]]:
    """(url, bodies that came, answers to give: a status or JSON, the last one again and again)."""
    came: list[Any] = []
    answers: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            data = b"" if isinstance(answer, int) else json.dumps(answer).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}/secret-path", came, answers
    http.shutdown()
    http.server_close()


def test_a_test_alert_is_sent_only_if_asked_for(
    settings: dict[str, Any], server: tuple[str, list[Any], list[Any]]
) -> None:
    url, came, answers = server
    answers[:] = [204, 404]
    wanted = settings | {"alert_webhook_url": url}
    assert [one.state for one in of(check(wanted)[1], "alerts")] == [State.OK] and came == []
    (one,) = of(check(wanted, "--send-test-alert")[1], "alerts")
    assert (one.state, one.said) == (State.OK, "the test alert was taken")
    assert came == [
        {"kind": "test", "status": "test", "text": "[test] evenkeel config check: alerts arrive here"}
    ]
    (one,) = of(check(wanted, "--send-test-alert")[1], "alerts")
    assert (one.state, one.said, one.setting) == (State.FAILED, "HTTP 404", "alert_webhook_url")


MISSING = {"error": {"code": -32601, "message": "no such method"}}


@pytest.mark.parametrize(
    ("given", "state", "said"),
    [
        ([{"result": [NOBODY]}], State.OK, f"the signer answers and has {NOBODY}"),
        ([MISSING, {"result": [NOBODY.upper().replace("0X", "0x")]}], State.OK, f"the signer answers and has {NOBODY}"),
        ([{"result": []}], State.FAILED, f"the signer does not have {NOBODY}"),
        ([MISSING], State.WARNING, f"the signer answers, but does not say whether it has {NOBODY}"),
        ([500], State.FAILED, "the signer does not answer (JSONDecodeError)"),
    ],
)  # fmt: skip
def test_the_signer_is_asked_what_it_has_and_to_sign_nothing(
    server: tuple[str, list[Any], list[Any]], given: list[Any], state: State, said: str
) -> None:
    url, came, answers = server
    answers[:] = given
    found = _signer(url, NOBODY)
    assert (found.state, found.said) == (state, said)
    assert {body["method"] for body in came} <= {"eth_accounts", "account_list"}


# ---------------------------------------------------------------- keys that do not exist


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("intervall_seconds = 5", "intervall_seconds: unknown key; did you mean interval_seconds?"),
        ("completely_else = 5", "completely_else: unknown key"),
        (
            f'vaults = [{{address = "{NOBODY}", on_blok = true}}]',
            "vaults.0.on_blok: unknown key; did you mean on_block?",
        ),
    ],
)
def test_an_unknown_key_gets_a_suggestion(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evenkeel.toml").write_text(text)
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 2
    assert result.stderr == f"error: settings: {message}\n"


# ---------------------------------------------------------------- show and example


def test_show_says_where_a_value_comes_from(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENKEEL_INTERVAL_SECONDS", "7")
    shown = json.loads(run(settings | {"interval_seconds": 9}, "show", "--json").stdout)
    assert list(shown) == list(Settings.model_fields)
    assert shown["interval_seconds"] == {"value": 7, "from": "EVENKEEL_INTERVAL_SECONDS"}
    assert shown["vault"] == {"value": settings["vault"], "from": "evenkeel.toml"}
    assert shown["confirmations"] == {"value": None, "from": "default"}
    table = run(settings, "show").stdout.splitlines()
    assert any(line.split() == ["vault", settings["vault"], "evenkeel.toml"] for line in table)


def test_a_secret_may_be_in_a_file_of_its_own(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv("EVENKEEL_SECRETS_DIR", str(folder))
    (folder / "evenkeel_alert_webhook_url").write_text("https://hook/abc\n")
    (folder / "evenkeel_rpc_url").write_text("http://node/key-1234\n")
    del settings["rpc_url"]
    shown = json.loads(run(settings | {"interval_seconds": 9}, "show", "--json").stdout)
    assert shown["alert_webhook_url"] == {
        "value": "set, not shown",
        "from": f"{folder}/evenkeel_alert_webhook_url",
    }
    assert shown["rpc_url"] == {"value": "http://node/…", "from": f"{folder}/evenkeel_rpc_url"}
    assert shown["interval_seconds"]["value"] == 9
    found = load_settings()
    assert found.nodes == ["http://node/key-1234"] and found.alert_webhook_url is not None
    assert found.alert_webhook_url.get_secret_value() == "https://hook/abc"
    monkeypatch.setenv("EVENKEEL_SECRETS_DIR", str(tmp_path / "nowhere"))
    assert run(settings, "show").stderr.startswith("error: EVENKEEL_SECRETS_DIR: there is no folder ")


def test_the_example_file_has_every_setting() -> None:
    text = (ROOT / "deploy" / "evenkeel.example.toml").read_text()
    assert text == example_file(), "evenkeel config example > deploy/evenkeel.example.toml"
    lines = text.splitlines()
    for name, field in Settings.model_fields.items():
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"# {name} =")][:1]
        said = field.description
        assert said and lines[at - 1] == f"# {said[:1].upper()}{said[1:]}."
    for model in (VaultSettings, StrategySettings):
        missing = set(model.model_fields) - {"strategy"}  # a table of its own
        assert not {name for name in missing if not any(line.startswith(f"# {name} =") for line in lines)}


def test_the_example_without_its_comment_signs_is_the_defaults(tmp_path: Path) -> None:
    """What follows `# name =` is TOML and the default; nothing in it is a setting that does not exist."""
    text = example_file().partition("# ---- One of several vaults")[0]
    given = [line.removeprefix("# ") for line in text.splitlines() if " = " in line and line.startswith("# ")]
    given = [line for line in given if line.partition(" = ")[0] in Settings.model_fields]
    values = tomllib.loads("\n".join(given))
    assert len(values) > 30
    path = tmp_path / "all.toml"
    values.pop("rpc_urls")  # instead of rpc_url
    path.write_text("\n".join(line for line in given if not line.startswith("rpc_urls")))
    defaults = Settings.model_construct()
    found = load_settings(path)
    assert {name: getattr(found, name) for name in values} == {
        name: getattr(defaults, name) for name in values
    }


# ---------------------------------------------------------------- what `keeper run` would refuse


def test_schedules_are_read_as_the_keeper_reads_them(settings: dict[str, Any]) -> None:
    for change, said, fix in (
        ({"cron": "61 * * * *"}, "'61 * * * *' is not a five-field cron line", "cron"),
        (
            {"cron": "0 9 * * *", "timezone": "Mars/Olympus"},
            "'Mars/Olympus' is not an IANA time zone",
            "timezone",
        ),
    ):
        code, found = check(settings | change)
        (one,) = of(found, "schedule")
        assert (code, one.state, one.setting) == (1, State.FAILED, fix) and one.said.startswith(said)
        result = CliRunner().invoke(app, ["keeper", "run"])  # the same
        assert result.exit_code == 2 and result.stderr.startswith(f"error: {fix}: {one.said}")
    (one,) = of(check(settings | {"cron": "0 9 * * 1"})[1], "schedule")
    assert (one.state, one.said) == (State.OK, "0 9 * * 1 UTC")


def test_a_vault_s_own_schedule_is_read(settings: dict[str, Any]) -> None:
    del settings["vault"]
    run(settings, "show")  # writes the file
    tables = "".join(
        f'\n[[vaults]]\naddress = "{NOBODY[:-1]}{i}"\ncron = "{cron}"'
        for i, cron in ((1, "5 * * * *"), (2, "x"))
    )
    Path("evenkeel.toml").write_text(Path("evenkeel.toml").read_text() + tables)
    report = json.loads(CliRunner().invoke(app, ["config", "check", "--json"]).stdout)
    found = {one["what"]: (one["state"], one["setting"]) for one in report["findings"]}
    assert found[f"schedule of vault {NOBODY[:-1]}1"] == ("ok", None)
    assert found[f"schedule of vault {NOBODY[:-1]}2"] == ("failed", "cron")


@pytest.mark.parametrize("setting", ["journal", "database"])
def test_a_journal_of_a_newer_program_is_refused(settings: dict[str, Any], setting: str) -> None:
    Journal(Path("newer.sqlite")).close()
    with closing(sqlite3.connect("newer.sqlite")) as file, file:
        file.execute("update alembic_version set version_num = '9999'")
    named = "newer.sqlite" if setting == "journal" else "sqlite:///newer.sqlite"
    code, found = check(settings | {setting: named})
    (one,) = of(found, "database")
    assert (code, one.state, one.setting) == (1, State.FAILED, setting)
    assert "written by a newer evenkeel (schema 9999): upgrade the program" in one.said


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("equal", "prices.csv", "equal is made; 3 rows of AAA, BBB; every 86400 s"),
        ("no-such", "prices.csv", "strategy: 'no-such' is not known; known are "),
        ("mine.py:Mine", "prices.csv", "strategy: mine.py: there is no such file"),
        ("equal", "nowhere.csv", "nowhere.csv"),
    ],
)
def test_a_strategy_is_made_and_its_files_are_read(
    settings: dict[str, Any], name: str, path: str, said: str
) -> None:
    Path("prices.csv").write_text("date,AAA,BBB\n2026-01-01,1,2\n2026-01-02,1,2\n2026-01-03,1,3\n")
    vault = settings.pop("vault")
    run(settings, "show")
    table = (
        f'\n[[vaults]]\naddress = "{vault}"\n[vaults.strategy]\nname = "{name}"\n'
        f'data = {{ source = "csv", path = "{path}" }}\n'
    )
    Path("evenkeel.toml").write_text(Path("evenkeel.toml").read_text() + table)
    report = json.loads(CliRunner().invoke(app, ["config", "check", "--json"]).stdout)
    (one,) = [one for one in report["findings"] if one["what"] == f"strategy of vault {vault}"]
    state, setting = ("ok", None) if "is made" in said else ("failed", "vaults.strategy")
    assert (one["state"], one["setting"]) == (state, setting) and said in one["said"], one


def test_new_blocks_over_a_web_socket(settings: dict[str, Any]) -> None:
    here = settings["rpc_url"].replace("http", "ws")
    for url, state in ((here, State.OK), ("ws://127.0.0.1:1/key-1234", State.WARNING)):
        code, found = check(settings | {"ws_url": url})
        (one,) = of(found, "new blocks")
        assert (code, one.state) == (0, state) and "key-1234" not in str(found)


def test_contracts_of_filler_and_zap_that_are_others(
    settings: dict[str, Any], built: tuple[World, Contract]
) -> None:
    other = built[0].executor.address
    code, found = check(settings | {"auction": NOBODY, "taker": other, "zap": other})
    failed = {(one.what, one.setting): one.said for one in found if one.state == State.FAILED}
    assert code == 1 and set(failed) == {(name, name) for name in ("auction", "taker", "zap")}
    assert failed["auction", "auction"].startswith(
        f"{NOBODY} does not answer grace_seconds(): not the Auction"
    )


def test_of_a_factory_the_vaults_are_looked_at_that_the_account_may_keep(
    settings: dict[str, Any], built: tuple[World, Contract]
) -> None:
    world, vault = built
    del settings["vault"]
    fleet = settings | {"factory": world.factory.address}
    code, found = check(fleet)
    account = world.keeper.address
    said = [one.said for one in of(found, "registry")]
    assert said == [
        f"{world.factory.address} has 1 vaults",
        f"{account} has the keeper role of 1 of them; looked at here: 1",
    ]
    assert "all prices of its oracle are usable" in [one.said for one in of(found, f"vault {vault.address}")]
    (queue,) = of(found, "queue")
    assert (code, queue.state, queue.setting) == (1, State.FAILED, "database")
    assert queue.said.startswith("a fleet needs PostgreSQL")
    stranger = fleet | {"keystore": None, "password_file": None, "simulate_as": NOBODY}
    *_, last = of(check(stranger)[1], "registry")
    assert last.state == State.FAILED and last.said == f"{NOBODY} has the keeper role of 0 of them"
    (one,) = of(check(fleet | {"factory": vault.address})[1], "registry")
    assert (one.state, one.setting) == (State.FAILED, "factory") and "not a VaultFactory?" in one.said


def test_a_lens_that_is_another_contract(settings: dict[str, Any], built: tuple[World, Contract]) -> None:
    (one,) = of(check(settings | {"lens": built[0].cash.address})[1], "lens")
    assert (one.state, one.setting) == (
        State.FAILED,
        "lens",
    ) and "is not this version's VaultLens" in one.said


# ---------------------------------------------------------------- what a deployment would be


@pytest.mark.parametrize("signs", [True, False])
def test_a_dry_deployment_of_a_taker_says_what_would_be_and_sends_nothing(
    settings: dict[str, Any], built: tuple[World, Contract], signs: bool
) -> None:
    web3, owner = built[0].chain.web3, built[0].keeper.address
    before = web3.eth.block_number
    nobody = {"keystore": None, "password_file": None}
    run(settings if signs else settings | nobody | {"simulate_as": owner}, "show")  # writes the file
    result = CliRunner().invoke(app, ["filler", "--deploy", "--dry-run", "--json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["dry_run"], found["owner"]) == (True, owner)
    assert web3.eth.block_number == before and web3.eth.get_code(found["taker"]) == b""
    words = CliRunner().invoke(app, ["filler", "--deploy", "--dry-run"]).stdout
    assert f"would deploy a Taker of {owner} at {found['taker']}: {found['gas']} gas" in words
    if signs:
        result = CliRunner().invoke(app, ["filler", "--deploy", "--json"])
        made = json.loads(result.stdout)
        receipt = web3.eth.get_transaction_receipt(made["tx_hash"])
        assert (made["taker"], receipt["gasUsed"] <= found["gas"]) == (found["taker"], True)
        price = receipt["gasUsed"] * receipt["effectiveGasPrice"]
        assert price < Decimal(found["most_native"]) * 10**18
        return
    run(settings | nobody, "show")
    result = CliRunner().invoke(app, ["filler", "--deploy", "--dry-run"])
    assert result.exit_code == 2 and result.stderr.startswith(
        "error: keystore, account, signer_url or simulate_as: "
    )
