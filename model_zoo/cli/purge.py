"""Remove this zoo's downloaded parameters from the cache folder."""

from __future__ import annotations

import argparse

from .. import registry
from ._common import add_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_root(parser)


def run(args: argparse.Namespace) -> int:
    registry.purge(args.root)
    return 0
