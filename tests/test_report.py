"""The page on the zoo: read by a parser, and used in a headless Chromium where there is one."""

import csv
import itertools
import json
import os
import re
import shutil
import statistics
from collections import Counter
from html.parser import HTMLParser

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from PIL import Image
from programs import TOP

from benchmarks import paired, segmentation
from gluon_aff.train import parse
from model_zoo import list_models, list_weights, model_info
from model_zoo.cli import main
from model_zoo.pictures.page import charts, facts, gallery, page, tables
from model_zoo.reported_results import HOSTS, TABLES
from model_zoo.summary import summaries

VOID = {'meta', 'link', 'input', 'img', 'br', 'circle', 'rect', 'line', 'path'}


class Reader(HTMLParser):
    """Elements with their attributes, the text inside each, and tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.wrong, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        element = {'tag': tag, 'text': '', **dict(attributes)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append({'tag': tag, 'text': '', **dict(attributes)})

    def handle_endtag(self, tag):
        if tag == 'p' and self.open[-1]['tag'] != 'p':
            self.wrong.append(tag)
        elif self.open.pop()['tag'] != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        for element in self.open:
            element['text'] += data

    def all(self, tag, **attributes):
        return [
            element
            for element in self.elements
            if element['tag'] == tag and all(element.get(key) == value for key, value in attributes.items())
        ]


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    assert main(['report', '-o', str(folder)]) == 0
    return folder / 'index.html'


@pytest.fixture(scope='module')
def text(built):
    return built.read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def read(text):
    return Reader(text)


def test_page_is_one_file_of_sound_html(built, read):
    assert os.listdir(built.parent) == ['index.html'] and built.stat().st_size < 1_000_000
    assert not read.wrong and not read.open
    assert [
        number
        for number in Counter(element['id'] for element in read.elements if 'id' in element).values()
        if number > 1
    ] == []
    assert read.all('html', lang='en') and len(read.all('h1')) == 1
    assert all(element.get('alt') for element in read.all('img'))
    assert '$' not in read.all('body')[0]['text'].split("'use strict'")[0]


def test_nothing_is_loaded_from_elsewhere(text, read):
    ids = {element.get('id') for element in read.elements}
    for element in read.elements:
        for key in ('src', 'href', 'action', 'data', 'poster', 'srcset', 'xlink:href'):
            value = element.get(key)
            assert value is None or value.startswith('data:') or value[0] == '#' and value[1:] in ids, (element, value)
    style = read.all('style')[0]['text']
    assert 'url(' not in style and '@import' not in style
    script = read.all('script')[-1]['text']
    assert not re.search(r'fetch|XMLHttpRequest|import|WebSocket|sendBeacon|https?:', script)
    assert "default-src 'none'" in read.all('meta', **{'http-equiv': 'Content-Security-Policy'})[0]['content']


def test_every_network_has_its_row_section_and_data(read):
    names = list_models()
    data = json.loads(read.all('script', type='application/json')[0]['text'])
    assert [model['name'] for model in data] == names
    assert [model['data-name'] for model in read.all('tr') if 'data-name' in model] == names
    shown = {
        model['id'][6:]: model['text'] for model in read.all('details') if model.get('id', '').startswith('model-')
    }
    assert list(shown) == names
    for model in data:
        card = model_info(model['name'])
        assert (model['dataset'], model['weights']) == (card.dataset, len(card.weights))
        message = shown[model['name']]
        assert f'{card.parameters:,}' in message and f'{card.multiply_adds:,}' in message
        assert f"get_model('{card.name}'" in message
        assert f'gluon-aff export {card.name}' in message
        for file in list_weights(card.name):
            assert file.digest in message and file.recipe in message and file.license in message
            assert (f'gluon-aff download {card.name}' in message) == (file.url is not None)
        if card.reported and card.reported.top1_error is not None:
            assert f'{card.reported.top1_error:.2f} %' in message and '(' in message


@pytest.mark.parametrize(
    'name', ['iaff_resnet50', 'se_resnet50', 'fashion_mnist_aff_resnet8', 'cifar_aff_resnet14', 'fpn_aff_resnet8']
)
def test_commands_on_the_page_are_ones_that_the_programs_take(name, read):
    import train_cifar
    import train_imagenet
    import train_stopsign

    (model,) = (model for model in facts.models() if model.card.name == name)
    line = model.code.get('Fine-tune') or model.code['Train']
    _, script, *flags = line.split()
    program = {'train_cifar.py': train_cifar, 'train_imagenet.py': train_imagenet, 'train_stopsign.py': train_stopsign}[
        script
    ]
    assert parse(program.Config, flags).model == name


def test_results_say_whose_they_are():
    models = {model.card.name: model for model in facts.models()}
    (shipped,) = models['fashion_mnist_aff_resnet8'].own
    assert shipped.error == 7.76 and models['fashion_mnist_aff_resnet8'].reported == ()
    stated = models['cifar_aff_resnet32']
    assert [(result.error, result.data) for result in stated.reported] == [
        (16.43, 'CIFAR-100, fine labels'),
        (9.22, 'CIFAR-100, coarse labels'),
    ]
    assert stated.own == []
    assert [result.error for result in models['iaff_resnet50'].reported] == [20.2, 20.2159, None]
    assert [(r.error, r.source) for r in models['add_resnet50'].reported if r.error] == [
        (20.85, "GluonCV's resnet50_v1d (117a384e)"),
        (21.52, "GluonCV's resnet50_v1d (00319ddc)"),
        (20.922, "timm's resnet50d (gluon_in1k)"),
    ]
    assert models['aff_resnet101'].reported == () and models['aff_resnet101'].own == models['add_resnet50'].own == []
    (study,) = models['cifar_aff_resnet8'].own
    assert (study.error, study.options) == (15.53, 'width=1, reduction=2')
    assert '12,800 training images' in study.data and '5 seeds after 2,000 updates' in study.source
    (study,) = models['cifar_add_resnet8'].own
    assert (study.error, study.options) == (14.46, 'width=1.08'), 'as many parameters as AFF'
    (segmentation,) = models['fpn_aff_resnet8'].own
    with open(TOP / 'docs' / 'segmentation.csv', encoding='utf-8', newline='') as file:
        expected = {}
        for row in csv.DictReader(file):
            expected.setdefault(row['network'], []).append(float(row['mIoU']))
    assert segmentation.percent == pytest.approx(round(100 * statistics.mean(expected['fpn_aff_resnet8']), 1))
    assert {name for name, model in models.items() if model.own} >= {*expected, 'cifar_concat_inception_resnet8'}


def test_the_guide_sorts_within_a_data_set_and_shows_plain_networks_beside_ours(read):
    (section,) = read.all('section', id='guide')
    tables = [element for element in read.all('table') if element.get('class') == 'guide']
    expected = {}
    for row in summaries(sorted({record.model for record in list_weights() if not record.preprocessing})):
        expected.setdefault(row.data, []).append((-row.accuracy, row.name))
    names = [
        re.findall(r'(?<!_)(?:i?aff_|cifar_|fashion_)[a-z0-9_]+(?=the|ours)', table['text']) for table in tables[:-1]
    ]
    assert names == [[name for _, name in sorted(rows)] for rows in expected.values()]
    text = tables[-1]['text']
    order = [
        text.index(name)
        for name in ('iaff_resnext50_32x4d', 'aff_resnet50', 'add_resnet50', 'ResNet50_Weights (IMAGENET1K_V1)')
    ]
    assert order == sorted(order) and 'cifar' not in text and 'fashion' not in text
    assert 'none stated' in section['text'] and '94.73' in section['text'] and '60.7' in section['text']


def test_the_papers_tables_stand_whole_with_their_blocks(read):
    (section,) = read.all('section', id='ablation')
    for table in TABLES:
        for _, columns in table.rows.values():
            for host, values in columns.items():
                assert HOSTS[host].title in section['text']
                assert all(f'{value:.1f}' in section['text'] for value in values)
    paper = [element['text'] for element in read.all('table') if element.get('class') == 'paper']
    assert [text.count('b = ') for text in paper] == [12, 12, 3]
    row = re.search(r'MS-SA(.*?)SK', paper[1], re.DOTALL).group(1)
    assert re.findall(r'\d\d\.\d', row) == ('75.6 77.9 79.0 79.8 76.1 80.1 81.4 82.2 92.0 93.2 93.8 94.1'.split())


def test_the_guide_has_the_segmentation_tables():
    text = (TOP / 'docs' / 'results.md').read_text(encoding='utf-8')
    with open(TOP / 'docs' / 'segmentation.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    words = ('network', 'parameters', 'seed', 'conditions')
    rows = [{name: cell if name in words else float(cell) for name, cell in row.items()} for row in rows]
    for row in rows:
        row['parameters'] = int(row['parameters'])
    titles = [name for name in rows[0] if name not in words]
    for table in segmentation.tables(rows, titles).split('\n\n'):
        assert table in text
    points = [title for title in titles if title.startswith('pointing')]
    for chosen in titles[: -len(points)], points:  # a table for each
        values = {}
        for row in rows:
            values.setdefault(row['network'], []).append([row[title] for title in chosen])
        for name, runs in values.items():
            means = ' | '.join(f'{statistics.mean(each):.3f}' for each in zip(*runs))
            assert re.search(rf'^\| {name} \| [\d,]+ \| 3 \| {re.escape(means)} \|$', text, re.MULTILINE), (name, means)
        for fusion in ('aff', 'iaff'):
            differences = np.subtract(values[f'fpn_{fusion}_resnet8'], values['fpn_add_resnet8'])
            cells = ['{:+.3f} ({:+.3f} to {:+.3f})'.format(*paired.interval(list(each))) for each in differences.T]
            assert f'| fpn_{fusion}_resnet8 - fpn_add_resnet8 | | 3 | {" | ".join(cells)} |' in text


def test_without_the_checkout_the_page_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(facts, 'CHECKOUT', tmp_path)
    monkeypatch.setattr('model_zoo.pictures.page.gallery_section', str)
    reader = Reader(page())
    (section,) = reader.all('section', id='ablation')
    assert 'build this page in a checkout' in section['text']
    assert 'pointing game' not in reader.all('section', id='gradcam')[0]['text'].lower()


def test_ablation_has_the_means_of_the_runs(read):
    cell = facts.ablation()['cells']['resnet', 'aff', 1]
    figures = round(cell['mean'], 2), round(cell['deviation'], 2), cell['runs'], cell['parameters']
    assert figures == (84.47, 0.57, 5, 89_610)
    (section,) = read.all('section', id='ablation')
    assert '84.47 ± 0.57' in section['text'] and '76.3' in section['text']


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A folder that stands for the source's, without its files."""
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'setup.py').write_text("setup(name='gluon_aff')")
    monkeypatch.setattr(facts, 'CHECKOUT', tmp_path)
    return tmp_path


