"""Generates mutants of Python source: one small change each, of the kind that a tired author makes.

Nothing is random here: the same source gives the same mutants under the same names. A name says where the
change is and what it is, not in which line, so that a list of names outlives changes elsewhere in the file.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Final

import attrs

__all__ = ["Change", "Mutant", "named", "python_mutants"]


@attrs.frozen
class Change:
    """A part of a source, in bytes, and what stands there instead."""

    start: int
    end: int
    text: str
    #: The function or the class that it is in; empty: neither.
    symbol: str
    #: What is done, in a few words.
    what: str


@attrs.frozen
class Mutant:
    """A changed file of an adapter's package."""

    #: `FILE:SYMBOL: WHAT`, with a number where that is not unique.
    name: str
    #: Path within the package.
    file: str
    source: str


_COMPARISONS: Final = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_OPERATORS: Final = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.Mod: "+"}
_TWINS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_STATES: Final = ("READY", "DELAYED", "RESERVED", "BURIED")
#: Fewer promises are no breach; false ones are in the table of `source_mutants`.
_LEFT_ALONE: Final = frozenset({"Capabilities", "AdapterSpec", "get_logger", "TypeVar"})


def python_mutants(source: str, *, thorough: bool = False) -> Iterator[Change]:
    """Yield the changes of a module, in the order of its text.

    Args:
        source: The text of the module.
        thorough: Also what only tests of the inside can tell: conditions that always or never hold, operands
            that are forgotten, errors that are not caught, one wake-up for many.
    """
    finder = _Thorough(source) if thorough else _Finder(source)
    finder.visit(ast.parse(source))
    yield from sorted(finder.found, key=lambda change: (change.start, change.end, change.what))


