"""Deploy Evenkeel's shared contracts, in the order of CONTRACTS, then a vault.

brownie run deploy                                                  a rehearsal on the local chain
brownie run deploy main deploy/mine.yaml --network sepolia          for real

Writes deploy/out/NETWORK/addresses.json after every step, so that a run that broke off goes on where it was, and
what an explorer verifies beside it: NAME.standard.json (standard JSON input) and NAME.constructor.txt (arguments, hex).
"""

import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import vyper
import yaml
from brownie import accounts, network, web3
from brownie import project as brownie_project
from brownie.network.account import LocalAccount
from brownie.network.contract import ProjectContract
from eth_abi import encode
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
ZERO = "0x" + "00" * 20
CONTRACTS = [
    "PriceOracle",
    "Executor",
    "Zap",
    "RuleBook",
    "Teller",  # the implementation, as the vault
    "Timelock",
    "Vault",
    "VaultFactory",
    "Auction",
    "VaultLens",
]  # in the order of deployment
# A constructor's argument is the address of the contract of that name, or a field of the file's section.
ARGUMENTS = {
    "executor_": "Executor",
    "rule_book_": "RuleBook",
    "teller_implementation_": "Teller",
    "timelock_": "Timelock",
    "implementation_": "Vault",
}
SECTIONS = {"PriceOracle": "oracle", "Auction": "auction"}
MAX_KEEPERS = 4
MODES = ["CALENDAR", "THRESHOLD", "EITHER", "BOTH"]
UNITS = ["DAYS", "MONTHS"]
ASSET_NUMBERS = [
    "target_bps",
    "band_points_bps",
    "band_relative_bps",
    "min_target_bps",
    "max_target_bps",
    "price_error_bps",
]
RULE_NUMBERS = [
    "window_seconds",
    "cooldown_seconds",
    "max_slippage_bps",
    "loss_capacity_bps",
    "loss_refill_bps_per_year",
    "tolerance_bps",
    "speed_capacity_bps",
    "speed_refill_bps_per_day",
]


def main(file: str = "deploy/example.yaml") -> dict[str, str]:
    """Deploy what `file` says to the active network; the addresses by name."""
    plan = read(ROOT / file)
    check(plan)
    rehearsal = network.show_active() == "evenkeel"
    deployer = accounts[0] if rehearsal else unlock(need(plan, "account"))
    folder = ROOT / "deploy" / "out" / network.show_active()
    folder.mkdir(parents=True, exist_ok=True)
    book = AddressBook(folder / "addresses.json", fresh=rehearsal)

    project = brownie_project.get_loaded_projects()[0]
    for name in CONTRACTS:
        deploy(project, name, plan, deployer, book, folder)
    assets = need(plan, "assets")
    if rehearsal:
        stand_in(project, assets, deployer)
    set_feeds(project.PriceOracle.at(book["PriceOracle"]), plan, assets, deployer)
    if "vault" in plan:
        create_vault(project, plan["vault"], assets, deployer, book)
    print(json.dumps(book.addresses, indent=2))
    return book.addresses


def read(file: Path) -> dict[str, Any]:
    """The deployment file, or exit and say what is wrong with it."""
    try:
        plan = yaml.safe_load(file.read_text())
    except OSError as error:
        sys.exit(f"{file}: {error.strerror}; copy deploy/example.yaml and name the copy")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        sys.exit(f"{file}: not valid YAML: {error}")
    if not isinstance(plan, dict):
        sys.exit(f"{file}: not a deployment file; compare it with deploy/example.yaml")
    return plan


def unlock(name: str) -> LocalAccount:
    """The account that brownie keeps by that name; brownie asks for its password."""
    try:
        return accounts.load(name)
    except FileNotFoundError:
        sys.exit(f"account: {name}: run `brownie accounts new {name}`")


def check(plan: dict[str, Any]) -> None:
    """Exit with the field's name before anything is deployed from a file that is not complete."""
    for asset in need(plan, "assets"):
        for field in ("token", "feed", "heartbeat_seconds", "min_price_usd", "max_price_usd"):
            need(asset, field)
    for name, section in SECTIONS.items():
        for field, kind in constructor(name):
            if kind != "address":
                need(need(plan, section), field.removesuffix("_"))
    if "vault" in plan:
        vault_config(plan["vault"], plan["assets"], oracle="", auction="", deployer="")
        for asset in plan["assets"]:
            need(asset, "seed")