def test_runs_of_a_segmentation_network_are_averaged(checkout):
    rows = 'network,seed,mIoU,conditions\nfpn_aff_resnet8,0,0.5,4 epochs\nfpn_aff_resnet8,1,0.7,4 epochs\n'
    (checkout / 'docs' / 'segmentation.csv').write_text(rows)
    (own,) = next(model for model in facts.models() if model.card.name == 'fpn_aff_resnet8').own
    assert (own.percent, own.source) == (60, 'ours: mean of 2 seeds, 4 epochs, docs/segmentation.csv')


HEAD = ','.join(facts.STUDY)


@pytest.mark.parametrize('text', ['', HEAD, f'{HEAD}\n'])
def test_files_without_rows_count_as_missing(checkout, text):
    for name in ('study.csv', 'segmentation.csv', 'pointing_game.csv'):
        (checkout / 'docs' / name).write_text(text)
    assert facts.ablation() is None and facts.pointing_game() == [] and len(facts.models()) == len(list_models())
    assert 'build this page in a checkout' in tables.ablation_section(facts.ablation())


@pytest.mark.parametrize(
    'text',
    [
        'host,b\nresnet,1\n',
        f'{HEAD}\nbasic,resnet,one,0,aff,equal,1,2,1,1,1,1,0.5\n',
        f'{HEAD}\nbasic,resnet\n',
        f'{HEAD}\nbasic,nowhere,1,0,aff,equal,1,2,1,1,1,1,0.5\n',
        b'\xff\xfe\0',
        f'{HEAD}\n"a\0"'.encode(),
    ],
)
def test_a_malformed_file_of_runs_is_named_in_a_sentence(checkout, text, capsys):
    path = checkout / 'docs' / 'study.csv'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(['report', '-o', str(checkout / 'site')]) == 2
    message = capsys.readouterr().err
    assert 'study.csv' in message and message.count('\n') == 1 and not (checkout / 'site').exists()


