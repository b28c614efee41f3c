"""The mutants of a Vyper file: every way in which one rule of it is removed or weakened.

| class      | what is broken |
|------------|----------------|
| access     | an assert, a check or a condition about who calls, as under `rule` |
| lock       | `@nonreentrant` removed |
| rounding   | a division rounded the other way |
| rule       | an assert or a check removed; a comparison moved by one; a part of an `and`, an `or` or a list, or a  |
|            | `not` left out; a condition always true, never true; a `min` or `max` left out; a true for a false |
| effect     | a write, a call or an event left out |
| arithmetic | + and -, & and |, << and >> exchanged |
| constant   | one more, one less; not where a type alone uses it |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO
from itertools import accumulate
from tokenize import generate_tokens

import vyper.ast as vy
import vyper.ast.parse
from vyper.ast.pre_parser import PreParser

CLASSES = ("access", "lock", "rounding", "rule", "effect", "arithmetic", "constant")
MOVED = {">=": (">",), ">": (">=",), "<=": ("<",), "<": ("<=",), "==": (">=", "<=")}  # the last: not of 0
EXCHANGED = {"+": "-", "-": "+", "&": "|", "|": "&", "<<": ">>", ">>": "<<"}
ACCESS = re.compile(
    r"msg\.sender|_check_(owner|admin|guardian|delayed|timelock|keeper|teller|veto)|ROLE|GUARDIAN|STRATEGIST"
)
CEILINGS = ("_ceil_div", "_div_up")
TYPE_ONLY = re.compile(r"(DynArray\[[^\[\]]*(\[[^\]]*\])?[^\[\]]*\]|(Bytes|String)\[[\w.]+\]|bound=[\w.]+)")


@dataclass(frozen=True)
class Mutant:
    """One change: the characters from `start` to `end` of a file are replaced by `after`."""

    file: str  # below contracts/
    function: str  # empty for a constant
    line: int  # from 1
    kind: str  # of CLASSES
    what: str
    start: int
    end: int
    before: str
    after: str
    copy: int = 0  # among changes of one function that read alike

    @property
    def key(self) -> str:
        """What it is called in equivalent.json; stays the same when lines move."""
        before, after = (" ".join(text.split()) for text in (self.before, self.after))
        return f"{self.file} {self.function}: {self.what}: {before} -> {after}" + f" #{self.copy}" * bool(
            self.copy
        )

    def apply(self, source: str) -> str:
        """The broken file."""
        return source[: self.start] + self.after + source[self.end :]


def mutants(file: str, sources: dict[str, str]) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines. `sources`: text by file name, of all contracts."""
    source = sources[file]
    tree = _parse(source)
    maker = _Maker(file, source)
    found: list[Mutant] = []
    elsewhere = "\n".join(TYPE_ONLY.sub("", text) for text in sources.values())
    for declared in tree.get_children(vy.VariableDecl):
        if declared.is_constant and len(re.findall(rf"\b{declared.target.id}\b", elsewhere)) > 1:
            found += maker.constant(declared)
    for function in tree.get_children(vy.FunctionDef):
        for mutant in maker.function(function):
            found.append(replace(mutant, function=function.name))
    seen: Counter[str] = Counter()
    numbered = []
    for mutant in found:
        numbered.append(replace(mutant, copy=seen[mutant.key]))
        seen[mutant.key] += 1
    return sorted(numbered, key=lambda mutant: (mutant.line, mutant.start))


