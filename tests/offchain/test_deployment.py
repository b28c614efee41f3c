"""What is shipped to run a keeper with: as far as it can be checked without a container engine or systemd running."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import click
import pytest
import typer
import yaml

from offchain.cli import app
from offchain.settings import SECRETS_FOLDER, Settings
from tests.support.evm import ROOT

DEPLOY = ROOT / "deploy"
UNIT, DOCKERFILE = DEPLOY / "evenkeel-keeper.service", DEPLOY / "Dockerfile"
VARIABLES = {SECRETS_FOLDER, *(f"EVENKEEL_{name.upper()}" for name in Settings.model_fields)}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
WORKER = COMPOSE["services"]["worker-1"]


def named(text: str) -> set[str]:
    """Variables of the settings that a file sets."""
    return set(re.findall(r"EVENKEEL_[A-Z0-9_]+", text))


def accepts(words: list[str]) -> bool:
    """`evenkeel` has this command and its options."""
    command: Any = typer.main.get_command(app)
    while words and not words[0].startswith("-"):
        command = cast(click.Group, command).commands.get(words.pop(0))
        if command is None:
            return False
    options = {option for parameter in command.params for option in parameter.opts}
    return all(word in options for word in words if word.startswith("-"))


@pytest.mark.parametrize("path", [UNIT, DOCKERFILE, DEPLOY / "compose.yaml"], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    found = named(path.read_text())
    assert found and found <= VARIABLES


def test_every_command_exists() -> None:
    (start,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert accepts(start.split()[1:])
    (default,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    assert accepts(yaml.safe_load(default))
    assert accepts(list(WORKER["command"]))
    assert not accepts(["keeper", "fly"]) and not accepts(["keeper", "run", "--fly"])


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    """The program is not installed at that place here, so another one stands in for it."""
    text = UNIT.read_text()
    for wanted in ("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n",
                   "Restart=always", "RestartPreventExitStatus=2", "LimitCORE=0"):  # fmt: skip
        assert wanted in text
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/usr/local/bin/evenkeel", shutil.which("true") or "/bin/true"))
    if analyze := shutil.which("systemd-analyze"):
        said = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)
        assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_the_image_is_pinned_and_does_not_run_as_root() -> None:
    text = DOCKERFILE.read_text()
    assert {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")} == {
        "python:3.11.13-slim-bookworm"
    }
    after_user = text.partition("\nUSER 10001:10001\n")[2]
    assert "HEALTHCHECK" in after_user and "USER" not in after_user
    for path in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / one).exists() for one in path.split())


def test_the_compose_file_fits_together() -> None:
    declared, networks = set(COMPOSE["secrets"]), set(COMPOSE["networks"])
    for name, service in COMPOSE["services"].items():
        assert set(service.get("secrets", ())) <= declared, name
        assert set(service["networks"]) <= networks
        image = service["image"]
        assert image == "evenkeel:local" or re.search(r":v?\d+\.\d+", image), image
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./") and source not in ("./evenkeel.toml", "./stop.d"):  # the operator's
                assert (DEPLOY / source).is_file(), source
            elif not source.startswith("./"):
                assert source in COMPOSE["volumes"]
    given = {name for name in WORKER["secrets"] if name.startswith("evenkeel_")}
    assert given <= {name.lower() for name in VARIABLES}  # what the settings read from that folder
    prometheus = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])
    assert prometheus["scrape_configs"][0]["static_configs"][0]["targets"] == [
        "worker-1:9464",
        "worker-2:9464",
    ]
    assert "EVENKEEL_METRICS_PORT=9464" in DOCKERFILE.read_text()


def test_no_operators_file_can_be_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/deploy/evenkeel.toml", "/deploy/secrets/", "/evenkeel.toml"} <= set(ignored)
    assert (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()[1] == "*"
