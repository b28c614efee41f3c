"""Settings: where they come from, and errors that name the key."""

from decimal import Decimal
from pathlib import Path

import pytest

from offchain.chain.errors import ConfigError
from offchain.settings import load_settings

VAULT = "0x52908400098527886E0F7030069857D2E4169EE7"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETH_RPC_URL", raising=False)


def write(text: str) -> None:
    Path("evenkeel.toml").write_text(text)


def test_defaults_are_harmless() -> None:
    settings = load_settings()
    assert settings.keystore is None
    assert settings.vault is None
    assert settings.nodes == ["http://127.0.0.1:8545"]


def test_toml_file_is_read() -> None:
    write(f'vault = "{VAULT}"\ninterval_seconds = 5\nv2_factories = ["{VAULT}"]')
    settings = load_settings()
    assert (settings.vault, settings.interval_seconds, settings.v2_factories) == (VAULT, 5, [VAULT])


def test_environment_beats_toml_and_argument_beats_both(monkeypatch: pytest.MonkeyPatch) -> None:
    write("interval_seconds = 5\ndeadline_seconds = 5")
    monkeypatch.setenv("EVENKEEL_INTERVAL_SECONDS", "6")
    monkeypatch.setenv("EVENKEEL_DEADLINE_SECONDS", "6")
    settings = load_settings(deadline_seconds=7)
    assert (settings.interval_seconds, settings.deadline_seconds) == (6, 7)


@pytest.mark.parametrize("name", ["ETH_RPC_URL", "EVENKEEL_RPC_URL"])
def test_node_address_from_either_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://node:1")
    assert load_settings().nodes == ["http://node:1"]


def test_own_variable_beats_eth_rpc_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETH_RPC_URL", "http://other:1")
    monkeypatch.setenv("EVENKEEL_RPC_URL", "http://own:1")
    assert load_settings().nodes == ["http://own:1"]


def test_argument_and_toml_give_the_node_address(monkeypatch: pytest.MonkeyPatch) -> None:
    write('rpc_url = "http://toml:1"')
    assert load_settings().nodes == ["http://toml:1"]
    monkeypatch.setenv("ETH_RPC_URL", "http://env:1")
    assert load_settings().nodes == ["http://env:1"]
    assert load_settings(rpc_url="http://argument:1").nodes == ["http://argument:1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interval_seconds = 0", "interval_seconds: "),
        ('interval_seconds = "soon"', "interval_seconds: "),
        ("intervall = 5", "intervall: unknown key"),
        ("native_price_usd = 0", "native_price_usd: "),
        ("native_price_usd = nan", "native_price_usd: "),
        ('native_token = "weth"', "native_token: .*is not an address"),
        ('vault = "0x12"', "vault: .*is not an address"),
        (f'vault = "{VAULT[:-1]}e"', "vault: .*wrong checksum"),
        ('password_file = "p"', "password_file is set but keystore is not"),
        ("vault = ", "evenkeel.toml: not valid TOML"),
    ],
)
def test_error_names_the_key(text: str, message: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=message):
        load_settings()


def test_native_price_is_exact() -> None:
    write("native_price_usd = 2345.67")
    assert load_settings().native_price_usd == Decimal("2345.67")


def test_error_names_the_key_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENKEEL_V2_FACTORIES", "not a list")
    with pytest.raises(ConfigError, match="v2_factories"):
        load_settings()


def test_named_config_file_must_exist() -> None:
    with pytest.raises(ConfigError, match="config: no such file"):
        load_settings(Path("nowhere.toml"))


def test_two_config_files_do_not_mix(tmp_path: Path) -> None:
    write("interval_seconds = 5")
    other = tmp_path / "other.toml"
    other.write_text("deadline_seconds = 9")
    settings = load_settings(other)
    assert (settings.interval_seconds, settings.deadline_seconds) == (60, 9)


def test_the_node_s_address_is_in_no_repr_and_no_dump() -> None:
    key = "0123456789abcdef"
    write(f'rpc_urls = ["http://node/{key}"]')
    settings = load_settings()
    assert settings.nodes == [f"http://node/{key}"]
    assert (
        key
        not in f"{settings} {settings!r} {settings.rpc_urls} {settings.model_dump()} {settings.model_dump_json()}"
    )
    one = load_settings(rpc_url=f"http://node/{key}")
    assert key not in f"{one} {one!r} {one.rpc_url} {one.model_dump()} {one.model_dump_json()}"
