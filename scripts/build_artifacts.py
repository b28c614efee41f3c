"""Compile the contracts into offchain/chain/artifacts, so that an installed keeper needs no compiler.

python scripts/build_artifacts.py           writes the artifacts
python scripts/build_artifacts.py --check   fails when a committed artifact is missing, stale or left over

A contract may ask for smaller code with `#pragma optimize codesize`; the default is `gas`.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

import vyper
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
ARTIFACTS = ROOT / "offchain" / "chain" / "artifacts"
EVM_VERSION = "paris"
COMPILER = "0.4.3"
DEMO = ("Arbitrageur", "BadExecutor", "FeedBoard", "TestFeed", "TestToken")
MAX_CODE_SIZE = 24_576  # bytes, EIP-170


def contract_sources() -> list[Path]:
    """The contracts that go live, and what the demo deploys beside them. Modules come with their importers."""
    demo = [ROOT / "contracts" / "mocks" / f"{name}.vy" for name in DEMO]
    return sorted([*ROOT.glob("contracts/*.vy"), *demo])


def source_hash(source: Path) -> str:
    """SHA-256 over a contract and everything it imports from this repository."""
    seen: dict[Path, str] = {}
    todo = [source]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen[path] = path.read_text()
        for folder, name in re.findall(r"^from ([\w.]+) import (\w+)(?: as \w+)?$", seen[path], re.MULTILINE):
            stem = ROOT / folder.replace(".", "/") / name
            todo += [found for suffix in (".vy", ".vyi") if (found := stem.with_suffix(suffix)).is_file()]
    content = "\0".join(f"{path.relative_to(ROOT)}\0{text}" for path, text in sorted(seen.items()))
    return hashlib.sha256(content.encode()).hexdigest()


def compile_contract(source: Path, evm_version: str = EVM_VERSION) -> dict[str, object]:
    """ABI, bytecode and runtime bytecode (hex with 0x) of one contract, with the hash of its sources."""
    bundle = FilesystemInputBundle([ROOT])
    file = bundle.load_file(source.relative_to(ROOT))
    output = vyper.compile_from_file_input(
        file,
        input_bundle=bundle,
        settings=Settings(evm_version=evm_version),
        output_formats=["abi", "bytecode", "bytecode_runtime"],
    )
    return {
        "contractName": source.stem,
        "sourcePath": source.relative_to(ROOT).as_posix(),
        "sourceHash": source_hash(source),
        "compiler": f"vyper {COMPILER}, evm {evm_version}",
        "abi": output["abi"],
        "bytecode": output["bytecode"],
        "deployedBytecode": output["bytecode_runtime"],
    }


def build() -> dict[str, str]:
    """Artifact file name -> JSON text, for every contract."""
    artifacts = {}
    for source in contract_sources():
        artifact = compile_contract(source)
        size = len(str(artifact["deployedBytecode"])) // 2 - 1
        print(f"{source.relative_to(ROOT)}: {size} bytes", flush=True)
        if size > MAX_CODE_SIZE:
            sys.exit(f"{source.relative_to(ROOT)}: {size} bytes of code, the chain takes {MAX_CODE_SIZE}")
        artifacts[f"{source.stem}.json"] = json.dumps(artifact, indent=1) + "\n"
    return artifacts


def stale_names(artifacts: dict[str, str]) -> list[str]:
    """Names of committed artifacts that differ from a fresh build, are missing or have no source."""
    committed = {path.name: path.read_text() for path in ARTIFACTS.glob("*.json")}
    return sorted(
        name for name in artifacts.keys() | committed.keys() if artifacts.get(name) != committed.get(name)
    )


def write(artifacts: dict[str, str]) -> None:
    """Replace the committed artifacts by these."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for path in ARTIFACTS.glob("*.json"):
        if path.name not in artifacts:
            path.unlink()
    for name, text in artifacts.items():
        (ARTIFACTS / name).write_text(text)


def main() -> None:
    """Build, then write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed artifacts only")
    arguments = parser.parse_args()
    if vyper.__version__ != COMPILER:
        sys.exit(f"the artifacts are made with vyper {COMPILER}, this is {vyper.__version__}: make install")
    artifacts = build()
    if not arguments.check:
        write(artifacts)
    elif stale := stale_names(artifacts):
        sys.exit(f"stale artifacts, run `make artifacts` and commit them: {', '.join(stale)}")


if __name__ == "__main__":
    main()