class AddressBook:
    """addresses.json: written after each step, read by the next run; a rehearsal starts empty."""

    def __init__(self, path: Path, fresh: bool) -> None:
        self.path = path
        self.addresses: dict[str, str] = json.loads(path.read_text()) if path.exists() and not fresh else {}

    def __getitem__(self, name: str) -> str:
        return self.addresses[name]

    def __contains__(self, name: str) -> bool:
        return name in self.addresses

    def add(self, name: str, address: str) -> None:
        """Record one contract."""
        self.addresses[name] = address
        self.path.write_text(json.dumps(self.addresses, indent=2) + "\n")


def need(section: dict[str, Any], field: str) -> Any:
    """A field that must be there."""
    if section.get(field) is None:
        sys.exit(f"{field}: missing from the deployment file")
    return section[field]


def choice(section: dict[str, Any], field: str, names: list[str]) -> int:
    """The index of a named choice."""
    if need(section, field) not in names:
        sys.exit(f"{field}: {section[field]} is none of {', '.join(names)}")
    return names.index(section[field])


def units(amount: Any, decimals: int) -> int:
    """A decimal number of whole tokens (or USD) in the smallest unit, rounded down."""
    return int(Decimal(str(amount)).scaleb(decimals))


def bound(asset: dict[str, Any], name: str) -> int:
    """A price bound, USD WAD, or exit: the oracle keeps 8 digits, and a second run compares with what it kept."""
    price = units(need(asset, name), 18)
    if len(str(price).rstrip("0")) > 8:
        sys.exit(
            f"{asset['symbol']}: {name}: {asset[name]} has more than 8 digits, which is what the oracle keeps"
        )
    return price


def artifact_of(name: str) -> dict[str, Any]:
    """A contract as committed."""
    found: dict[str, Any] = json.loads(
        (ROOT / "offchain" / "chain" / "artifacts" / f"{name}.json").read_text()
    )
    return found


def constructor(name: str) -> list[tuple[str, str]]:
    """Name and type of each argument that the contract is deployed with."""
    inputs = next((e["inputs"] for e in artifact_of(name)["abi"] if e["type"] == "constructor"), [])
    return [(parameter["name"], parameter["type"]) for parameter in inputs]


def argument(name: str, field: str, plan: dict[str, Any], deployer: str, book: AddressBook) -> Any:
    """One argument of a constructor: another contract's address, or what the file says."""
    if field in ARGUMENTS:
        return book[ARGUMENTS[field]]
    section, field = need(plan, SECTIONS[name]), field.removesuffix("_")
    if field == "guardian":
        return section.get(field) or deployer
    if field == "sequencer_feed":
        return section.get(field) or ZERO
    return need(section, field)


def deploy(
    project: Any, name: str, plan: dict[str, Any], deployer: LocalAccount, book: AddressBook, folder: Path
) -> None:
    """Step 1: one shared contract, exactly as committed in offchain/chain/artifacts."""
    container = project[name]
    if container.bytecode.removeprefix("0x") != artifact_of(name)["bytecode"].removeprefix("0x"):
        sys.exit(f"{name}: the compiled code differs from the committed artifact; run `make artifacts` first")
    inputs = constructor(name)
    arguments = [argument(name, field, plan, deployer.address, book) for field, _ in inputs]
    encoded = encode([kind for _, kind in inputs], arguments).hex()
    (folder / f"{name}.standard.json").write_text(json.dumps(standard_json(name), indent=1) + "\n")
    (folder / f"{name}.constructor.txt").write_text(encoded + "\n")
    if name in book:
        if not web3.eth.get_code(book[name]):
            sys.exit(f"{name}: no code at {book[name]}; is {book.path} of another chain?")
        print(f"{name} is there already: {book[name]}")
        return
    contract = container.deploy(*arguments, {"from": deployer})
    book.add(name, contract.address)


def standard_json(name: str) -> dict[str, Any]:
    """The compiler's standard input, with the modules and interfaces that the contract imports."""
    bundle = FilesystemInputBundle([ROOT])
    output = vyper.compile_from_file_input(
        bundle.load_file(Path("contracts") / f"{name}.vy"),
        input_bundle=bundle,
        settings=Settings(evm_version="paris"),
        output_formats=["solc_json"],
    )
    result: dict[str, Any] = output["solc_json"]
    return result


