"""JSON, Python, YAML or a label map as text in; the class names in its lists and mappings out."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toplabel.errors import LabelsError
from toplabel.labels import yaml
from toplabel.labels.lines import with_indices
from toplabel.labels.listed import SYNSET, ListedNames, is_index
from toplabel.labels.tables import listed_of_cells, listed_of_records

KEYS = (
    *("id2label", "idx_to_class", "class_to_idx", "label2id"),
    *("names", "classes", "labels", "label_names", "class_names", "categories"),
)
"""Where people keep the names in a larger object."""

_CONTAINERS = (list, tuple, dict)
_DEEPEST = 3  # objects in one another
_ITEM = re.compile(r"\bitem\s*\{([^{}]*)\}")
_FIELD = re.compile(r"""(\w+)\s*:\s*(?:"([^"\n]*)"|'([^'\n]*)'|([^\s,'"]+))""")
_DEFINITION = re.compile(r"\s*(?:#.*\n\s*)*\w+\s*(?::[^=\n]+)?=\s*[\[({\w]")


def listed_of_json(text: str, called: str = "") -> ListedNames:
    """The names in JSON, in an object a line, or in a Python literal that is meant as such.

    Args:
        text: The file's.
        called: The file's name without its suffix.

    Raises:
        LabelsError: It is none of these, or has no names; the message has the line, item or key.
    """
    try:
        found = json.loads(text, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        for read in (_python_values, _lines_of_json):
            if values := read(text):
                return listed_of_value(values[0] if len(values) == 1 else values, called)
        raise LabelsError(
            f"line {error.lineno} is not valid JSON: {error.msg}; expected a list of names,"
            " index -> name, or name -> index"
        ) from error
    except LabelsError:
        raise
    except (RecursionError, ValueError) as error:  # nested too deep; a number too long
        raise LabelsError("got JSON that cannot be read; expected a list of names") from error
    return listed_of_value(found, called)


def listed_of_python(text: str, called: str = "") -> ListedNames:
    """The names in a Python file that lists them, `CLASSES = [...]`; nothing of it is run.

    Raises:
        LabelsError: No list or dict of names stands in it, or several that differ.
    """
    values = _python_values(text)
    if not values:
        raise LabelsError("no list or dict of names stands in it, such as CLASSES = ['cat', 'dog']")
    return listed_of_value(values[0] if len(values) == 1 else values, called)


def listed_of_yaml(text: str, called: str = "") -> ListedNames:
    """The names in YAML: a list, a mapping, or one under a usual key such as `names:`.

    Raises:
        LabelsError: There are none in it.
    """
    return listed_of_value(yaml.parse(text), called)


def listed_of_label_map(text: str, called: str = "") -> ListedNames:
    """The names in the `item { id: 1 name: 'cat' }` of TensorFlow's label maps.

    Raises:
        LabelsError: There are no such items.
    """
    records = [
        {key: double or single or bare for key, double, single, bare in _FIELD.findall(item)}
        for item in _ITEM.findall(text)
    ]
    if not records:
        raise LabelsError("it has no items; expected item { id: 1 name: 'cat' } and so on")
    shown = "display_name" if all("display_name" in r for r in records) else "name"
    return listed_of_records([{"id": r.get("id"), "name": r.get(shown)} for r in records])


def reader_of_text(text: str) -> Callable[[str, str], ListedNames] | None:
    """What reads a text that is no list of lines, whatever the file is called; None: lines."""
    start, end = text.strip()[0], text.strip()[-1]
    if start == "{" or (start, end) in (("[", "]"), ("(", ")")) and "\n[" not in text:
        values = start == "{" or _python_values(text) or _is_json(text)
        return listed_of_json if values else None
    if _ITEM.match(text.lstrip()):
        return listed_of_label_map
    defined = _python_values(text) if _DEFINITION.match(text) else []
    if any(len(value) > 1 or not {*map(str, value)}.isdisjoint(KEYS) for value in defined):
        return listed_of_python
    return listed_of_yaml if yaml.has_key(text, KEYS) else None


def listed_of_value(value: Any, called: str = "") -> ListedNames:
    """The names in a list or mapping, or in one under a usual key of an object.

    Args:
        value: Of JSON.
        called: The key that leads to it, or the file's name: "class_to_idx" tells a direction.

    Raises:
        LabelsError: There are none, or two keys name different classes.
    """
    if isinstance(value, list | tuple):
        return _of_list(value)
    if not isinstance(value, Mapping):
        raise LabelsError(f"got the JSON {value!r:.40}; expected a list of names or an object")
    inner = _under_keys(value)
    if inner:
        return _of_keys(inner)
    values = list(value.values())
    if value and all(map(_is_synset_pair, values)):
        return ListedNames(
            names=tuple(pair[1] for pair in values),
            keys=tuple(map(str, value)),
            ids=tuple(pair[0] for pair in values),
        )
    if value and all(isinstance(one, Mapping) and one for one in values):
        return listed_of_records([{"index": key, **one} for key, one in value.items()])
    for key, one in value.items():
        if not isinstance(one, str) and type(one) is not int:
            raise LabelsError(
                f"got the pair {key!r}: {one!r:.40}; expected index -> name, name -> index, or"
                f" one of these under {', '.join(map(repr, KEYS))}"
            )
    return ListedNames.of(value, called=called)


def _under_keys(value: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """What stands under the usual keys of an object, or of those in it where it has none."""
    found = {key: one for key in KEYS if isinstance(one := value.get(key), _CONTAINERS) and one}
    if found or depth == _DEEPEST:
        return found
    containers = {key: one for key, one in value.items() if isinstance(one, _CONTAINERS) and one}
    for one in containers.values():
        if isinstance(one, Mapping) and (found := _under_keys(one, depth + 1)):
            return found
    return containers if len(value) == 1 and not depth else {}


def _of_keys(found: Mapping[str, Any]) -> ListedNames:
    """The names under the first of the keys, where those under the others are no other names.

    Raises:
        LabelsError: They are.
    """
    (first, listed), *others = [(key, listed_of_value(one, key)) for key, one in found.items()]
    for key, other in others:
        if set(other.names) == set(listed.names) and _order(other) != _order(listed):
            raise LabelsError(
                f"{first!r} and {key!r} give the names different indices; remove the wrong one"
            )
    return listed


def _order(listed: ListedNames) -> dict[str, float] | list[str]:
    """Each name's index, as far as it can be compared."""
    if listed.keys is None:
        return {name: place for place, name in enumerate(listed.names)}
    if not all(map(is_index, listed.keys)):
        return list(listed.keys)
    return {name: float(key) for name, key in zip(listed.names, listed.keys, strict=True)}


