"""The figures of `gluon-aff gradcam`: what is drawn, and that nothing of it overlaps or is cut."""

import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.text import Text
from PIL import Image

from gluon_aff.data.preprocessing import evaluation_array
from gluon_aff.inspect.grad_cam import fusion_weights
from model_zoo import get_model, model_info
from model_zoo.cli import main
from model_zoo.pictures.figure import SMALL, pages, save, wrap
from model_zoo.pictures.heatmaps import BLUE_TO_ORANGE, Panel, Row, Scale, enlarged, network_rows, open_model

STRIP = Path(__file__).resolve().parent.parent / 'model_zoo' / 'pictures' / 'page' / 'fashion_mnist.png'
SHIPPED = ('fashion_mnist_add_resnet8', 'fashion_mnist_aff_resnet8')


@pytest.fixture
def pictures(tmp_path):
    """A trouser and a pullover (Fashion-MNIST's), and a file that is no picture."""
    whole = Image.open(STRIP)
    for name, index in (('trouser', 1), ('pullover', 2)):
        whole.crop((28 * index, 0, 28 * index + 28, 28)).save(tmp_path / f'{name}.png')
    (tmp_path / 'broken.png').write_text('not a picture')
    return tmp_path


def run(capsys, *args):
    status = main(['gradcam', *map(str, args)])
    out, err = capsys.readouterr()
    return status, out, err


def texts(figure):
    """(text, box in pixels) of all that is written on a page."""
    renderer = figure.canvas.get_renderer()
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_text() and text.get_visible()
    ]


def check_layout(figure):
    """No text overlaps another or a picture's middle, or leaves the page."""
    figure.canvas.draw()
    boxes = texts(figure)
    width, height = figure.canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        # Lines of one caption may touch.
        assert not a.padded(-1).overlaps(b.padded(-1)), (one, other)
    for axes in figure.axes:
        inner = axes.get_window_extent()
        for text, box in boxes:
            assert text == '★' or not box.padded(-1).overlaps(inner), text


words = st.text(st.sampled_from('abcWMil_-/.$^ é'), min_size=1, max_size=70)


@settings(max_examples=12)
@given(
    st.integers(1, 20), st.lists(words, min_size=1, max_size=3), st.lists(words, min_size=4, max_size=4), words, words
)
def test_nothing_overlaps_or_is_cut_whatever_the_names(number, titles, captions, banner, meaning):
    picture = np.zeros((8, 8, 3), np.uint8)
    scales = (None, Scale(BLUE_TO_ORANGE, 0.45, 0.55, meaning), None)
    rows = [
        Row(title, [Panel(picture, captions[(i + j) % 4] + '\n0.87', i % 2 == 0) for i in range(number)], scale)
        for j, (title, scale) in enumerate(zip(titles, scales))
    ]
    for figure in pages(rows, note='A note. ' * 20, banner=banner):
        check_layout(figure)


@given(words, st.floats(0.3, 3))
def test_wrapped_lines_fit_and_keep_every_letter(text, width):
    lines = wrap(text, width)
    assert ''.join(''.join(lines).split()) == ''.join(text.split())
    assert all(len(line) <= 1 or len(wrap(line, width)) == 1 for line in lines)
    assert len(wrap(text, width, size=SMALL, lines=1)) == 1


def test_sixty_images_are_wrapped_and_paged(tmp_path):
    rows = [
        Row(title, [Panel(np.zeros((8, 8, 3), np.uint8), f'image {i}') for i in range(60)])
        for title in ('image', 'add', 'se', 'aff')
    ]
    figures = pages(rows)
    assert len(figures) == 2 and sum(len(figure.axes) for figure in figures) == 240
    drawn = Counter(text for figure in figures for text, _ in texts(figure) if text.startswith('image '))
    assert drawn == {f'image {i}': 4 for i in range(60)}
    assert save(figures, str(tmp_path / 'f.png')) == [str(tmp_path / 'f.png'), str(tmp_path / 'f-2.png')]
    assert max(Image.open(tmp_path / 'f.png').size) < 6000
    assert save(figures, str(tmp_path / 'f.pdf')) == [str(tmp_path / 'f.pdf')]
    assert len(re.findall(rb'/Type /Page\b', (tmp_path / 'f.pdf').read_bytes())) == 2


