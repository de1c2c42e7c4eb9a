"""YAML that users wrote: plain values only, of bounded size, with the line of every key for messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sb3_alignsam.errors import InputError

MAX_BYTES = 2**18
"""Size of a file; rl-zoo3's own are below a tenth of it."""
MAX_VALUES = 20_000
"""Values in a file, those behind an alias counted at each of its uses: aliases of aliases grow exponentially."""
MAX_DEPTH = 32
MAX_TEXT = 2000
"""Characters of one key or value."""
MAX_WHOLE = 2**63 - 1
_PREFIX = "tag:yaml.org,2002:"
_SCALARS = frozenset(_PREFIX + name for name in ("null", "bool", "int", "float", "str"))
_MERGE = _PREFIX + "merge"
_ZOO_MAPPING = _PREFIX + "python/object/apply:collections.OrderedDict"


@dataclass(frozen=True)
class YamlFile:
    """What a file holds.

    :param content: its top-level mapping, of plain values. :param lines: the line of a key, counted from 1, by the keys
        that lead to it from the top; positions in lists are among them.
    """

    path: Path
    content: dict[str, Any]
    lines: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def where(self, *keys: Any) -> str:
        """``path:line`` of a key, or of the last one on the way to it that the file has."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.path}:{self.lines[keys]}" if keys else str(self.path)


def read_yaml(path: Path) -> YamlFile:
    """Read a file of plain values. No tag makes an object, nothing is evaluated, and time and memory are bounded.

    A mapping that rl-zoo3 wrote as an ``OrderedDict`` of Python is read as the plain mapping that it is.

    :raises InputError: the file cannot be read, or what it holds is no mapping, has a key twice, holds an object, or is
        larger or deeper than any configuration; with the line, where there is one.
    """
    shown = str(path)[:200]
    try:
        if not path.is_file():
            raise InputError(f"configuration {shown} does not exist or is no file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"configuration {shown!r} cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{shown} is larger than {MAX_BYTES} bytes, which no configuration is")
    try:
        builder = _Builder(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{shown} is no YAML that can be read: it is no text in UTF-8") from error
    except _PlaceError as wrong:
        place = shown if wrong.line is None else f"{shown}:{wrong.line}"
        raise InputError(f"{place}: {wrong}") from wrong
    if not isinstance(builder.value, dict):
        raise InputError(f"{shown} needs a mapping at its top level, such as one entry for each environment id")
    return YamlFile(path, builder.value, builder.lines)


def parse_text(text: str) -> Any:
    """One value as YAML.

    :raises ValueError: it is no YAML of plain values.
    """
    return _Builder(text).value


def as_number(value: Any) -> Any:
    """A word that is a number in scientific notation, such as ``1e-3``, as a float; all else unchanged."""
    if isinstance(value, str) and value[:1] in "+-.0123456789" and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


class _PlaceError(ValueError):
    """What is wrong. :param line: where, counted from 1; None: nowhere in particular."""

    def __init__(self, what: str, line: int | None) -> None:
        super().__init__(what)
        self.line = line


class _Builder:
    """Builds plain values from a text's nodes. PyYAML's own construction shares what lies behind aliases, so that the
    first to print or copy it would expand it; here it is expanded, and counted, at once."""

    def __init__(self, text: str) -> None:
        self.lines: dict[tuple[Any, ...], int] = {}
        self._count = 0
        self._loader = yaml.SafeLoader(text) if _printable(text) else None
        if self._loader is None:
            raise _PlaceError("it is no YAML that can be read: it holds control characters", None)
        try:
            node = self._loader.get_single_node()
            self.value = None if node is None else self._value(node, ())
        except RecursionError:
            raise _PlaceError("it is nested deeper than any configuration", None) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = f"it is no YAML that can be read: {' '.join((error.problem or '').split())[:150]}"
            raise _PlaceError(what, None if mark is None else mark.line + 1) from error
        except yaml.YAMLError as error:
            raise _PlaceError(f"it is no YAML that can be read: {' '.join(str(error).split())[:150]}", None) from error
        finally:
            self._loader.dispose()

    def _value(self, node: yaml.Node, keys: tuple[Any, ...]) -> Any:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MAX_VALUES:
            raise _PlaceError(f"it holds more than {MAX_VALUES} values, those behind aliases included", line)
        if len(keys) > MAX_DEPTH:
            raise _PlaceError("it is nested deeper than any configuration", line)
        if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
            return [self._value(each, (*keys, index)) for index, each in enumerate(node.value)]
        if isinstance(node, yaml.SequenceNode) and node.tag == _ZOO_MAPPING:
            return self._zoo_mapping(node, keys)
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node)
        tag = node.tag.removeprefix(_PREFIX)[:80]
        if tag == "timestamp":
            raise _PlaceError(f"'{node.value}' would be a date; write it in quotes", line)
        raise _PlaceError(f"tag '{tag}' is refused, it is no YAML of plain values; write texts and numbers only", line)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        line = node.start_mark.line + 1
        if len(node.value) > MAX_TEXT:
            raise _PlaceError(f"a value has more than {MAX_TEXT} characters", line)
        assert self._loader is not None
        try:
            value = self._loader.construct_object(node)
        except (ValueError, KeyError, OverflowError, IndexError) as error:
            raise _PlaceError(f"'{node.value[:80]}' is no {node.tag.removeprefix(_PREFIX)}", line) from error
        if isinstance(value, int) and abs(value) > MAX_WHOLE:
            raise _PlaceError(f"the number {node.value[:20]}... is too large", line)
        return as_number(value) if node.style is None else value

    def _mapping(self, node: yaml.MappingNode, keys: tuple[Any, ...]) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        first: dict[Any, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            key = self._key(key_node)
            if key in own:
                raise _PlaceError(f"key '{key}' is there twice; the first is in line {first[key]}", line)
            first[key] = line
            self.lines.setdefault((*keys, key), line)  # a mapping that is merged into another comes second
            own[key] = self._value(value_node, (*keys, key))
        inherited: list[dict[Any, Any]] = []
        for each in merged:
            if not isinstance(each, yaml.MappingNode):
                raise _PlaceError("what '<<' refers to is no mapping", each.start_mark.line + 1)
            inherited.append(self._value(each, keys))
        whole: dict[Any, Any] = {}
        for content in (*reversed(inherited), own):  # of several, the first counts
            whole |= content
        return whole

    def _key(self, node: yaml.Node) -> Any:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            raise _PlaceError("a key is no plain word", line)
        if len(node.value) > MAX_TEXT or not node.value.isprintable():
            raise _PlaceError("a key holds control characters, or is longer than any name", line)
        return self._scalar(node)

    def _zoo_mapping(self, node: yaml.SequenceNode, keys: tuple[Any, ...]) -> dict[Any, Any]:
        """``!!python/object/apply:collections.OrderedDict`` with its one argument, a list of pairs."""
        line = node.start_mark.line + 1
        arguments: Sequence[Any] = [self._value(each, keys) for each in node.value]
        pairs = arguments[0] if len(arguments) == 1 else [None]
        if not isinstance(pairs, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
        ):
            raise _PlaceError("an OrderedDict is written as one list of pairs", line)
        return dict(pairs)


def _printable(text: str) -> bool:
    """Whether PyYAML's reader takes all characters. It is asked first, since its error shows a whole table."""
    return yaml.reader.Reader.NON_PRINTABLE.search(text) is None
