"""The page's table of all networks, and a section for each."""

from __future__ import annotations

from html import escape

from ...summary import summaries
from .facts import Model

__all__ = ['details', 'table_row']


def table_row(model: Model) -> str:
    """A network's row in the table of all; columns are sorted by `data-value`."""
    card = model.card
    files = ''.join(
        f'<div><b>{escape(file.tag)}</b> <code title="{escape(file.digest)}">{file.digest[:8]}</code> '
        f'{"download" if file.url else "shipped"}<br><small>licence: {escape(file.license.split(":")[0])}</small></div>'
        for file in model.weights
    )
    if 'Download' in model.code:
        files += f'<code>{escape(model.code["Download"])}</code>'
    top5 = min((result.percent for result in model.reported if result.metric == 'top-5 error'), default=None)
    size = summaries([card.name])[0].file_size
    cells = [
        *(
            _cell(title, escape(text))
            for title, text in (('Task', card.spec.task), ('Data set', card.dataset), ('Fusion', model.fusion))
        ),
        _number('Params, M', card.parameters, 1e6, 2),
        _number('Multiply-adds, G', card.multiply_adds, 1e9, 2),
        _results_cell('Published error', model.reported),
        _results_cell('Our error', model.own),
        _number('Top-5 error, %', top5, 1, 2),
        _number('Images/s', model.images_per_second, 1, 1),
        _number('File, MB', size, 1e6, 1),
        _cell('Parameter files', files or '-', len(model.weights)),
    ]
    text = ' '.join((card.name, card.family, card.dataset, model.fusion, card.spec.task)).lower()
    return (
        f'<tr data-name="{card.name}" data-text="{escape(text)}">'
        f'<th scope=row><a href="#model-{card.name}">{card.name}</a></th>{"".join(cells)}</tr>'
    )


def _cell(title, content, value=None, kind=''):
    """A cell, with the title that it shows where the table's head does not fit."""
    value = '' if value is None else f' data-value={value}'
    kind = f'{kind} empty'.strip() if content == '-' else kind
    return f'<td data-title="{title}"{f" class={kind!r}" if kind else ""}{value}>{content}</td>'


def _number(title, value, unit, digits):
    return _cell(title, '-' if value is None else f'{value / unit:.{digits}f}', value, 'number')


def _results_cell(title, results):
    """Results as top-1 errors, or by another metric's name; sorted by the least error."""
    lines = []
    for result in results:
        if result.metric != 'top-5 error':
            value = f'{result.metric} {result.percent:.2f}' if result.error is None else f'{result.error:.2f}'
            options = f' ({result.options})' if result.options else ''
            lines.append(
                f'<div><b>{escape(value)} %</b> {escape(result.data + options)}<br>'
                f'<small>{escape(result.source)}</small></div>'
            )
    errors = [result.error for result in results if result.error is not None]
    return _cell(title, ''.join(lines) or '-', min(errors, default=None))


def details(model: Model) -> str:
    """A network's own section: facts, weights, code."""
    card = model.card
    facts = [
        ('family', card.family),
        ('fusion', model.fusion),
        ('task', card.spec.task),
        ('data set', card.dataset),
        ('input', 'x'.join(map(str, card.spec.input_size))),
        ('parameters', f'{card.parameters:,}'),
        ('multiply-adds', f'{card.multiply_adds:,}'),
        ('source', card.source),
        *(_result_fact('published', result) for result in model.reported),
        *(_result_fact('our', result) for result in model.own),
    ]
    elements = [f'<details class="model" id="model-{card.name}"><summary>{card.name}</summary>', _definitions(facts)]
    for file in model.weights:
        facts = [
            ('file', f'{file.file}, {"downloaded on request" if file.url else "shipped in this package"}'),
            ('git object id' if file.digest_kind == 'git_blob' else file.digest_kind, file.digest or 'unknown'),
            ('trained on', f'{file.dataset}, classes {file.classes}'),
            ('recipe', file.recipe),
            ('from', file.source),
            ('licence', file.license),
        ]
        elements += [f'<h4>Weights: {escape(file.tag)}</h4>', _definitions(facts)]
    for title, code in model.code.items():
        elements.append(f'<h4>{escape(title)}</h4><pre tabindex="0"><code>{escape(code)}</code></pre>')
    return ''.join([*elements, '</details>'])


def _result_fact(whose, result):
    metric, percent = (result.metric, result.percent) if result.error is None else ('top-1 error', result.error)
    options = f', {result.options}' if result.options else ''
    return f'{whose} {metric}', f'{percent:.2f} % on {result.data}{options} ({result.source})'


def _definitions(facts):
    return '<dl>' + ''.join(f'<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>' for name, value in facts) + '</dl>'
