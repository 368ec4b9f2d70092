"""Write one self-contained HTML page about all networks: tables, charts, Grad-CAM, code."""

from __future__ import annotations

import argparse

from gluon_aff.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('-o', '--output', required=True, metavar='DIR', help='folder for index.html')


def run(args: argparse.Namespace) -> int:
    from ..pictures.page import write_report

    print(printable(write_report(args.output)))
    return 0
