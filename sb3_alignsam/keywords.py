"""Checks values that a user wrote (YAML, ``key:value``) against a function's signature, before it is called."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sb3_alignsam.errors import InputError
from sb3_alignsam.yaml_files import parse_text


def parse_value(text: str) -> Any:
    """Read a value as YAML does, and ``1e-3`` as a number, which YAML 1.1 takes for a word.

    :raises InputError: it is no YAML.
    """
    try:
        return parse_text(text)
    except ValueError as error:
        raise InputError(f"value '{text[:200]}' cannot be read: {' '.join(str(error).split())[:150]}") from error


def unknown_name(name: str, known: Collection[str], what: str) -> InputError:
    """The error for a name that is not among those known, with its nearest matches."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(known))}"
    return InputError(f"{what} '{name}' is not known; {hint}")


def check_keywords(
    function: Callable[..., Any], values: Mapping[str, Any], what: str, hidden: Collection[str] = ()
) -> None:
    """Check that a function takes these keywords with values of these types.

    :param hidden: parameters that a user may not set.
    :raises InputError: names the first keyword that is unknown or of another type.
    """
    known = [name for name in function.__annotations__ if name != "return" and name not in hidden]
    for name, value in values.items():
        if name not in known:
            raise unknown_name(str(name), known, what)
        hint = _hint(function, name)
        if not _fits(value, hint):
            raise InputError(f"{what} '{name}' needs {_describe(hint)}, got {value!r}")


def _hint(function: Callable[..., Any], name: str) -> Any:
    """The type of one parameter. One at a time: SB3 annotates others with names that exist for type checkers only."""
    one = types.SimpleNamespace(__annotations__={name: function.__annotations__[name]})
    return get_type_hints(one, getattr(function, "__globals__", {}))[name]


def check_choice(name: str, value: Any, known: Sequence[Any]) -> None:
    """:raises InputError: a value is none of those that are known; None among them is not told."""
    if value not in known:
        raise InputError(f"{name} '{value}' is not known; known: {', '.join(each for each in known if each)}")


def check_whole(name: str, value: Any, least: int, most: int) -> None:
    """:raises InputError: a value is no whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} needs a whole number from {least} to {most}, got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is Sequence or origin is list:
        return isinstance(value, list | tuple) and all(_fits(each, arguments[0]) for each in value)
    if origin is Mapping or origin is dict:
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, str | Path)
    # Other classes (callables, protocols, objects of libraries) cannot be written in YAML: only real instances fit.
    return (
        isinstance(value, hint)
        if isinstance(hint, type) and not getattr(hint, "_is_protocol", False)
        else callable(value)
    )


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        parts = [_describe(each) for each in arguments]
        return " or ".join(part for part in dict.fromkeys(parts) if part)
    if origin is Literal:
        return "one of " + ", ".join(str(each) for each in arguments)
    if origin in (Sequence, list):
        return "a list"
    if origin in (Mapping, dict):
        return "a mapping"
    names = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "null",
        Path: "a path",
    }
    return names.get(hint, "")
