"""A copy of a network that can be changed and differentiated while the network itself stays as it is."""

from __future__ import annotations

import copy
from collections import OrderedDict
from types import MethodType
from typing import Iterator

from mxnet.gluon import Parameter
from mxnet.gluon.block import Block

from .._mxnet import children, detached_copy, has_values, run_unhybridized

__all__ = ['shadow', 'walk']


def walk(block: Block, path: str = '') -> Iterator[tuple[str, Block]]:
    """(path, block) of a block and of all below it, the path by attributes and indices."""
    yield path, block
    for name, child in children(block).items():
        yield from walk(child, f'{path}.{name}' if path else name)


def shadow(net: Block) -> tuple[Block, dict[int, Block]]:
    """A copy of a network on the same arrays, without hooks and not hybridized; and its blocks, by the originals' id().

    The caller's autograd graphs do not know its parameters.
    """
    twins, parameters = {id(block): copy.copy(block) for _, block in walk(net)}, {}

    def shared(parameter):
        # Autograd keeps its records on the arrays; separate ones leave the caller's graphs alone.
        if has_values(parameter) and id(parameter) not in parameters:
            parameters[id(parameter)] = detached_copy(parameter)
        return parameters.get(id(parameter), parameter)

    def replaced(value):
        """An attribute's value with the copies in place of the originals."""
        if isinstance(value, Block):
            return twins.get(id(value), value)
        if isinstance(value, Parameter):
            return shared(value)
        if type(value) in (list, tuple, set):
            return type(value)(map(replaced, value))
        if type(value) in (dict, OrderedDict):
            return type(value)((key, replaced(item)) for key, item in value.items())
        if isinstance(value, MethodType) and id(value.__self__) in twins:
            return MethodType(value.__func__, twins[id(value.__self__)])
        return value

    for twin in twins.values():
        vars(twin).update({name: replaced(value) for name, value in vars(twin).items()})
        run_unhybridized(twin)
    return twins[id(net)], twins
