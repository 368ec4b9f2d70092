"""A Griffe extension: turns the docstrings' Sphinx roles, such as :func:`fit`, into cross-references for MkDocs."""

import logging
import re

import griffe

ROLE = re.compile(r':(?:attr|class|data|exc|func|meth|mod):`~?([\w.]+)`')
PACKAGES = ('gluon_aff', 'model_zoo')
logger = logging.getLogger('mkdocs.plugins.sphinx_roles')


def _target(scope, name):
    """What a docstring in `scope` refers to; None if it is not ours."""
    while True:
        try:
            member = scope[name]
            return member.final_target if member.is_alias else member
        except (KeyError, griffe.GriffeError):
            if scope.parent is None:
                break
            scope = scope.parent
    try:
        member = scope.modules_collection[name]
        return member.final_target if member.is_alias else member
    except (KeyError, griffe.GriffeError):
        return None


class SphinxRoles(griffe.Extension):
    """Rewrites the docstrings of a package once it is loaded."""

    def on_package_loaded(self, *, pkg, **kwargs):
        """Rewrite all docstrings of `pkg`."""
        self._visit(pkg)

    def _visit(self, scope):
        if scope.docstring:

            def link(match):
                name = match[1]
                target = _target(scope, name)
                if target and target.docstring and not target.name.startswith('_'):
                    return f'[`{name}`][{target.path}]'
                package = name.partition('.')[0]
                if not target and package in PACKAGES and package not in scope.modules_collection:
                    return f'[`{name}`][{name}]'  # of the package that is not loaded yet
                if not target and (package in PACKAGES or '.' not in name):
                    logger.warning(f'{scope.path}: {match[0]} names nothing.')
                return f'`{name}`'

            scope.docstring.value = ROLE.sub(link, scope.docstring.value)
        for member in scope.members.values():
            if not member.is_alias:
                self._visit(member)