def test_a_row_has_the_networks_classes_scores_and_stars():
    model, random = open_model(SHIPPED[1])
    whole = Image.open(STRIP)
    images = [whole.crop((28 * i, 0, 28 * i + 28, 28)).convert('RGB') for i in range(10)]
    data = np.stack(
        [evaluation_array(image, model.spec.input_size, model.spec.mean, model.spec.std, 1.0) for image in images]
    )
    scores = mx.nd.softmax(model.net(mx.nd.array(data))).asnumpy()
    row, *fused = network_rows(
        model, [model.spec.prepare(image) for image in images], title='AFF', truths=['trouser'] * 10, with_fusion=True
    )
    assert not random and row.title == 'AFF'
    names = [model.spec.class_names[output.argmax()] for output in scores]
    captions = [f'{name}\n{output.max():.2f}' for name, output in zip(names, scores)]
    assert [panel.caption for panel in row.panels] == captions
    assert [panel.starred for panel in row.panels] == [name != 'Trouser' for name in names]
    assert [row.title for row in fused] == [f'AFF, M of stage {i}' for i in (1, 2, 3)]
    assert (row.scale.low, row.scale.high) == (0, 1)
    for number, fused_row in enumerate(fused, 1):
        weights = fusion_weights(model.net, mx.nd.array(data))[f'stage {number}']
        low, high = fused_row.scale.low, fused_row.scale.high
        assert low + high == 1 and low <= weights.min() and weights.max() <= high
        assert high - 0.5 <= np.abs(weights - 0.5).max() + 0.1
    original = enlarged(model.spec.prepare(images[0]))
    assert original.shape == row.panels[0].picture.shape == (224, 224, 3)
    resized = np.asarray(images[0].resize((32, 32), Image.BILINEAR))
    np.testing.assert_array_equal(original[3::7, 3::7], resized)


def test_a_bar_shows_the_colours_of_a_row_their_range_and_meaning():
    rows = [Row('image', [Panel(np.zeros((8, 8, 3), np.uint8), 'a.png')])]
    rows.append(Row('M', rows[0].panels, Scale(BLUE_TO_ORANGE, 0.35, 0.65, 'weight of x')))
    (figure,) = pages(rows)
    written = [text for text, _ in texts(figure)]
    assert [text for text in written if text[0].isdigit()] == ['0.35', '0.5', '0.65'] and 'weight of x' in written
    _, _, bar = figure.axes
    figure.canvas.draw()
    box = bar.get_window_extent()
    column = np.asarray(figure.canvas.buffer_rgba())[::-1][round(box.y0) + 2 : round(box.y1) - 2, round(box.x0) + 5, :3]
    expected = BLUE_TO_ORANGE(np.linspace(0, 1, len(column)), bytes=True)[:, :3]
    assert np.abs(column.astype(int) - expected).max() < 30


def test_equal_names_of_files_and_run_folders_are_told_apart(pictures, monkeypatch):
    drawn = []
    monkeypatch.setattr('model_zoo.pictures.figure.save', lambda figures, path: drawn.extend(figures) or [path])
    spec = model_info(SHIPPED[0]).spec
    net = get_model(SHIPPED[0], pretrained=True)
    for name in 'ab':
        (pictures / name / 'run').mkdir(parents=True)
        shutil.copy(pictures / 'trouser.png', pictures / name / '1.png')
        net.save_parameters(str(pictures / name / 'run' / 'best.params'))
        description = {**spec.to_json(), 'model': SHIPPED[0], 'options': {}, 'parameters': 'best.params'}
        (pictures / name / 'run' / 'model.json').write_text(json.dumps(description))
    files, runs = ([str(pictures / name / inner) for name in 'ab'] for inner in ('1.png', 'run'))
    assert main(['gradcam', *files, '--models', *runs, '-o', 'f.png']) == 0
    written = ''.join(text for text, _ in texts(drawn[0]))
    assert all(name in written for name in ('a/1.png', 'b/1.png', '(a/run)', '(b/run)'))


def test_the_figure_has_all_readable_images_and_a_sentence_for_the_other(pictures, capsys):
    out = pictures / 'out' / 'figure.png'
    status, printed, err = run(
        capsys,
        *(pictures / name for name in ('trouser.png', 'broken.png', 'pullover.png')),
        '--models',
        *SHIPPED,
        '--label',
        'Trouser',
        'bag',
        'Pullover',
        '--fusion-weights',
        '-o',
        out,
    )
    assert status == 1 and printed == f'{out}\n'
    assert err.count('\n') == 1 and 'broken.png is not an image' in err
    picture = Image.open(out)
    assert round(picture.info['dpi'][0]) == 150 and picture.width < picture.height