def test_files_beside_an_installed_package_are_not_its_own(checkout):
    (checkout / 'setup.py').unlink()
    (checkout / 'docs' / 'study.csv').write_text('anything')
    assert facts.ablation() is None


@pytest.mark.parametrize('content', [None, b'no picture', b'\x89PNG\r\n\x1a\n', 'narrow'])
def test_a_gallery_image_that_cannot_be_read_is_named_and_not_the_output(monkeypatch, tmp_path, content, capsys):
    path = tmp_path / 'fashion_mnist.png'
    if content == 'narrow':
        Image.new('L', (33, 32)).save(path)
    elif content is not None:
        path.write_bytes(content)
    for name in ('page.html', 'page.js', 'style.css', 'fashion_mnist.txt'):
        (tmp_path / name).write_bytes((gallery.HERE / name).read_bytes())
    monkeypatch.setattr(gallery, 'HERE', tmp_path)
    assert main(['report', '-o', str(tmp_path / 'site')]) == 2
    message = capsys.readouterr().err
    assert str(path) in message and 'install the package again' in message and 'index.html' not in message
    assert message.count('\n') == 1 and not (tmp_path / 'site').exists()


def test_a_part_of_the_page_that_is_missing_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr('model_zoo.pictures.page.HERE', tmp_path)
    monkeypatch.setattr('model_zoo.pictures.page.gallery_section', str)
    assert main(['report', '-o', str(tmp_path / 'site')]) == 2
    message = capsys.readouterr().err
    assert str(tmp_path / 'style.css') in message and message.count('\n') == 1


