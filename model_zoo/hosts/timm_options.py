"""The keywords by which timm knows our options."""

from __future__ import annotations

from typing import Collection

__all__ = ['translate']

ALIASES = {'num_classes': 'classes', 'in_chans': 'in_channels', 'drop_rate': 'final_drop'}


def translate(options: dict, own: Collection[str]) -> tuple[dict, str | None]:
    """Options with timm's keywords as ours, and how a network without a head pools.

    Parameters
    ----------
    options : dict
        As given to get_model.
    own : collection of str
        Names of the network's own options, which keep their meaning.

    Returns
    -------
    options : dict
    pool : {'avg', '', None}
        global_pool where num_classes is 0; None for a network with a head.

    Raises
    ------
    ValueError
        If an option is given under both names, or global_pool is another one or leaves the head without a pool.
    """
    options = dict(options)
    pool = options.pop('global_pool', 'avg') if 'global_pool' not in own else 'avg'
    if pool not in ('avg', ''):
        raise ValueError(f"global_pool must be 'avg', or '' for none, got {pool!r}.")
    no_head = 'num_classes' not in own and type(options.get('num_classes')) is int and options['num_classes'] == 0
    for alias, name in ALIASES.items():
        if alias in options and alias not in own:
            if name in options:
                raise ValueError(f'{alias} is another name of {name}; give one of them.')
            options[name] = options.pop(alias)
    if no_head:
        del options['classes']
    elif not pool:
        raise ValueError("global_pool='' leaves a map, which the head does not take; give num_classes=0 with it.")
    return options, pool if no_head else None
