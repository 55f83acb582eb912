"""Values from files, held against rules before anything is made of them. Standard library only.

A rule says what a JSON value may be; `check` names the first field that breaks its rule, and what came.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from converter.errors import printable

MAX_DEPTH = 32  # of lists and objects inside each other
MAX_BYTES = 32 << 20
_LARGEST = (1 << 53) - 1  # that a JSON number holds exactly


@dataclass(frozen=True)
class Whole:
    """An int, no bool and no float."""

    low: int = 0
    high: int = _LARGEST


@dataclass(frozen=True)
class Real:
    """A finite int or float."""

    low: float = 0.0
    high: float = 1e15


@dataclass(frozen=True)
class Text:
    """A str that UTF-8 can hold, at most `longest` bytes of it, none of them NUL, which no path may hold."""

    longest: int = 1000


@dataclass(frozen=True)
class Choice:
    """One of these strs."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Flag:
    """true or false."""


@dataclass(frozen=True)
class Anything:
    """Any JSON value."""


@dataclass(frozen=True)
class Maybe:
    """null, or what the rule says."""

    rule: Rule


@dataclass(frozen=True)
class Items:
    """A list."""

    rule: Rule
    least: int = 0
    most: int = 1_000_000


@dataclass(frozen=True)
class Row:
    """A list of just as many items as rules."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Named:
    """An object whose keys are names of things, all of one rule."""

    rule: Rule
    least: int = 0


@dataclass(frozen=True)
class Fields:
    """An object with these fields; `optional` ones may be absent; others are refused only where it is `closed`."""

    needed: Mapping[str, Rule]
    optional: Mapping[str, Rule] = field(default_factory=dict)
    closed: bool = False


Rule = Union[Whole, Real, Text, Choice, Flag, Anything, Maybe, Items, Row, Named, Fields]
Built = TypeVar("Built")


def check(where: str, value: object, rule: Rule, error: Callable[[str], Exception] = ValueError) -> None:
    """Raises `error` with the field, its rule and what came, unless the value keeps the rule.

    >>> check("clip_ms", 1.5, Whole(1, 60_000))
    Traceback (most recent call last):
    ValueError: clip_ms: must be a whole number from 1 to 60000, got 1.5
    """
    match rule:
        case Whole(low, high):
            holds = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
            wanted = f"a whole number from {low} to {high}"
        case Real(low, high):
            holds = is_number(value) and low <= value <= high
            wanted = f"a number from {low:g} to {high:g}"
        case Text(longest):
            holds = isinstance(value, str) and _is_text(value, longest)
            wanted = f"text of at most {longest} bytes"
        case Choice(names):
            holds, wanted = isinstance(value, str) and value in names, f"one of {', '.join(names)}"
        case Flag():
            holds, wanted = isinstance(value, bool), "true or false"
        case Maybe(inner):
            if value is not None:
                check(where, value, inner, error)
            return
        case Items(_, least, most):
            holds = isinstance(value, (list, tuple)) and least <= len(value) <= most
            wanted = f"a list of {least} to {most} items"
        case Row(rules):
            holds, wanted = isinstance(value, (list, tuple)) and len(value) == len(rules), f"a list of {len(rules)}"
        case Named(_, least):
            holds = isinstance(value, dict) and len(value) >= least and all(_is_text(key, 1000) for key in value)
            wanted = f"an object of {least} or more names"
        case Fields(needed, optional, closed):
            holds, wanted = isinstance(value, dict), "an object"
            if isinstance(value, dict) and (missing := [key for key in needed if key not in value]):
                holds, wanted = False, f"an object with {', '.join(missing)}"
            elif isinstance(value, dict) and closed and (more := [k for k in value if k not in {**needed, **optional}]):
                holds, wanted = False, f"an object without {', '.join(shown(key) for key in more[:3])}"
        case _:
            return
    if not holds:
        raise error(f"{where or 'the file'}: must be {wanted}, got {shown(value)}")
    for name, item, inner in _parts(value, rule):
        shorter = printable(name[:60])
        check(f"{where}.{shorter}" if where else shorter, item, inner, error)


def _parts(value: Any, rule: Rule) -> list[tuple[str, object, Rule]]:
    """(name, value, rule) of what lies in a list or an object."""
    match rule:
        case Items(inner):
            return [(str(index), item, inner) for index, item in enumerate(value)]
        case Row(rules):
            return [(str(index), item, inner) for index, (item, inner) in enumerate(zip(value, rules, strict=True))]
        case Named(inner):
            return [(key, item, inner) for key, item in value.items()]
        case Fields(needed, optional):
            return [(key, value[key], inner) for key, inner in {**needed, **optional}.items() if key in value]
    return []


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite int or float; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return not isinstance(value, float) or math.isfinite(value)


def _is_text(value: str, longest: int) -> bool:
    try:
        return len(value.encode()) <= longest and "\0" not in value
    except UnicodeEncodeError:  # half a surrogate pair
        return False


@functools.cache
def rule_of(kind: Any) -> Rule:
    """The rule for a value of a type: a dataclass is its fields and no others, those with a default may be absent.

    >>> rule_of(tuple[int, ...]), rule_of(str | None)
    (Items(rule=Whole(low=0, high=9007199254740991), least=0, most=1000000), Maybe(rule=Text(longest=1000)))
    """
    simple: dict[Any, Rule] = {bool: Flag(), int: Whole(), float: Real(-1e15), str: Text(), Any: Anything()}
    parts = get_args(kind)
    if kind in simple:
        return simple[kind]
    if dataclasses.is_dataclass(kind):
        hints, none = get_type_hints(kind), dataclasses.MISSING
        each = {
            f.name: (f.default is none and f.default_factory is none, hints[f.name]) for f in dataclasses.fields(kind)
        }
        needed, optional = (
            {n: rule_of(t) for n, (needs, t) in each.items() if needs is want} for want in (True, False)
        )
        return Fields(needed, optional, closed=True)
    if get_origin(kind) is Literal:
        return Choice(parts)
    if get_origin(kind) is tuple:
        return Items(rule_of(parts[0])) if parts[-1] is ... else Row(tuple(map(rule_of, parts)))
    if get_origin(kind) is dict:
        return Named(rule_of(parts[1]))
    if get_origin(kind) in (Union, types.UnionType) and parts[-1] is type(None):
        return Maybe(rule_of(parts[0]))
    raise TypeError(f"no rule for {kind}")


def build(kind: type[Built], raw: object, where: str = "") -> Built:
    """The dataclass that asdict and JSON made this of; raises ValueError naming the first field that breaks rule_of
    the type, or what the dataclass itself raises.

    >>> build(Whole, {"low": "1"})
    Traceback (most recent call last):
    ValueError: low: must be a whole number from 0 to 9007199254740991, got '1'
    """
    rule: Rule = rule_of(cast(Any, kind))
    check(where, raw, rule)
    made: Built = _built(kind, raw)
    return made


def _built(kind: Any, raw: Any) -> Any:
    parts = get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{name: _built(hints[name], value) for name, value in raw.items()})
    if get_origin(kind) is tuple:
        each = [parts[0]] * len(raw) if parts[-1] is ... else parts
        return tuple(_built(inner, value) for inner, value in zip(each, raw, strict=True))
    if get_origin(kind) in (Union, types.UnionType) and raw is not None:
        return _built(parts[0], raw)
    return float(raw) if kind is float else raw


def shown(value: object) -> str:
    """A value for a message: short, and its kind where it is large.

    >>> shown("a" * 50), shown([1, 2, 3]), shown({"a": 1}), shown(True)
    ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...", 'a list of 3', 'an object with a', 'True')
    """
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {', '.join(printable(str(key)[:40]) for key in list(value)[:8]) or 'nothing'}"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 42 else text[:39] + "..."


def json_of(text: str | bytes) -> Any:
    """What JSON text says, all numbers finite, no name twice in an object, nothing deeper than MAX_DEPTH; raises
    ValueError.

    >>> json_of('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    >>> json_of("[" * 100_000)
    Traceback (most recent call last):
    ValueError: lists and objects lie more than 32 deep in each other
    >>> json_of(bytes([123, 255]))
    Traceback (most recent call last):
    ValueError: JSON is UTF-8, byte 1 is none (invalid start byte)
    >>> json_of('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: names 'a' twice
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"at most {MAX_BYTES} bytes of JSON are read, got {len(text)}")
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text  # Windows' editors write its mark
    except UnicodeDecodeError as error:  # whose repr holds all of the bytes
        raise ValueError(f"JSON is UTF-8, byte {error.start} is none ({error.reason})") from None
    outside = "".join(decoded.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", outside):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise ValueError(f"lists and objects lie more than {MAX_DEPTH} deep in each other")
    found = json.loads(decoded, parse_int=_whole, object_pairs_hook=_once)
    _require_finite("", found)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"names {shown(name)} twice")
        found[name] = value
    return found


def _whole(text: str) -> float:
    """An int, infinite with more digits than any number here has."""
    return int(text) if len(text) <= 40 else math.inf


def _require_finite(where: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where or 'the file'}: must be a finite number of at most 40 digits, got {value}")
    if isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, (float, dict, list)):
                _require_finite(f"{where}.{str(name)[:60]}" if where else str(name)[:60], item)


def json_in(file: Path) -> Any:
    """What a file of JSON says, as json_of; raises OSError or ValueError."""
    if (size := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"at most {MAX_BYTES} bytes of JSON are read, got {size}")
    return json_of(file.read_bytes())