def _of_list(items: Sequence[Any]) -> ListedNames:
    if items and all(isinstance(item, Mapping) and item for item in items):
        if all(len(item) == 1 for item in items) and len({next(iter(i)) for i in items}) > 1:
            pairs = [pair for item in items for pair in item.items()]
            return listed_of_value(_without_doubles([(str(key), one) for key, one in pairs]))
        return listed_of_records(items)
    if items and all(_is_row(item) for item in items):
        return listed_of_cells(
            [(place, [str(cell) for cell in item]) for place, item in enumerate(items)],
            headed=False,
            what="item",
        )
    if all(type(item) is int for item in items) and len(set(items)) == len(items) > 1:
        return ListedNames(names=tuple(map(str, items)))  # classes that are called by numbers
    for place, item in enumerate(items):
        if not isinstance(item, str) or not item.strip():
            raise LabelsError(f"got {item!r:.40} at item {place}; expected a name")
    return _checked_against_numbers(ListedNames(names=tuple(items)))


def _checked_against_numbers(listed: ListedNames) -> ListedNames:
    """The names of a list, whose own numbers, if they have any, are in its order.

    Raises:
        LabelsError: They count the names in another order, and no folders are sorted so.
    """
    numbered = with_indices(listed)
    if numbered.keys is not None and list(listed.names) != sorted(listed.names):
        numbers = [float(key) for key in numbered.keys]
        if numbers != sorted(numbers):
            raise LabelsError(
                f"the names begin with numbers that are in another order than the list"
                f" ({listed.names[0]!r} first): put them into the order of the outputs, and leave"
                " the numbers out"
            )
    return listed


def _is_row(item: object) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and all(map(_is_cell, item))


def _is_cell(value: object) -> bool:
    return isinstance(value, str) or type(value) is int


def _is_synset_pair(value: Any) -> bool:
    """Keras' imagenet_class_index.json: {"0": ["n01440764", "tench"]}."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(text, str) and text.strip() for text in value)
        and SYNSET.fullmatch(value[0]) is not None
    )


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, which must not have a key twice: the first would be lost."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise LabelsError(f"the key {key!r} appears twice; expected each once")
        found[key] = value
    return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _lines_of_json(text: str) -> list[Any]:
    """The values of a file with one a line; nothing where it is none."""
    try:
        lines = [line for line in text.splitlines() if line.strip()]
        return [json.loads(line, object_pairs_hook=_without_doubles) for line in lines]
    except (ValueError, RecursionError):
        return []


def _python_values(text: str) -> list[Any]:
    """The lists, tuples and dicts in Python code: its assigned or only values; without any, []."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []
    named: dict[str, Any] = {}
    values = []
    for statement in body:
        value = getattr(statement, "value", None)
        if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr) or value is None:
            continue
        try:
            found = _literal(value)
        except ValueError:
            continue
        if not isinstance(found, list | tuple | dict):
            continue
        values.append(found)
        targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
        if isinstance(targets[0], ast.Name):
            named[targets[0].id.lower()] = found
    known = {key: named[key] for key in KEYS if key in named}
    return [known] if known else values


def _literal(node: ast.expr) -> Any:
    """What a literal means, also within `dict(...)` and the like.

    Raises:
        ValueError: It is none.
    """
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        return _literal(node.args[0])
    if isinstance(node, ast.Call) and node.keywords and not node.args:  # dict(cat=0)
        return _without_doubles([(one.arg or "", _literal(one.value)) for one in node.keywords])
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        pairs = zip(keys, map(_literal, node.values), strict=True)
        return _without_doubles(list(pairs))
    return ast.literal_eval(node)
