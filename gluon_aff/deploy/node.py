"""A node of a graph, and its attributes, which MXNet keeps as strings."""

from __future__ import annotations

__all__ = ['Node', 'flag', 'number']


class Node:
    """One of MXNet's operators, or (op 'null') an input or parameter.

    Attributes
    ----------
    op, name : str
    attrs : dict of str to str
    inputs : list of (Node, int)
        Source nodes, each with the index of the output that is used.
    """

    def __init__(self, op: str, name: str = '', attrs=(), inputs=()):
        self.op, self.name, self.attrs, self.inputs = op, name, dict(attrs), list(inputs)


def number(node: Node, name: str, default: float = 0) -> float:
    """The attribute `name` of a node, or `default`, as a float."""
    return float(node.attrs.get(name, default))


def flag(node: Node, name: str, default: bool = False) -> bool:
    """The attribute `name` of a node, or `default`, as a bool."""
    return node.attrs.get(name, str(default)) in ('True', '1')