def stand_in(project: Any, assets: list[dict[str, Any]], deployer: LocalAccount) -> None:
    """Rehearsal only: a test token and feed in the place of each asset's."""
    for asset in assets:
        decimals, price = asset["rehearsal"]["decimals"], asset["rehearsal"]["price_usd"]
        token = project.TestToken.deploy(asset["symbol"], asset["symbol"], decimals, {"from": deployer})
        token.mint(deployer, units(asset["seed"], decimals), {"from": deployer})
        feed = project.TestFeed.deploy(8, f"{asset['symbol']} / USD", units(price, 8), {"from": deployer})
        asset["token"], asset["feed"] = token.address, feed.address


def set_feeds(
    oracle: ProjectContract, plan: dict[str, Any], assets: list[dict[str, Any]], deployer: LocalAccount
) -> None:
    """Step 2: the first feed of each asset, then the oracle's owner."""
    for asset in assets:
        bounds = bound(asset, "min_price_usd"), bound(asset, "max_price_usd")
        wanted = (need(asset, "feed"), need(asset, "heartbeat_seconds"), *bounds)
        feed, _, heartbeat, least, most = oracle.feeds(need(asset, "token"))
        if feed == ZERO:
            oracle.set_feed(asset["token"], *wanted, {"from": deployer})
        elif (feed, heartbeat, least, most) != wanted:
            sys.exit(
                f"{asset['symbol']}: it has another feed; a change waits in the oracle's queue (docs/spec.md)"
            )
    _, statuses = oracle.prices([asset["token"] for asset in assets])
    for asset, status in zip(assets, statuses, strict=True):
        if status != 0:
            sys.exit(f"{asset['symbol']}: price not usable, status {status} (docs/spec.md, PriceOracle)")
    owner = plan.get("oracle", {}).get("owner")
    if owner and owner not in (oracle.owner(), oracle.pending_owner()):
        oracle.transfer_ownership(owner, {"from": deployer})
        print(f"{owner} must call accept_ownership() on the oracle")


def create_vault(
    project: Any,
    vault: dict[str, Any],
    assets: list[dict[str, Any]],
    deployer: LocalAccount,
    book: AddressBook,
) -> None:
    """Step 3: approve the seed to the factory and create the vault."""
    if vault["symbol"] in book:
        print(f"{vault['symbol']} is there already: {book[vault['symbol']]}")
        return
    factory = project.VaultFactory.at(book["VaultFactory"])
    seeds = []
    for asset in assets:
        token = project.TestToken.at(asset["token"])  # any ERC-20
        seed = units(need(asset, "seed"), token.decimals())
        if token.balanceOf(deployer) < seed:
            sys.exit(
                f"seed: {deployer} holds {token.balanceOf(deployer)} units of {asset['symbol']}, {seed} needed"
            )
        token.approve(factory, seed, {"from": deployer})
        seeds.append(seed)
    salt = int(vault.get("salt", 0)).to_bytes(32, "big")
    config = vault_config(vault, assets, book["PriceOracle"], book["Auction"], deployer.address)
    created = factory.create_vault(config, seeds, salt, {"from": deployer})
    book.add(vault["symbol"], created.events["VaultCreated"]["vault"])


def vault_config(
    vault: dict[str, Any], assets: list[dict[str, Any]], oracle: str, auction: str, deployer: str
) -> tuple[Any, ...]:
    """`Config` of docs/spec.md; a role that is not given is the deployer's."""
    keepers = [*(vault.get("keepers") or [deployer]), *([auction] if vault.get("auction") else [])]
    if len(keepers) > MAX_KEEPERS:
        sys.exit(f"keepers: {MAX_KEEPERS} at most, the auction counted")
    rules = need(vault, "rules")
    anchor = need(rules, "calendar_anchor")
    if not isinstance(anchor, date):
        sys.exit(f"calendar_anchor: {anchor} is not a date such as 2026-01-01")
    opened = int(datetime(anchor.year, anchor.month, anchor.day, tzinfo=UTC).timestamp())
    return (
        need(vault, "name"),
        need(vault, "symbol"),
        [(asset["token"], 0, *(need(asset, number) for number in ASSET_NUMBERS)) for asset in assets],
        (
            choice(rules, "mode", MODES),
            choice(rules, "calendar_unit", UNITS),
            need(rules, "calendar_every"),
            opened,
            *(need(rules, number) for number in RULE_NUMBERS),
        ),
        oracle,
        vault.get("owner") or deployer,
        need(vault, "delay_seconds"),
        *(vault.get(role) or deployer for role in ("guardian", "strategist")),
        keepers,
        need(vault, "fee_bps"),
        vault.get("fee_recipient") or deployer,
    )
