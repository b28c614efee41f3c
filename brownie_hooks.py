"""What brownie 1.22 needs for Vyper 0.4 sources and for a local chain of its own.

brownie imports this file each time it loads the project (also under plain pytest). It
- compiles with imports read from the disk, and takes `contracts/modules` for what they are: no contracts;
- rewrites Vyper 0.4's source map into the form that brownie reads: one row an instruction;
- compiles everything again when a module or an interface changed, which brownie does not notice;
- adds the network `evenkeel`: Ganache on a free port, so that two runs never meet.

Nothing is written outside the project. See docs/decisions/0002-brownie-on-vyper-0.4.md.
"""

import hashlib
import os
import socket
from pathlib import Path, PurePath
from typing import Any

from brownie._config import CONFIG
from vyper.cli import vyper_json
from vyper.compiler.input_bundle import CompilerInput, FileInput, JSONInputBundle, _NotFound

ROOT = Path(__file__).resolve().parent
MODULES = "contracts/modules/"
NO_SOURCE = "-1:-1:-1:-"

_compile_json = vyper_json.compile_json


class DiskInputBundle(JSONInputBundle):
    """Sources that brownie hands over, then the disk: it passes only changed ones, and no `.vyi`."""

    def _load_from_path(self, resolved_path: PurePath, original_path: PurePath) -> CompilerInput:
        try:
            return super()._load_from_path(resolved_path, original_path)
        except _NotFound:
            file = ROOT / resolved_path
            if not file.is_file():
                raise
            source_id = self._generate_source_id(resolved_path)
            return FileInput(source_id, original_path, resolved_path, file.read_text())


def compile_json(input_json: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Vyper's `compile_json` for brownie: contracts compiled, modules left empty, source maps rewritten."""
    modules = [path for path in input_json["sources"] if path.startswith(MODULES)]
    targets = [path for path in input_json["sources"] if path not in modules]
    outputs = input_json["settings"]["outputSelection"]["*"]
    selection = dict.fromkeys(targets, outputs)
    settings = {**input_json["settings"], "outputSelection": selection}
    output: dict[str, Any] = _compile_json({**input_json, "settings": settings}, *args, **kwargs)
    for path, contracts in output["contracts"].items():
        for contract in contracts.values():
            source_id = output["sources"][path]["id"]
            for code in contract.get("evm", {}).values():
                if "sourceMap" in code:
                    code["sourceMap"] = instruction_map(code["sourceMap"], code.get("opcodes", ""), source_id)
    for path in modules:
        code = {"object": "", "opcodes": "", "sourceMap": ""}
        empty = {"abi": [], "evm": {"bytecode": code, "deployedBytecode": code}}
        output["contracts"][path] = {PurePath(path).stem: empty}
        output["sources"][path] = {"id": -1, "ast": {"body": []}}
    return output


def instruction_map(source_map: dict[str, Any], opcodes: str, source_id: int) -> str:
    """Vyper's map, one row a byte of code, cut to one row an instruction; other files' rows are blank."""
    rows = source_map["pc_pos_map_compressed"].split(";")
    kept, pc = [], 0
    tokens = opcodes.split()
    for token, operand in zip(tokens, [*tokens[1:], ""], strict=True):
        if token.startswith("0x"):
            continue
        row = rows[pc].split(":") if pc < len(rows) else []
        of_this_file = len(row) >= 3 and row[2] == str(source_id)
        kept.append(":".join([*row[:2], "0", *(row[3:] or ["-"])]) if of_this_file else NO_SOURCE)
        pc += 1 + (len(operand) // 2 - 1 if operand.startswith("0x") else 0)
    return ";".join(kept)


def forget_stale_builds() -> None:
    """Drop brownie's compiled contracts when what they import changed since."""
    imported = sorted([*ROOT.glob("interfaces/**/*.vyi"), *ROOT.glob(f"{MODULES}**/*.vy")])
    content = b"\0".join(str(path.relative_to(ROOT)).encode() + path.read_bytes() for path in imported)
    digest = hashlib.sha256(content).hexdigest()
    stamp = ROOT / "build" / "imports.sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return
    for artifact in ROOT.glob("build/contracts/*.json"):
        artifact.unlink(missing_ok=True)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(digest)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def add_network() -> None:
    """The default network of brownie-config.yaml; Ganache comes from node_modules (`make install`)."""
    os.environ["PATH"] = f"{ROOT / 'node_modules' / '.bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    CONFIG.networks["evenkeel"] = {
        "name": "Ganache on a free port",
        "id": "evenkeel",
        "cmd": "ganache --logging.quiet",
        "host": "http://127.0.0.1",
        "timeout": 120,
        "cmd_settings": {
            "port": free_port(),
            "chain_id": 1337,
            "accounts": 24,
            "evm_version": "berlin",  # from London on, brownie's gas price of 0 hangs Ganache
            "gas_limit": 30_000_000,
            "mnemonic": "brownie",
        },
    }


vyper_json.JSONInputBundle = DiskInputBundle
vyper_json.compile_json = compile_json
forget_stale_builds()
add_network()