def test_folder_that_cannot_be_written_is_a_sentence(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert main(['report', '-o', str(tmp_path / 'file')]) == 2
    err = capsys.readouterr().err
    assert 'The page cannot be written' in err and err.count('\n') == 1


numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(numbers, st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low, span):
    values = charts.ticks(low, low + span)
    assert 2 <= len(values) <= 7 and low - 1e-6 * span <= values[0] and values[-1] <= low + span * (1 + 1e-6)
    steps = [b - a for a, b in zip(values, values[1:])]
    assert max(steps) - min(steps) < 1e-6 * span + 1e-9


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=12))
def test_scatter_labels_overlap_neither_each_other_nor_points(coordinates):
    points = [charts.Point(f'network_{i}', x, y, 'aff', f'tip {i} <&') for i, (x, y) in enumerate(coordinates)]
    drawn = Reader(charts.scatter(points, 'x', 'y', 'title'))
    marks = [element for element in drawn.all('circle') if 'class' not in element]
    assert len(marks) == len(coordinates) and [element['data-tip'] for element in drawn.all('a')] == [
        point.tip for point in points
    ]
    labels = [
        (
            float(element['x']),
            float(element['y']) - 11,
            float(element['x']) + charts.LETTER * len(element['text']),
            float(element['y']),
        )
        for element in drawn.all('text')
        if element.get('class') == 'name'
    ]
    for a, b in itertools.combinations(labels, 2):
        assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
    for left, top, right, bottom in labels:
        assert left >= 0 and right <= charts.WIDTH and top >= 0 and bottom <= charts.HEIGHT
        assert not any(left < float(element['cx']) < right and top < float(element['cy']) < bottom for element in marks)


BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


