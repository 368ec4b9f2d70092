"""The page's sections as HTML, from the facts."""
from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gluon_aff.data.labels import FASHION_MNIST
from gluon_aff.style import FUSION_COLOURS

from ..gradcam import inputs, look
from ..registry import list_models, model_info
from ..trained import open_trained
from . import charts

__all__ = ['ablation_section', 'as_json', 'curves_section', 'details', 'gallery', 'model_table', 'options',
           'pointing_table', 'scatter_plots', 'series_of']

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
    released = ''.join(f'<div><b>{escape(each["tag"])}</b> <code title="{escape(each["digest"])}">{each["digest"][:8]}'
                       f'</code> {"shipped" if each["shipped"] else "download"}</div>' for each in model['checkpoints'])
    download = model['code'].get('Download')
    cells = [('', link(model['name'])), ('', escape(model['family'])), ('', escape(model['dataset'])),
             ('', escape(model['fusion'])), (model['parameters'], f'{model["parameters"] / 1e6:.2f}'),
             (model['multiply_adds'], f'{model["multiply_adds"] / 1e9:.2f}'),
             (_least(published), _stated(published)), (_least(own), _stated(own)),
             (len(model['checkpoints']), (released + (f'<code>{escape(download)}</code>' if download else '')) or '-')]
    numeric = {4, 5}
    text = ' '.join(model[key] for key in ('name', 'family', 'dataset', 'fusion', 'task')).lower()
    columns = ''.join(
        f'<{"th scope=row" if number == 0 else "td"}{" class=number" if number in numeric else ""}'
        f'{f" data-value={value}" if value != "" else ""}>{html}</{"th" if number == 0 else "td"}>'
        for number, (value, html) in enumerate(cells))
    return (f'<tr data-name="{model["name"]}" data-text="{escape(text)}">{columns}</tr>')


def _least(results):
    return min((each['error'] for each in results), default='')


def _stated(results):
    return ''.join(f'<div><b>{each["error"]:.2f} %</b> {escape(each["dataset"])}<br><small>{escape(each["source"])}'
                   '</small></div>' for each in results) or '-'


def scatter_plots(models):
    """Error against parameters and against multiply-adds, a pair of charts for each data set with a stated error."""
    datasets = list(dict.fromkeys(each['dataset'] for model in models for each in model['results']))
    found = []
    for dataset in sorted(datasets, key=lambda name: not name.startswith('ImageNet')):
        points = [(model, next(each for each in model['results'] if each['dataset'] == dataset)) for model in models
                  if any(each['dataset'] == dataset for each in model['results'])]
        plots = []
        for key, unit, label in (('parameters', 1e6, 'parameters (millions)'),
                                 ('multiply_adds', 1e9, 'multiply-adds for one image (billions)')):
            plots.append(charts.scatter(
                [(model['name'], model[key] / unit, said['error'], series_of(model['fusion']),
                  f'{model["name"]}: error {said["error"]:.2f} %, {model[key] / unit:.2f} {label.split(" (")[0]} '
                  f'({"M" if unit == 1e6 else "G"})') for model, said in points],
                label, 'top-1 error (%)', f'{dataset}: error against {label}'))
        whose = 'ours' if all(said['own'] for _, said in points) else 'published, not ours'
        found.append(f'<figure class="charts"><figcaption><b>{escape(dataset)}</b> ({whose})</figcaption>'
                     f'{legend(model["fusion"] for model, _ in points)}<div class="pair">{"".join(plots)}</div>'
                     '</figure>')
    return '\n'.join(found)