class _Maker:
    """Finds a file's mutants by its syntax tree."""

    def __init__(self, file: str, source: str) -> None:
        self.file = file
        self.source = source
        self.starts = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]

    def start(self, node: vy.VyperNode) -> int:
        return int(self.starts[node.lineno - 1] + node.col_offset)

    def end(self, node: vy.VyperNode) -> int:
        return int(self.starts[node.end_lineno - 1] + node.end_col_offset)

    def text(self, node: vy.VyperNode) -> str:
        return self.source[self.start(node) : self.end(node)]

    def change(self, kind: str, what: str, node: vy.VyperNode, after: str) -> Mutant:
        """The node's text replaced by `after`."""
        return self.cut(kind, what, self.start(node), self.end(node), after)

    def cut(self, kind: str, what: str, start: int, end: int, after: str) -> Mutant:
        line = self.source.count("\n", 0, start) + 1
        return Mutant(self.file, "", line, kind, what, start, end, self.source[start:end], after)

    # Operators

    def constant(self, declared: vy.VariableDecl) -> Iterator[Mutant]:
        if "int" in self.text(declared.annotation):
            for change in ("+ 1", "- 1"):
                after = f"({self.text(declared.value)}) {change}"
                mutant = self.change("constant", f"{declared.target.id} {change}", declared.value, after)
                yield mutant

    def function(self, function: vy.FunctionDef) -> Iterator[Mutant]:
        for decorator in function.decorator_list:
            if getattr(decorator, "id", "") == "nonreentrant":
                yield self.cut(
                    "lock", "lock removed", self.start(decorator) - 1, self.end(decorator), "# no lock"
                )
        for statement in function.body:
            yield from self.statement(statement)

    def statement(self, node: vy.VyperNode) -> Iterator[Mutant]:
        kind = "access" if ACCESS.search(self.text(_head(node))) else "rule"
        if isinstance(node, vy.Assert):
            calls = node.get_descendants(vy.ExtCall)
            yield self.change(kind, "assert removed", node, self.text(calls[0]) if calls else "pass")
            yield from self.expression(node.test, kind)
        elif (
            isinstance(node, vy.Expr)
            and isinstance(node.value, vy.Call)
            and _called(node.value).startswith("_check")
        ):
            yield self.change(kind, "check removed", node, "pass")
        elif isinstance(node, (vy.Expr, vy.Log, vy.Assign, vy.AugAssign)):
            yield self.change("effect", "left out", node, "pass")
        if isinstance(node, vy.AugAssign):
            yield from self.operator(node.op, node.target, node.value, "=")
        if isinstance(node, vy.Return) and isinstance(node.value, (vy.Compare, vy.BoolOp)):
            yield self.change(kind, "always", node.value, "True")
            yield self.change(kind, "never", node.value, "False")
        if isinstance(node, vy.If):
            yield self.change(kind, "always", node.test, "True")
            yield self.change(kind, "never", node.test, "False")
            yield from self.expression(node.test, kind)
        for body in (getattr(node, "body", []), getattr(node, "orelse", [])):
            for inner in body:
                yield from self.statement(inner)
        if not isinstance(node, (vy.Assert, vy.If, vy.Log, vy.Raise)):
            for part in ("value", "iter"):
                if isinstance(inner := getattr(node, part, None), vy.VyperNode):
                    yield from self.expression(inner, "rule")

    def expression(self, node: vy.VyperNode, kind: str) -> Iterator[Mutant]:
        if isinstance(node, vy.Compare):
            yield from self.comparison(node, kind)
        elif isinstance(node, vy.BoolOp):
            yield from self.parts(node, kind)
        elif isinstance(node, vy.IfExp):
            yield self.change(kind, "always", node.test, "True")
            yield self.change(kind, "never", node.test, "False")
        elif isinstance(node, vy.UnaryOp) and isinstance(node.op, vy.Not):
            yield self.change(kind, "not left out", node, f"({self.text(node.operand)})")
        elif isinstance(node, vy.NameConstant) and node.value in (True, False):
            yield self.change(kind, f"{not node.value} for {node.value}", node, str(not node.value))
        elif isinstance(node, vy.BinOp):
            if isinstance(node.op, vy.FloorDiv):
                yield self.division(node)
            yield from self.operator(node.op, node.left, node.right)
        elif isinstance(node, vy.Call) and len(node.args) == 2:
            one, other = map(self.text, node.args)
            if _called(node) in ("min", "max"):
                yield self.change(kind, "bound left out", node, f"({one})")
                yield self.change(kind, "bound left out", node, f"({other})")
            elif _called(node) in CEILINGS:
                yield self.change("rounding", "rounded down", node, f"(({one}) // ({other}))")
        for child in node.get_children():
            yield from self.expression(child, kind)

    def comparison(self, node: vy.Compare, kind: str) -> Iterator[Mutant]:
        gap = self.end(node.left), self.start(node.right)
        if isinstance(node.op, (vy.In, vy.NotIn)):
            if isinstance(node.right, vy.List) and len(node.right.elements) > 1:
                names = [self.text(element) for element in node.right.elements]
                for name in names:
                    rest = ", ".join(other for other in names if other != name)
                    yield self.change(kind, f"{name} left out", node.right, f"[{rest}]")
            return
        found = re.search(r"[<>=!]=|[<>]", self.source[gap[0] : gap[1]])
        assert found, self.text(node)
        whether_0 = found[0] == "==" and self.text(node.right) == "0"
        for other in () if whether_0 else MOVED.get(found[0], ()):
            start = gap[0] + found.start()
            mutant = self.cut(kind, "moved by one", start, start + len(found[0]), other)
            yield self.widened(mutant, node)

    def parts(self, node: vy.BoolOp, kind: str) -> Iterator[Mutant]:
        word = " and " if isinstance(node.op, vy.And) else " or "
        texts = [f"({self.text(value)})" for value in node.values]
        for index in range(len(texts)):
            rest = word.join(texts[:index] + texts[index + 1 :])
            yield self.change(kind, f"part {index + 1} left out", node, f"({rest})")

    def division(self, node: vy.BinOp) -> Mutant:
        by = self.text(node.right)
        match node.left:
            case vy.BinOp(op=vy.Sub(), left=vy.BinOp(op=vy.Add()) as sum_) if self.text(sum_.right) == by:
                return self.change("rounding", "rounded down", node, f"(({self.text(sum_.left)}) // ({by}))")
        up = self.text(node.left)
        return self.change("rounding", "rounded up", node, f"((({up}) + ({by}) - 1) // ({by}))")

    def operator(
        self, op: vy.VyperNode, left: vy.VyperNode, right: vy.VyperNode, suffix: str = ""
    ) -> Iterator[Mutant]:
        gap = self.source[self.end(left) : self.start(right)]
        found = re.search(r"<<|>>|//|\*\*|[-+&|*^%]", re.sub(r"#.*", lambda note: " " * len(note[0]), gap))
        if found and (other := EXCHANGED.get(found[0])):
            start = self.end(left) + found.start()
            mutant = self.cut(
                "arithmetic", f"{found[0]}{suffix} exchanged", start, start + len(found[0]), other
            )
            yield self.widened(mutant, op.get_ancestor())

    def widened(self, mutant: Mutant, node: vy.VyperNode) -> Mutant:
        """The same change, told as one of the whole node: for who reads it."""
        start, end = self.start(node), self.end(node)
        after = self.source[start : mutant.start] + mutant.after + self.source[mutant.end : end]
        return replace(mutant, start=start, end=end, before=self.source[start:end], after=after)


def _parse(source: str) -> vy.Module:
    """The syntax tree, whose nodes' ends lie where they do in `source`.

    Vyper puts shorter words for `staticcall` and others, parses that as Python, and moves columns back where a token
    begins; here also where one ends.
    """

    class WithEnds(PreParser):  # type: ignore[misc]
        def parse(self, code: str) -> None:
            super().parse(code)
            moved = {(line, column + by): by for (line, column), by in self.adjustments.items()}
            for token in generate_tokens(StringIO(code).readline):
                by = moved.get(token.start, 0)
                self.adjustments.setdefault((token.end[0], token.end[1] - by), by)

    plain, vyper.ast.parse.PreParser = vyper.ast.parse.PreParser, WithEnds
    try:
        return vyper.ast.parse_to_ast(source)
    finally:
        vyper.ast.parse.PreParser = plain


def _head(node: vy.VyperNode) -> vy.VyperNode:
    """What decides in a statement."""
    return node.test if isinstance(node, (vy.If, vy.Assert)) else node


def _called(node: vy.Call) -> str:
    """The name of the function that is called."""
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))
