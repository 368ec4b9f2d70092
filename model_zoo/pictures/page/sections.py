"""The page's sections as HTML, from the facts."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gluon_aff.data.class_names import FASHION_MNIST
from gluon_aff.style import FUSION_COLOURS

from ...loading import open_trained
from ...registry import list_models, model_info
from ...reported_results import HOSTS, PAPER, TABLES
from ..heatmaps import crop, enlarged, look
from . import charts

__all__ = [
    'ablation_section',
    'as_json',
    'curves_section',
    'details',
    'gallery',
    'model_table',
    'options',
    'pointing_table',
    'scatter_plots',
    'series_of',
]

HERE = Path(__file__).resolve().parent


def series_of(fusion):
    """The style sheet's name for a fusion's colour."""
    return fusion.replace('_', '-') if fusion in FUSION_COLOURS else 'other'


def legend(fusions):
    names = dict.fromkeys(series_of(fusion) for fusion in fusions)
    return '<p class="legend">' + ' '.join(f'<span class="key s-{name}">{name}</span>' for name in names) + '</p>'


def link(name):
    return f'<a href="#model-{name}">{name}</a>'


def model_table(models):
    """The rows of the table of all networks; `data-value` is what a column is sorted by."""
    return '\n'.join(_table_row(model) for model in models)


def _table_row(model):
    own, published = ([each for each in model['results'] if each['own'] is kind] for kind in (True, False))
    released = ''.join(
        f'<div><b>{escape(each["tag"])}</b> <code title="{escape(each["digest"])}">{each["digest"][:8]}'
        f'</code> {"shipped" if each["shipped"] else "download"}</div>'
        for each in model['checkpoints']
    )
    download = model['code'].get('Download')
    cells = [
        ('', link(model['name'])),
        ('', escape(model['family'])),
        ('', escape(model['dataset'])),
        ('', escape(model['fusion'])),
        (model['parameters'], f'{model["parameters"] / 1e6:.2f}'),
        (model['multiply_adds'], f'{model["multiply_adds"] / 1e9:.2f}'),
        (_least(published), _stated(published)),
        (_least(own), _stated(own)),
        (len(model['checkpoints']), (released + (f'<code>{escape(download)}</code>' if download else '')) or '-'),
    ]
    numeric = {4, 5}
    text = ' '.join(model[key] for key in ('name', 'family', 'dataset', 'fusion', 'task')).lower()
    columns = ''.join(
        f'<{"th scope=row" if number == 0 else "td"}{" class=number" if number in numeric else ""}'
        f'{f" data-value={value}" if value != "" else ""}>{html}</{"th" if number == 0 else "td"}>'
        for number, (value, html) in enumerate(cells)
    )
    return f'<tr data-name="{model["name"]}" data-text="{escape(text)}">{columns}</tr>'


def _least(results):
    return min((each['error'] for each in results if each['error'] is not None), default='')


def _figure(result):
    """A figure as the page shows it: a top-1 error, or another metric by its name."""
    value = f'{result["percent"]:.2f} %' if result['error'] is None else f'{result["error"]:.2f} %'
    metric = f'{result["metric"]} ' if result['error'] is None else ''
    options = f' ({result["options"]})' if result['options'] else ''
    return f'<b>{escape(metric)}{value}</b> {escape(result["dataset"] + options)}'


def _stated(results):
    return (
        ''.join(
            f'<div>{_figure(each)}<br><small>{escape(each["source"])}</small></div>'
            for each in results
            if each['metric'] != 'top-5 error'
        )
        or '-'
    )


def scatter_plots(models):
    """Error against parameters and against multiply-adds, a pair of charts for each data set with a stated error.

    Figures of networks with other options than the registered ones' are left out: their costs are others.
    """
    stated = [
        (model, each)
        for model in models
        for each in model['results']
        if each['error'] is not None and not each['options']
    ]
    found = []
    for dataset in sorted({each['dataset'] for _, each in stated}, key=lambda name: (name[:8] != 'ImageNet', name)):
        points = {model['name']: (model, each) for model, each in reversed(stated) if each['dataset'] == dataset}
        points = list(points.values())[::-1]
        plots = []
        for key, unit, label in (
            ('parameters', 1e6, 'parameters (millions)'),
            ('multiply_adds', 1e9, 'multiply-adds for one image (billions)'),
        ):
            plots.append(
                charts.scatter(
                    [
                        (
                            model['name'],
                            model[key] / unit,
                            each['error'],
                            series_of(model['fusion']),
                            f'{model["name"]}: error {each["error"]:.2f} %, {model[key] / unit:.2f} '
                            f'{label.split(" (")[0]} ({"M" if unit == 1e6 else "G"})',
                        )
                        for model, each in points
                    ],
                    label,
                    'top-1 error (%)',
                    f'{dataset}: error against {label}',
                )
            )
        whose = 'ours' if all(each['own'] for _, each in points) else 'published, not ours'
        found.append(
            f'<figure class="charts"><figcaption><b>{escape(dataset)}</b> ({whose})</figcaption>'
            f'{legend(model["fusion"] for model, _ in points)}<div class="pair">{"".join(plots)}</div>'
            '</figure>'
        )
    return '\n'.join(found)


def ablation_section(ours):
    """The ablation's bars for each host and number of blocks, and the paper's tables whole, ours beside theirs."""
    names = {fusion: label for table in TABLES for fusion, (label, _) in table.rows.items()}
    published = '; '.join(dict.fromkeys(f'{host.title} on {host.data}, {host.conditions}' for host in HOSTS.values()))
    parts = [f'<p>Published, not ours: {escape(published)} ({escape(PAPER)}).</p>']
    if ours:
        parts.append(
            f'<p>Ours, each below the published figure: {escape(ours["conditions"])}, mean and standard '
            'deviation. The two are of different data and lengths; neither confirms the other.</p>'
        )
        parts.append(f'<div class="pair">{"".join(_bars(ours["cells"], names))}</div>')
    else:
        parts.append(
            '<p>Our runs are in docs/ablation.csv of the source, which an installed package does not hold; '
            'build this page in a checkout that has it to see them.</p>'
        )
    parts += [_paper_table(table, ours['cells'] if ours else {}) for table in TABLES]
    return '\n'.join(parts)


def _bars(cells, names):
    """A figure for each host and b that was run."""
    for host, b in sorted({(host, b) for host, _, b in cells}, key=lambda key: (list(HOSTS).index(key[0]), key[1])):
        rows = [
            (
                names.get(fusion, fusion),
                cell['mean'],
                cell['spread'],
                series_of(fusion),
                f'{names.get(fusion, fusion)}: {cell["mean"]:.2f} ± {cell["spread"]:.2f} %, {cell["runs"]} runs, '
                f'{cell["parameters"]:,} parameters',
            )
            for (at, fusion, blocks), cell in cells.items()
            if (at, blocks) == (host, b)
        ]
        title = f'{HOSTS[host].title}, b = {b}'
        yield (
            f'<figure><figcaption><b>{escape(title)}</b></figcaption>'
            f'{charts.bars(rows, "accuracy (%), ours", title)}</figure>'
        )


def _paper_table(table, cells):
    """A table of the paper: a column for each host and number of blocks b, a row for each fusion."""
    columns = [
        (host, b)
        for host in table.hosts
        for b in range(1, 1 + max(len(values.get(host, ())) for _, values in table.rows.values()))
    ]
    groups = ''.join(
        f'<th scope="colgroup" colspan="{sum(at == host for at, _ in columns)}">'
        f'{escape(HOSTS[host].title)}, {HOSTS[host].metric}</th>'
        for host in table.hosts
    )
    heads = ''.join(
        f'<th scope="col" class="number">{f"b = {b}" if host != "resnet50" else ""}</th>' for host, b in columns
    )
    lines = []
    for fusion, (label, values) in table.rows.items():
        row = []
        for host, b in columns:
            stated = values.get(host, ())[b - 1 : b]
            own = cells.get((host, fusion, b))
            row.append(
                f'<td class="number">{f"{stated[0]:.1f}" if stated else "-"}'
                + (f'<br><small>ours {own["mean"]:.2f} ± {own["spread"]:.2f}</small>' if own else '')
                + '</td>'
            )
        lines.append(f'<tr><th scope="row">{escape(label)}</th>{"".join(row)}</tr>')
    title = f'{escape(table.title)}, in per cent'
    return (
        f'<h3>{title}</h3><div class="scroll" tabindex="0" role="region" aria-label="{title}"><table class="paper">'
        f'<thead><tr><th scope="col" rowspan="2">fusion</th>{groups}</tr><tr>{heads}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div>'
    )


def curves_section(found):
    """Held-out accuracy of the shipped networks over their epochs."""
    if not found:
        return '<p>The logs of the shipped networks are not at hand.</p>'
    series = [(name, values, series_of(model_info(name).fusion)) for name, values in found.items()]
    return (
        '<figure class="narrow"><figcaption>Accuracy on Fashion-MNIST’s 10,000 test images, one run each'
        f'</figcaption>{legend(kind for *_, kind in series)}'
        f'{charts.lines(series, "epoch", "accuracy (%)", "accuracy by epoch of the shipped networks")}</figure>'
    )


def gallery(size=96):
    """Grad-CAM of the shipped networks on ten test images of Fashion-MNIST, the first of each class."""
    images = _test_images(HERE / 'fashion_mnist.png')
    names = list_models('fashion_mnist_*', pretrained=True)
    opened = [open_trained(name) for name in names]
    crops = [[crop(model, image) for image in images] for model in opened]
    rows = [
        row
        for model, seen in zip(opened, crops)
        for row in look(model, seen, model.name, FASHION_MNIST, with_fusion=True)
    ]
    originals = list(map(enlarged, crops[0]))
    cards = []
    for number, label in enumerate(FASHION_MNIST):
        pictures = [_image(originals[number], f'test image: {label}', 'image', size)]
        for row in rows:
            panel = row.panels[number]
            caption = panel.caption.replace('\n', ', ')
            star = '★ ' if panel.starred else ''
            short = row.title.replace('fashion_mnist_', '').replace('_resnet8', '')
            pictures.append(
                _image(
                    panel.picture,
                    f'{row.title} on {label}: {caption}',
                    f'{short}: {star}{caption}',
                    size,
                    panel.starred,
                )
            )
        cards.append(f'<li><h3>{escape(label)}</h3><div class="strip">{"".join(pictures)}</div></li>')
    return f'<ul class="gallery">{"".join(cards)}</ul>'


def _test_images(path):
    """The test images side by side in a file, one for each class."""
    try:
        with Image.open(path) as image:
            strip = np.asarray(image.convert('RGB'))
        return [Image.fromarray(part) for part in np.split(strip, len(FASHION_MNIST), axis=1)]
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'The page shows {path}, which cannot be read ({error}); install the package again.') from None


def _image(picture, alt, caption, size, starred=False):
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    data = cv2.imencode('.jpg', cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return (
        f'<figure><img width="{size}" height="{size}" alt="{escape(alt)}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(data).decode()}"><figcaption'
        f'{" class=starred" if starred else ""}>{escape(caption)}</figcaption></figure>'
    )


def pointing_table(rows):
    """The pointing game's accuracy by network, layer and size of object, mean over the seeds."""
    if not rows:
        return ''
    sizes = list(dict.fromkeys((row['from'], row['to']) for row in rows))
    places = list(dict.fromkeys((row['network'], row['layer']) for row in rows))
    seeds = len({row['seed'] for row in rows})

    def mean(key, network, layer, low):
        return np.mean(
            [100 * row[key] for row in rows if (row['network'], row['layer'], row['from']) == (network, layer, low)]
        )

    def cell(network, layer, low):
        return (
            f'<td class="number">{mean("pointing", network, layer, low):.1f} '
            f'<small>({mean("accuracy", network, layer, low):.0f})</small></td>'
        )

    lines = ''.join(
        f'<tr><th scope="row">{escape(network)}, {escape(layer)}</th>'
        f'{"".join(cell(network, layer, low) for low, _ in sizes)}</tr>'
        for network, layer in places
    )
    chance = ''.join(f'<td class="number">{mean("area", *places[0], low):.1f}</td>' for low, _ in sizes)
    heads = ''.join(f'<th scope="col" class="number">{low} to {high} px</th>' for low, high in sizes)
    return (
        '<h3>The pointing game</h3><p>How often the maximum of the true class’s map lies on the object, in per '
        f'cent, on made images of 32x32 where its place is known, mean of {seeds} seeds; in brackets how many '
        'images the network names rightly. docs/gradcam.md has the command and what it says.</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="The pointing game"><table><thead><tr>'
        f'<th scope="col">network, layer</th>{heads}</tr></thead><tbody>{lines}'
        f'<tr><th scope="row">any pixel, by chance</th>{chance}</tr></tbody></table></div>'
    )