def test_any_file_name_is_written_as_it_is_and_of_the_pictures_crops_alone_are_kept(
    pictures, capsys, monkeypatch, recwarn
):
    drawn, seen = [], []
    monkeypatch.setattr('model_zoo.pictures.figure.save', lambda figures, path: drawn.extend(figures) or [path])
    monkeypatch.setattr(
        'model_zoo.pictures.heatmaps.network_rows',
        lambda model, crops, **options: seen.extend(crops) or network_rows(model, crops, **options),
    )
    names = ('a$b$c.png', '$\\frac{$.png', 'a\n\x1b[2J.png', '写真.png', 'b\udcff.png')
    for name in names:
        Image.new('RGB', (3000, 20)).save(pictures / name, 'PNG')
    status, _, err = run(capsys, *(pictures / name for name in names), '--models', SHIPPED[0], '-o', 'f.png')
    assert status == 0 and err == '' and not any('Glyph' in str(warning.message) for warning in recwarn)
    assert [pixels.shape for pixels in seen] == 5 * [(32, 32, 3)]
    written = {text for text, _ in texts(drawn[0])}
    assert written >= {'a$b$c.png', '$\\frac{$.png', 'a\\n\\x1b[2J.png', '写真.png', 'b\\udcff.png'}


def test_without_a_readable_image_nothing_is_drawn(pictures, capsys):
    status, printed, err = run(capsys, pictures / 'broken.png', '--models', SHIPPED[0], '-o', pictures / 'f.png')
    assert status == 2 and printed == '' and 'broken.png is not an image that can be read' in err
    assert not (pictures / 'f.png').exists()


def test_a_model_without_parameters_is_drawn_under_a_banner(pictures, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr('model_zoo.pictures.figure.save', lambda figures, path: drawn.extend(figures) or [path])
    status, _, err = run(capsys, pictures / 'trouser.png', '--models', SHIPPED[0], 'cifar_add_resnet8', '-o', 'f.png')
    assert status == 0 and 'Random weights: cifar_add_resnet8.' in err
    assert any('Random weights: cifar_add_resnet8' in text for text, _ in texts(drawn[0]))
    check_layout(drawn[0])
    drawn.clear()
    run(capsys, pictures / 'trouser.png', '--models', SHIPPED[0], '-o', 'f.png')
    assert not any('andom' in text for text, _ in texts(drawn[0]))


def test_runs_folders_files_and_segmentation_networks_are_models(pictures, capsys):
    net = get_model('fpn_aff_resnet8')
    net.initialize(mx.init.Xavier())
    card = model_info('fpn_aff_resnet8')
    (pictures / 'run').mkdir()
    net.save_parameters(str(pictures / 'run' / 'best.params'))
    (pictures / 'run' / 'model.json').write_text(
        json.dumps(
            {
                'model': card.name,
                'options': {},
                'class_names': card.spec.class_names,
                'parameters': 'best.params',
                'mean': card.spec.mean,
                'std': card.spec.std,
                'crop_ratio': 1.0,
                'input_size': (3, 64, 64),
            }
        )
    )
    status, _, err = run(
        capsys,
        pictures / 'trouser.png',
        '-o',
        pictures / 'f.pdf',
        '--method',
        'grad_cam++',
        '--models',
        pictures / 'run',
        f'fpn_aff_resnet8={pictures / "run" / "best.params"}',
    )
    assert status == 0 and err == '' and (pictures / 'f.pdf').read_bytes().startswith(b'%PDF')


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        (['--models', SHIPPED[0], '-o', 'f.svg'], '-o names a .png or .pdf file'),
        (['--models', SHIPPED[0], '-o', 'f.png', '--label', 'Trousers'], 'did you mean trouser'),
        (['--models', SHIPPED[0], '-o', 'f.png', '--label', 'Bag', 'Coat', 'Bag'], 'one for each; got 3'),
        (['--models', 'aff_resnet51', '-o', 'f.png'], 'did you mean aff_resnet'),
        (['--models', SHIPPED[0] + '=nothing.params', '-o', 'f.png'], 'There is no parameter file'),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(pictures, capsys, arguments, sentence):
    status, printed, err = run(capsys, pictures / 'trouser.png', pictures / 'pullover.png', *arguments)
    assert status == 2 and printed == '' and sentence in err and err.count('\n') == 1