def ablation_section(found):
    """The ablation's bars for each host, and the paper's tables beside our figures."""
    if found is None:
        return ('<p>The ablation’s runs are in docs/ablation.csv of the source, which an installed package does not '
                'hold; build this page in a checkout to see them.</p>')
    names = {fusion: row['label'] for table in found['published']['tables'] for fusion, row in table['rows'].items()}
    parts = [f'<p>Ours: {escape(found["conditions"])}, mean and standard deviation. Published: '
             f'{escape(found["published"]["conditions"])} ({escape(found["published"]["source"])}). '
             'The two are of different data and lengths; neither confirms the other.</p>', '<div class="pair">']
    for (_, _, title), values in found['hosts'].items():
        rows = [(names.get(fusion, fusion), mean, spread, series_of(fusion),
                 f'{names.get(fusion, fusion)}: {mean:.2f} ± {spread:.2f} %, {runs} runs, {parameters:,} parameters')
                for fusion, (mean, spread, runs, parameters) in values.items()]
        parts.append(f'<figure><figcaption><b>{escape(title)}</b></figcaption>'
                     f'{charts.bars(rows, "accuracy (%), ours", title)}</figure>')
    parts.append('</div>')
    for table in found['published']['tables']:
        heads = ''.join(f'<th scope="col" class="number">{escape(name)}: ours</th><th scope="col" class="number">'
                        'published</th>' for _, _, name in found['hosts'])
        lines = ''.join(f'<tr><th scope="row">{escape(row["label"])}</th>' + ''.join(
            _ours(values.get(fusion)) + _theirs(row.get(host, []), b)
            for (host, b, _), values in found['hosts'].items()) + '</tr>' for fusion, row in table['rows'].items())
        title = f'{escape(table["title"])}: accuracy (%)'
        parts.append(f'<h3>{title}</h3><div class="scroll" tabindex="0" role="region" aria-label="{title}"><table>'
                     f'<thead><tr><th scope="col">fusion</th>{heads}</tr></thead><tbody>{lines}</tbody></table></div>')
    return '\n'.join(parts)


def _ours(value):
    return f'<td class="number">{value[0]:.2f} ± {value[1]:.2f}</td>' if value else '<td class="number">-</td>'


def _theirs(values, b):
    return f'<td class="number">{100 * values[b - 1]:.1f}</td>' if len(values) >= b else '<td class="number">-</td>'


def curves_section(found):
    """Held-out accuracy of the shipped networks over their epochs."""
    series = [(name, values, series_of(model_info(name).fusion)) for name, values in found.items()]
    return ('<figure class="narrow"><figcaption>Accuracy on Fashion-MNIST’s 10,000 test images, one run each'
            f'</figcaption>{legend(kind for *_, kind in series)}'
            f'{charts.lines(series, "epoch", "accuracy (%)", "accuracy by epoch of the shipped networks")}</figure>')


def gallery(size=96):
    """Grad-CAM of the shipped networks on ten test images of Fashion-MNIST, the first of each class."""
    strip = np.asarray(Image.open(HERE / 'fashion_mnist.png'))
    images = [Image.fromarray(part).convert('RGB') for part in np.split(strip, len(FASHION_MNIST), axis=1)]
    names = list_models('fashion_mnist_*', pretrained=True)
    opened = [open_trained(name) for name in names]
    rows = [row for model in opened for row in look(model, images, model.name, FASHION_MNIST, with_fusion=True)]
    originals = inputs(opened[0], images)
    cards = []
    for number, label in enumerate(FASHION_MNIST):
        pictures = [_image(originals[number], f'test image: {label}', 'image', size)]
        for row in rows:
            panel = row.panels[number]
            caption = panel.caption.replace('\n', ', ')
            star = '★ ' if panel.starred else ''
            short = row.title.replace('fashion_mnist_', '').replace('_resnet8', '')
            pictures.append(_image(panel.picture, f'{row.title} on {label}: {caption}', f'{short}: {star}{caption}',
                                   size, panel.starred))
        cards.append(f'<li><h3>{escape(label)}</h3><div class="strip">{"".join(pictures)}</div></li>')
    return f'<ul class="gallery">{"".join(cards)}</ul>'