def details(model):
    """A network's own section: facts, checkpoints, code."""
    facts = [
        ('family', model['family']),
        ('fusion', model['fusion']),
        ('task', model['task']),
        ('data set', model['dataset']),
        ('input', model['input']),
        ('parameters', f'{model["parameters"]:,}'),
        ('multiply-adds', f'{model["multiply_adds"]:,}'),
        ('source', model['source']),
    ]
    for each in model['results']:
        metric, percent = (
            ('top-1 error', each['error']) if each['error'] is not None else (each['metric'], each['percent'])
        )
        options = f', {each["options"]}' if each['options'] else ''
        facts.append(
            (
                f'{"our" if each["own"] else "published"} {metric}',
                f'{percent:.2f} % on {each["dataset"]}{options} ({each["source"]})',
            )
        )
    parts = [f'<details class="model" id="model-{model["name"]}"><summary>{model["name"]}</summary>', _list(facts)]
    for each in model['checkpoints']:
        shipped = 'shipped in this package' if each['shipped'] else 'downloaded on request'
        parts.append(
            f'<h4>Checkpoint {escape(each["tag"])}</h4>'
            + _list(
                [
                    ('file', f'{each["file"]}, {shipped}'),
                    (each['digest_kind'], each['digest']),
                    ('trained on', f'{each["dataset"]}, labels {each["labels"]}'),
                    ('recipe', each['recipe']),
                    ('from', each['source']),
                    ('licence', each['license']),
                ]
            )
        )
    parts += [
        f'<h4>{escape(title)}</h4><pre tabindex="0"><code>{escape(code)}</code></pre>'
        for title, code in model['code'].items()
    ]
    return ''.join([*parts, '</details>'])


def _list(facts):
    return '<dl>' + ''.join(f'<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>' for name, value in facts) + '</dl>'


def options(values):
    return ''.join(f'<option>{escape(value)}</option>' for value in values)


def as_json(value):
    """JSON that may stand in a script element."""
    return json.dumps(value, ensure_ascii=False, separators=(',', ':')).replace('</', '<\\/')
