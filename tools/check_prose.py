"""Check the prose of docstrings, comments, error messages and Markdown against tools/prose.toml."""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(```.*?^```|~~~.*?^~~~)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")


@dataclass(frozen=True)
class Text:
    """A piece of prose and the line that it begins in."""

    line: int
    text: str


@dataclass(frozen=True)
class Fault:
    """A place that breaks a rule."""

    path: Path
    line: int
    found: str
    write: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.found!r}: {self.write}"


class Rule:
    """A pattern that prose must not match, except in some phrases."""

    def __init__(self, pattern: str, write: str, allow: list[str] | None = None) -> None:
        self._pattern = re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE)
        self._allowed = [phrase.lower() for phrase in allow or []]
        self.write = write

    def matches(self, text: str) -> Iterator[re.Match[str]]:
        """Yield the matches that no allowed phrase covers."""
        for match in self._pattern.finditer(text):
            near = " ".join(text[max(0, match.start() - 20) : match.end() + 20].lower().split())
            if not any(phrase in near for phrase in self._allowed):
                yield match


class Checker:
    """The rules of a configuration, applied to files."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._rules = [Rule(**rule) for rule in config["rule"]]
        self._function_summary = re.compile(config["summary"]["functions"])
        self._summary = re.compile(config["summary"]["all"])
        self._retired = set(config["names"]["retired"])

    def check_python(self, path: Path) -> Iterator[Fault]:
        """Yield the faults of a module."""
        source = path.read_text()
        tree = ast.parse(source)
        for node, text in _docstrings(tree):
            yield from self._check_text(path, text)
            summary = text.text.lstrip().split("\n")[0]
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for pattern in (self._summary, self._function_summary if is_function else None):
                if pattern is not None and (match := pattern.match(summary)):
                    write = "begin with an imperative or a noun"
                    yield Fault(path, text.line, match[0], write)
        for text in (*_comments(source), *_messages(tree)):
            yield from self._check_text(path, text)
        for line, name in _names(tree):
            if name.lower() in self._retired or name.lower().strip("_") in self._retired:
                yield Fault(path, line, name, "a retired name: use the field's word")

    def check_markdown(self, path: Path) -> Iterator[Fault]:
        """Yield the faults of a document, code excluded."""
        text = FENCE.sub(lambda code: "\n" * code[0].count("\n"), path.read_text())
        yield from self._check_text(path, Text(1, text))

    def _check_text(self, path: Path, text: Text) -> Iterator[Fault]:
        prose = CODE.sub(lambda code: "`" + "x" * (len(code[0]) - 2) + "`", text.text)
        for rule in self._rules:
            for match in rule.matches(prose):
                line = text.line + prose.count("\n", 0, match.start())
                yield Fault(path, line, " ".join(match[0].split()), rule.write)


def _docstrings(tree: ast.Module) -> Iterator[tuple[ast.AST, Text]]:
    """Yield each docstring with what it documents; a constant's belongs to its module or class."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for index, child in enumerate(body if isinstance(body, list) else ()):
            match child:
                case ast.Expr(ast.Constant(str(text))):
                    yield (node if index == 0 else child), Text(child.lineno, text)


def _comments(source: str) -> Iterator[Text]:
    """Yield comments; consecutive lines are one."""
    lines: list[str] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if lines and token.start[0] != first + len(lines):
                yield Text(first, "\n".join(lines))
                lines = []
            first = first if lines else token.start[0]
            lines.append(token.string.lstrip("# "))
    if lines:
        yield Text(first, "\n".join(lines))


def _messages(tree: ast.Module) -> Iterator[Text]:
    """Yield the texts of errors that are raised where they are made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for part in ast.walk(node.exc):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield Text(part.lineno, part.value)


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the names that a module defines."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def main() -> int:
    """Check the files in scope, or those named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="default: all in scope")
    arguments = parser.parse_args()
    config = tomllib.loads((ROOT / "tools" / "prose.toml").read_text())
    scope = config["scope"]
    code = [path for folder in scope["code"] for path in (ROOT / folder).rglob("*.py")]
    documents = [path for pattern in scope["documents"] for path in ROOT.glob(pattern)]
    named = {path.resolve() for path in arguments.files}
    checker = Checker(config)
    faults: list[Fault] = []
    for path in sorted({*code, *documents}):
        if named and path not in named:
            continue
        check = checker.check_python if path.suffix == ".py" else checker.check_markdown
        faults += check(path)
    for fault in sorted(faults, key=lambda fault: (fault.path, fault.line)):
        print(fault)
    if faults:
        print(f"{len(faults)} places to rewrite; the rules are in tools/prose.toml")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
