"""The page's table of all networks, and a section for each."""

from __future__ import annotations

from html import escape

__all__ = ['details', 'table_row']


def table_row(model: dict) -> str:
    """A network's row in the table of all; `data-value` is what a column is sorted by.

    Parameters
    ----------
    model : dict
        From :func:`model_zoo.pictures.page.facts.models`.
    """
    own = [result for result in model['results'] if result['own']]
    published = [result for result in model['results'] if not result['own']]
    files = ''.join(
        f'<div><b>{escape(file["tag"])}</b> <code title="{escape(file["digest"])}">{file["digest"][:8]}</code> '
        f'{"shipped" if file["shipped"] else "download"}</div>'
        for file in model['checkpoints']
    )
    if 'Download' in model['code']:
        files += f'<code>{escape(model["code"]["Download"])}</code>'
    cells = [
        *(f'<td>{escape(model[key])}</td>' for key in ('family', 'dataset', 'fusion')),
        _number(model['parameters'], 1e6),
        _number(model['multiply_adds'], 1e9),
        _results(published),
        _results(own),
        f'<td data-value={len(model["checkpoints"])}>{files or "-"}</td>',
    ]
    text = ' '.join(model[key] for key in ('name', 'family', 'dataset', 'fusion', 'task')).lower()
    return (
        f'<tr data-name="{model["name"]}" data-text="{escape(text)}">'
        f'<th scope=row><a href="#model-{model["name"]}">{model["name"]}</a></th>{"".join(cells)}</tr>'
    )


def _number(value, unit):
    return f'<td class=number data-value={value}>{value / unit:.2f}</td>'


def _results(results):
    """The cell of a network's results, sorted by the least error."""
    lines = [
        f'<div>{_result(result)}<br><small>{escape(result["source"])}</small></div>'
        for result in results
        if result['metric'] != 'top-5 error'
    ]
    errors = [result['error'] for result in results if result['error'] is not None]
    value = f' data-value={min(errors)}' if errors else ''
    return f'<td{value}>{"".join(lines) or "-"}</td>'


def _result(result):
    """A result as the table shows it: a top-1 error, or another metric by its name."""
    options = f' ({result["options"]})' if result['options'] else ''
    value = f'{result["metric"]} {result["percent"]:.2f}' if result['error'] is None else f'{result["error"]:.2f}'
    return f'<b>{escape(value)} %</b> {escape(result["dataset"] + options)}'


def details(model: dict) -> str:
    """A network's own section: facts, checkpoints, code.

    Parameters
    ----------
    model : dict
        As in :func:`table_row`.
    """
    facts = [
        ('family', model['family']),
        ('fusion', model['fusion']),
        ('task', model['task']),
        ('data set', model['dataset']),
        ('input', model['input']),
        ('parameters', f'{model["parameters"]:,}'),
        ('multiply-adds', f'{model["multiply_adds"]:,}'),
        ('source', model['source']),
        *map(_result_fact, model['results']),
    ]
    elements = [
        f'<details class="model" id="model-{model["name"]}"><summary>{model["name"]}</summary>',
        _definitions(facts),
    ]
    for file in model['checkpoints']:
        where = 'shipped in this package' if file['shipped'] else 'downloaded on request'
        facts = [
            ('file', f'{file["file"]}, {where}'),
            (file['digest_kind'], file['digest']),
            ('trained on', f'{file["dataset"]}, classes {file["classes"]}'),
            ('recipe', file['recipe']),
            ('from', file['source']),
            ('licence', file['license']),
        ]
        elements += [f'<h4>Weights {escape(file["tag"])}</h4>', _definitions(facts)]
    for title, code in model['code'].items():
        elements.append(f'<h4>{escape(title)}</h4><pre tabindex="0"><code>{escape(code)}</code></pre>')
    return ''.join([*elements, '</details>'])


def _result_fact(result):
    whose, options = 'our' if result['own'] else 'published', f', {result["options"]}' if result['options'] else ''
    metric, percent = result['metric'], result['percent']
    if result['error'] is not None:
        metric, percent = 'top-1 error', result['error']
    return f'{whose} {metric}', f'{percent:.2f} % on {result["dataset"]}{options} ({result["source"]})'


def _definitions(facts):
    return '<dl>' + ''.join(f'<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>' for name, value in facts) + '</dl>'