def named(file: str, source: str, changes: Iterator[Change]) -> Iterator[Mutant]:
    """Turn changes into mutants that can be told apart."""
    seen: Counter[str] = Counter()
    data = source.encode()
    for change in changes:
        name = f"{file}:{change.symbol or 'module'}: {change.what}"
        seen[name] += 1
        if seen[name] > 1:
            name = f"{name} #{seen[name]}"
        text = (data[: change.start] + change.text.encode() + data[change.end :]).decode()
        yield Mutant(name, file, text)


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str) -> None:
        lines = source.encode().splitlines(keepends=True)
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))
        self._source = source.encode()
        self._symbols: list[str] = []
        self.found: list[Change] = []

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr | ast.stmt) -> str:
        start, end = self._span(node)
        return self._source[start:end].decode()

    def _change(self, node: ast.expr | ast.stmt, text: str, what: str) -> None:
        start, end = self._span(node)
        short = " ".join(what.split())
        self.found.append(
            Change(start, end, text, ".".join(self._symbols), short if len(short) <= 90 else short[:89] + "…")
        )

    def _swap(self, node: ast.expr, text: str) -> None:
        self._change(node, text, f"`{self._text(node)}` to `{text}`")

    # --- where nothing is changed -----------------------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._symbols.append(node.name)
        for part in node.body:
            self.visit(part)
        self._symbols.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._symbols.append(node.name)
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        for part in node.body:
            self.visit(part)
        self._symbols.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._change(node, "pass", f"without `{self._text(node)}`")  # what errors say is not judged

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_Import(self, node: ast.Import) -> None:
        pass

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    # --- statements -------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node.value, ast.Call):
            self._change(node, "pass", f"without `{self._text(node)}`")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self._change(node, "pass", f"without `{self._text(node)}`")
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._change(node, "pass", f"without `{self._text(node)}`")
        self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._change(node, "pass", f"without `{self._text(node)}`")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._change(node, "pass", "without `continue`")

    def visit_Break(self, node: ast.Break) -> None:
        self._change(node, "pass", "without `break`")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._change(node, "return None", f"`{self._text(node)}` to `return None`")
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        is_block = node.body[0].lineno > node.lineno
        if is_block and all(item.optional_vars is None for item in node.items):
            start = self._span(node)[0]
            end = self._source.index(b":", self._span(node.items[-1].context_expr)[1])
            held = ", ".join(self._text(item.context_expr) for item in node.items)
            self.found.append(
                Change(start, end, "if True", ".".join(self._symbols), f"without `with {held}`")
            )
        self.generic_visit(node)

    # --- expressions ------------------------------------------------------------------------

    def _condition(self, test: ast.expr) -> None:
        if not isinstance(test, (ast.Compare, ast.UnaryOp, ast.BoolOp, ast.Constant)):
            self._change(test, f"not ({self._text(test)})", f"`{self._text(test)}` turned round")

    def visit_If(self, node: ast.If) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._change(test, "True", f"without `if {self._text(test)}`")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1:
            left, right = map(self._operand, (node.left, node.comparators[0]))
            for operator in _COMPARISONS[type(node.ops[0])]:
                self._swap(node, f"{left} {operator} {right}")
        self.generic_visit(node)

    def _operand(self, node: ast.expr) -> str:
        return f"({self._text(node)})" if isinstance(node, ast.NamedExpr) else self._text(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word = " or " if isinstance(node.op, ast.And) else " and "
        self._swap(node, f"({word.join(f'({self._text(value)})' for value in node.values)})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._swap(node, f"bool({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if (operator := _OPERATORS.get(type(node.op))) is not None:
            left, right = self._text(node.left), self._text(node.right)
            self._swap(node, f"({left}) {operator} ({right})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        match node.value:
            case bool(value):
                self._swap(node, str(not value))
            case int(value):
                self._swap(node, str(value + 1))
                self._swap(node, str(value - 1))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == "JobState" and node.attr in _STATES:
            another = _STATES[(_STATES.index(node.attr) + 1) % len(_STATES)]
            self._swap(node, f"JobState.{another}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = self._text(node.func)
        if function in _LEFT_ALONE:
            return
        if function in _TWINS:
            self._swap(node.func, _TWINS[function])
        texts = [self._text(argument) for argument in node.args]
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        if isinstance(node.func, ast.Name) and function.islower() and texts and not starred:
            self._change(node, f"({texts[0]})", f"`{self._text(node)}` to its first argument")
        for first, second in zip(node.args, node.args[1:], strict=False):
            one, other = self._text(first), self._text(second)
            if one != other and not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
                start, end = self._span(first)[0], self._span(second)[1]
                what = f"`{one}` and `{other}` of `{function}` swapped"
                self.found.append(
                    Change(start, end, f"{other}, {one}", ".".join(self._symbols), " ".join(what.split()))
                )
        for keyword in node.keywords:
            if keyword.arg is not None and len(node.args) + len(node.keywords) > 1:
                start, end = self._span(keyword.value)
                start = self._source.rindex(keyword.arg.encode(), 0, start)
                comma = self._source[end : end + 1] == b","
                change = Change(
                    start,
                    end + comma,
                    "",
                    ".".join(self._symbols),
                    f"`{keyword.arg}=` of `{function}` left out",
                )
                self.found.append(change)
        self.generic_visit(node)


#: Methods that are taken for each other.
_ALIKE: Final = {
    "notify_all": "notify",
    "notify": "notify_all",
    "append": "appendleft",
    "appendleft": "append",
    "popleft": "pop",
    "startswith": "endswith",
    "partition": "rpartition",
    "rpartition": "partition",
}


class _Thorough(_Finder):
    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        for value in ("True", "False"):
            self._swap(node.test, value)
        for part in (node.test, *node.body, *node.orelse):
            self.visit(part)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word = " and " if isinstance(node.op, ast.And) else " or "
        for value in node.values:
            rest = [f"({self._text(other)})" for other in node.values if other is not value]
            self._swap(node, f"({word.join(rest)})")
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self._change(node, "pass", "without `return`")
        else:
            self.visit(node.value)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if isinstance(node.type, ast.Tuple):
            for error in node.type.elts:
                rest = [self._text(other) for other in node.type.elts if other is not error]
                text = f"({', '.join(rest)},)"
                self._change(node.type, text, f"`{self._text(error)}` not caught with `{', '.join(rest)}`")
        elif node.type is not None:
            self._change(node.type, "()", f"`{self._text(node.type)}` not caught")
        for part in node.body:
            self.visit(part)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and (other := _ALIKE.get(node.func.attr)) is not None:
            self._swap(node.func, f"{self._text(node.func.value)}.{other}")
        super().visit_Call(node)
