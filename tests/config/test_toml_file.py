"""The lines of a TOML file's keys, and its syntax errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from socketcluster.config.toml_file import KeyPath, TomlFile, line_of
from socketcluster.errors import InvalidOptionsError

TEXT = '''# ping_interval = 1, in a comment

ping_interval = 8000
"quoted" = 1
path = """
ping_timeout = 5
"""
inline = { a = 1, b = { c = 2 } }
dotted.a.b = 3

# Before a long list.
long = [
  1,
  2,
]
last_of_top = 1

[serve]
port = 1
[ limits . message ]
count = 2

[[channels]]
pattern = "a"
[[channels]]
pattern = "b"
'''


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("ping_interval",), 3),
        (("quoted",), 4),
        (("path",), 5),
        (("ping_timeout",), None),
        (("inline", "b", "c"), 8),
        (("dotted", "a", "b"), 9),
        (("long",), 12),
        (("long", 1), 12),
        (("long", 2), None),
        (("last_of_top",), 16),
        (("serve",), 18),
        (("serve", "port"), 19),
        (("limits",), 20),
        (("limits", "message", "count"), 21),
        (("channels", 0, "pattern"), 24),
        (("channels", 1), 25),
        (("channels", 1, "pattern"), 26),
        (("channels", 2), None),
        (("port",), None),
    ],
)
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_the_line_of_a_key(keys: KeyPath, line: int | None, line_break: str) -> None:
    assert line_of(TEXT.replace("\n", line_break), keys) == line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\nb = \n", ":2: this is not TOML: Invalid value"),
        (b"a = 1\na = 2\n", ":2: this is not TOML: Cannot overwrite a value"),
        (b"a = 1\nb = [1,\n", ":3: this is not TOML: Invalid value"),
        (b'a = 1\nb = "\xff"\n', ":2: not UTF-8"),
    ],
)
def test_a_file_that_is_not_toml(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "app.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidOptionsError) as raised:
        TomlFile.read(str(path))
    assert str(raised.value) == f"{path}{message}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionsError, match=r"none\.toml: No such file or directory"):
        TomlFile.read(str(tmp_path / "none.toml"))
    with pytest.raises(InvalidOptionsError, match=": Is a directory"):
        TomlFile.read(str(tmp_path))


def test_deep_nesting_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(f"x = {'[' * 5000}{']' * 5000}")
    with pytest.raises(InvalidOptionsError, match=r"deep\.toml: it is nested too deeply"):
        TomlFile.read(str(path))