@pytest.fixture(scope='module')
def chromium():
    sync_api = pytest.importorskip('playwright.sync_api', reason="needs the extra 'browser'")
    if not BROWSER:
        pytest.skip('there is no Chromium')
    with sync_api.sync_playwright() as driver:
        # With the scroll bars that people have.
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=['--no-sandbox'], ignore_default_args=['--hide-scrollbars']
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, built):
    """Opens the page at a width in light or dark; at the end nothing may have gone wrong or been asked for."""
    contexts, wrong = [], []

    def opened(width=1280, scheme='light', hash=''):
        context = chromium.new_context(viewport={'width': width, 'height': 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        tab = context.new_page()
        tab.on('console', lambda message: wrong.append(message.text))
        tab.on('pageerror', lambda error: wrong.append(str(error)))
        tab.on('request', lambda request: request.url.startswith(('file:', 'data:')) or wrong.append(request.url))
        tab.goto(built.as_uri() + hash)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def names_shown(tab):
    return tab.eval_on_selector_all('#models tbody tr:not([hidden])', 'rows => rows.map(row => row.dataset.name)')


@pytest.mark.browser
def test_columns_sort_both_ways_by_click_and_by_key(visit):
    tab = visit()
    cards = {name: model_info(name) for name in list_models()}
    head = tab.locator('#models thead th').nth(4)
    head.locator('button').click()
    assert head.get_attribute('aria-sort') == 'ascending'
    shown = [cards[name].parameters for name in names_shown(tab)]
    assert shown == sorted(shown) and len(shown) == len(cards)
    head.locator('button').focus()
    tab.keyboard.press('Enter')
    assert head.get_attribute('aria-sort') == 'descending'
    assert [cards[name].parameters for name in names_shown(tab)] == sorted(shown, reverse=True)
    tab.locator('#models thead th').nth(6).locator('button').click()
    assert names_shown(tab)[0] == 'cifar_aff_resnext47_32x4d' and head.get_attribute('aria-sort') == 'none'
    tab.locator('#models thead th').nth(0).locator('button').click()
    assert names_shown(tab) == list_models()


@pytest.mark.browser
def test_filters_combine_and_say_how_many_are_left(visit):
    tab = visit()
    tab.fill('#search', 'RESNET50 imagenet')
    assert names_shown(tab) == list_models('*resnet50*')
    tab.select_option('#fusion', 'iaff')
    assert names_shown(tab) == ['iaff_resnet50'] and tab.inner_text('#count') == '1 network'
    tab.fill('#search', '')
    tab.check('#released')
    assert names_shown(tab) == ['fashion_mnist_iaff_resnet8', 'iaff_resnet50', 'iaff_resnext50_32x4d']
    tab.fill('#search', 'nothing of the kind')
    assert names_shown(tab) == [] and tab.is_visible('#none') and tab.inner_text('#count') == '0 networks'


@pytest.mark.browser
def test_the_address_keeps_the_filters_and_the_order(visit):
    tab = visit()
    tab.select_option('#task', 'segmentation')
    tab.fill('#search', 'aff & fpn')
    assert names_shown(tab) == []
    tab.fill('#search', 'aff fpn')
    tab.locator('#models thead th').nth(4).locator('button').click()
    tab.locator('#models thead th').nth(4).locator('button').click()
    shown = names_shown(tab)
    assert sorted(shown) == sorted(list_models('fpn_*aff_*')) and shown[-1] != list_models('fpn_*aff_*')[-1]
    hash = tab.evaluate('location.hash')
    again = visit(hash=hash)
    assert names_shown(again) == shown and again.input_value('#task') == 'segmentation'
    assert again.evaluate('location.hash') == hash
    tab.reload()
    assert names_shown(tab) == shown
    assert names_shown(visit(hash='#sort=99&task=nothing')) == list_models()


@pytest.mark.browser
def test_code_is_copied_by_a_button_of_its_own(visit):
    tab = visit(hash='#model-aff_resnet50')
    section = tab.locator('#model-aff_resnet50')
    button = section.locator('button.copy').first
    tab.evaluate('document.addEventListener("copy", () => { window.copied = String(document.activeElement.value); })')
    tab.evaluate('Object.defineProperty(navigator, "clipboard", {value: undefined})')
    button.click()
    assert tab.evaluate('window.copied') == section.locator('pre').first.inner_text()
    assert button.inner_text() == 'Copied' and section.locator('button.copy').count() == section.locator('pre').count()


@pytest.mark.browser
def test_a_phone_shows_the_errors_without_scrolling_sideways(visit):
    tab = visit(390)
    row = tab.locator('#models tr[data-name=aff_resnet50]')
    row.scroll_into_view_if_needed()
    box = row.locator('text=20.28 %').bounding_box()
    assert 0 <= box['x'] and box['x'] + box['width'] <= 390
    table = tab.locator('#models')
    assert table.evaluate('node => node.scrollWidth <= node.parentNode.clientWidth')
    assert not row.locator('td', has_text='Our error').count() or not row.locator('td.empty').first.is_visible()


@pytest.mark.browser
def test_marks_are_named_under_the_pointer_and_by_focus(visit):
    tab = visit()
    for mark in tab.locator('#errors .point').all() + tab.locator('.bar').all():
        mark.scroll_into_view_if_needed()
        box = mark.locator('circle, rect').last.bounding_box()
        tab.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
        assert tab.is_visible('#tip') and tab.inner_text('#tip') == mark.get_attribute('data-tip')
        tip = tab.locator('#tip').bounding_box()
        assert tip['x'] >= 0 and tip['x'] + tip['width'] <= 1280 and tip['y'] >= 0
    tab.mouse.move(1, 1)
    assert not tab.is_visible('#tip')
    first = tab.locator('#errors .point').first
    first.focus()
    assert tab.inner_text('#tip') == first.get_attribute('data-tip')
    tab.keyboard.press('Escape')
    assert not tab.is_visible('#tip')
    tab.keyboard.press('Enter')
    opened = tab.locator('details.model[open]')
    assert opened.count() == 1 and opened.get_attribute('id') == first.get_attribute('href')[1:]


@pytest.mark.browser
def test_every_link_leads_to_something_that_is_shown(visit):
    tab = visit()
    for target in sorted({element.get_attribute('href') for element in tab.locator('a').all()}):
        tab.evaluate('hash => { location.hash = hash }', target)
        tab.wait_for_timeout(5)
        assert tab.locator(target).is_visible(), target
    assert visit(hash='#model-aff_resnet50').locator('#model-aff_resnet50').get_attribute('open') == ''


@pytest.mark.browser
@pytest.mark.parametrize(
    'width, scheme', [(320, 'light'), (390, 'dark'), (768, 'light'), (1280, 'light'), (1280, 'dark')]
)
def test_nothing_is_wider_than_the_screen_clipped_or_illegible(visit, width, scheme):
    tab = visit(width, scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
    assert tab.evaluate('document.documentElement.scrollWidth') <= width
    if width >= 1280:
        assert (
            tab.evaluate("""() => Array.from(document.querySelectorAll('.scroll'))
            .filter(node => node.scrollWidth > node.clientWidth).map(node => node.getAttribute('aria-label'))""")
            == []
        )
    clipped = tab.evaluate("""() => Array.from(document.querySelectorAll('p, h1, h2, h3, h4, td, th, dd, dt, li,'
        + ' summary, figcaption, button')).filter(node => node.offsetParent && node.scrollWidth > node.clientWidth + 1
        && !node.closest('.skip')).map(node => node.outerHTML.slice(0, 120))""")
    assert clipped == []
    outside = tab.evaluate("""() => Array.from(document.querySelectorAll('svg text')).filter(node => {
        const box = node.getBoundingClientRect(), frame = node.ownerSVGElement.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
        }).map(node => node.textContent)""")
    assert outside == []
    overlaps = tab.evaluate("""() => Array.from(document.querySelectorAll('svg')).flatMap(chart => {
        const boxes = Array.from(chart.querySelectorAll('text')).map(node => [node.textContent,
            node.getBoundingClientRect()]);
        return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([, b]) => a.left < b.right - 1
            && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2)
            .map(([other]) => one + ' | ' + other)); })""")
    assert overlaps == []
    contrasts = tab.evaluate("""() => {
        const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(value => { value /= 255;
            return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const back = light(getComputedStyle(document.body).backgroundColor);
        return ['body', 'a[href]', 'small', 'figcaption', '#count', '.strip figcaption'].map(node => {
            const text = light(getComputedStyle(document.querySelector(node)).color);
            return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05); }); }""")
    assert min(contrasts) >= 4.5