def _image(picture, alt, caption, size, starred=False):
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    data = cv2.imencode('.jpg', cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return (f'<figure><img width="{size}" height="{size}" alt="{escape(alt)}" '
            f'src="data:image/jpeg;base64,{base64.b64encode(data).decode()}"><figcaption'
            f'{" class=starred" if starred else ""}>{escape(caption)}</figcaption></figure>')


def pointing_table(rows):
    """The pointing game's accuracy by network, layer and size of object, mean over the seeds."""
    if not rows:
        return ''
    sizes = list(dict.fromkeys((row['from'], row['to']) for row in rows))
    places = list(dict.fromkeys((row['network'], row['layer']) for row in rows))
    seeds = len({row['seed'] for row in rows})

    def mean(key, network, layer, low):
        return np.mean([100 * float(row[key]) for row in rows
                        if (row['network'], row['layer'], row['from']) == (network, layer, low)])

    def cell(network, layer, low):
        return (f'<td class="number">{mean("pointing", network, layer, low):.1f} '
                f'<small>({mean("accuracy", network, layer, low):.0f})</small></td>')

    lines = ''.join(f'<tr><th scope="row">{escape(network)}, {escape(layer)}</th>'
                    f'{"".join(cell(network, layer, low) for low, _ in sizes)}</tr>' for network, layer in places)
    chance = ''.join(f'<td class="number">{mean("area", *places[0], low):.1f}</td>' for low, _ in sizes)
    heads = ''.join(f'<th scope="col" class="number">{low} to {high} px</th>' for low, high in sizes)
    return ('<h3>The pointing game</h3><p>How often the maximum of the true class’s map lies on the object, in per '
            f'cent, on made images of 32x32 where its place is known, mean of {seeds} seeds; in brackets how many '
            'images the network names rightly. docs/gradcam.md has the command and what it says.</p>'
            '<div class="scroll" tabindex="0" role="region" aria-label="The pointing game"><table><thead><tr>'
            f'<th scope="col">network, layer</th>{heads}</tr></thead><tbody>{lines}'
            f'<tr><th scope="row">any pixel, by chance</th>{chance}</tr></tbody></table></div>')


def details(model):
    """A network's own section: facts, checkpoints, code."""
    facts = [('family', model['family']), ('fusion', model['fusion']), ('task', model['task']),
             ('data set', model['dataset']), ('input', model['input']), ('parameters', f'{model["parameters"]:,}'),
             ('multiply-adds', f'{model["multiply_adds"]:,}'), ('source', model['source'])]
    facts += [(f'{"our" if each["own"] else "published"} top-1 error',
               f'{each["error"]:.2f} % on {each["dataset"]} ({each["source"]})') for each in model['results']]
    parts = [f'<details class="model" id="model-{model["name"]}"><summary>{model["name"]}</summary>', _list(facts)]
    for each in model['checkpoints']:
        shipped = 'shipped in this package' if each['shipped'] else 'downloaded on request'
        parts.append(f'<h4>Checkpoint {escape(each["tag"])}</h4>' + _list([
            ('file', f'{each["file"]}, {shipped}'), (each['digest_kind'], each['digest']),
            ('trained on', f'{each["dataset"]}, labels {each["labels"]}'), ('recipe', each['recipe']),
            ('from', each['source']), ('licence', each['license'])]))
    parts += [f'<h4>{escape(title)}</h4><pre tabindex="0"><code>{escape(code)}</code></pre>'
              for title, code in model['code'].items()]
    return ''.join([*parts, '</details>'])


def _list(facts):
    return '<dl>' + ''.join(f'<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>' for name, value in facts) + '</dl>'


def options(values):
    return ''.join(f'<option>{escape(value)}</option>' for value in values)


def as_json(value):
    """JSON that may stand in a script element."""
    return json.dumps(value, ensure_ascii=False, separators=(',', ':')).replace('</', '<\\/')
