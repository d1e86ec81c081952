"""`tracejit.nest`: nested tuples, lists and dicts as flat lists and back, under TensorFlow's names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tracejit import tree
from tracejit.errors import ArgumentError, DTypeError, locate
from tracejit.tree import Structure


def is_nested(structure: Any) -> bool:
    """Whether this is a tuple, list, dict, named tuple or dataclass (a tensor is none)."""
    return tree.flatten(structure)[1].kind is not None


def flatten(structure: Any, expand_composites: bool = False) -> list[Any]:
    """The leaves from left to right, those of dicts by sorted key; what is not nested is the only leaf."""
    return tree.flatten(structure)[0]


def pack_sequence_as(structure: Any, flat_sequence: Iterable[Any], expand_composites: bool = False) -> Any:
    """The nest that has the form of `structure` and these leaves. Raises `ValueError` if their numbers differ."""
    leaves, form = list(flat_sequence), tree.flatten(structure)[1]
    if form.leaves != len(leaves):
        raise locate(ArgumentError(f"{form} has {form.leaves} leaves, the flat sequence {len(leaves)}"))
    return tree.unflatten(form, leaves)


def assert_same_structure(nest1: Any, nest2: Any, check_types: bool = True, expand_composites: bool = False) -> None:
    """Raise `ValueError` if two nests differ in form, and `TypeError` if only in the types of their containers.

    With `check_types=False` lists and tuples count as the same.
    """
    _compare(tree.flatten(nest1)[1], tree.flatten(nest2)[1], check_types)


def _compare(a: Structure, b: Structure, check_types: bool) -> None:
    if (a.kind is None) != (b.kind is None) or len(a.children) != len(b.children):
        raise locate(ArgumentError(f"the structures differ: {a} and {b}"))
    if a.kind is None or b.kind is None:
        return
    if check_types and a.kind is not b.kind and not (issubclass(a.kind, dict) and issubclass(b.kind, dict)):
        raise locate(DTypeError(f"the structures differ in the types of their containers: {a} and {b}"))
    if a.keys != b.keys and (check_types or issubclass(a.kind, dict)):
        raise locate(ArgumentError(f"the structures differ: {a} and {b}"))
    for x, y in zip(a.children, b.children, strict=True):
        _compare(x, y, check_types)


def map_structure(
    func: Callable[..., Any], *structure: Any, check_types: bool = True, expand_composites: bool = False
) -> Any:
    """The nest of what `func` makes of corresponding leaves of nests of one form; the first gives the containers."""
    if not structure:
        raise locate(ArgumentError("map_structure needs one nest or more"))
    for other in structure[1:]:
        assert_same_structure(structure[0], other, check_types)
    flat = [tree.flatten(s)[0] for s in structure]
    return tree.unflatten(tree.flatten(structure[0])[1], [func(*leaves) for leaves in zip(*flat, strict=True)])


__all__ = ["assert_same_structure", "flatten", "is_nested", "map_structure", "pack_sequence_as"]
