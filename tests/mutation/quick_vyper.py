"""Vyper's compiler at less than half its time, for the mutation campaign alone.

Its optimizer walks again and again through parts that it has optimized already. Here a node that came out of it is
marked, and left alone when it is met again under the same kind of parent, which is all that the optimizer asks of a
parent. Nor is the assembler asked for line numbers, or for the runtime code a second time by itself. The creation code
is the same, byte by byte:

    python tests/mutation/quick_vyper.py         compares all contracts
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import vyper.ir.optimizer as optimizer
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.settings import Settings
from vyper.ir import compile_ir

ROOT = Path(__file__).resolve().parents[2]


def install() -> None:
    """From now on, in this process."""
    thorough = optimizer._optimize

    def optimize(node: Any, parent: Any) -> tuple[bool, Any]:
        place = parent.value if parent is not None and isinstance(parent.value, str) else ""
        if getattr(node, "optimized_below", None) == place:
            return False, node
        changed, better = thorough(node, parent)
        better.optimized_below = place
        return changed, better

    optimizer._optimize = optimize
    compile_ir._compile_to_assembly = compile_ir._compile_to_assembly.__wrapped__


def compile_quickly(root: Path, source: Path, evm_version: str) -> dict[str, Any]:
    """ABI and creation code (hex with 0x) of a contract below `root`."""
    bundle = FilesystemInputBundle([root])
    output = compile_from_file_input(
        bundle.load_file(source.relative_to(root)),
        input_bundle=bundle,
        settings=Settings(evm_version=evm_version),
        output_formats=["abi", "bytecode"],
    )
    return {"contractName": source.stem, "abi": output["abi"], "bytecode": output["bytecode"]}


def main() -> None:
    """Every contract, both ways."""
    sys.path.insert(0, str(ROOT))
    from scripts.build_artifacts import EVM_VERSION, compile_contract, contract_sources

    sources = contract_sources()
    started = time.process_time()
    slow = [compile_contract(source)["bytecode"] for source in sources]
    half = time.process_time()
    install()
    quick = [compile_quickly(ROOT, source, EVM_VERSION)["bytecode"] for source in sources]
    print(f"{half - started:.1f} s, then {time.process_time() - half:.1f} s")
    if differing := [
        source.stem for source, one, other in zip(sources, slow, quick, strict=True) if one != other
    ]:
        sys.exit(f"other code: {', '.join(differing)}")


if __name__ == "__main__":
    main()
