"""The pointing game's images and what counts as a hit."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from benchmarks import pointing_game as game


@pytest.mark.parametrize('shape', game.SHAPES)
@pytest.mark.parametrize('size', [6, 11.3])
def test_objects_fill_their_box_and_nothing_else(shape, size):
    left, top = 3.6, 7.1
    share = game.draw(shape, (left + size / 2, top + size / 2), size)
    rows, columns = np.nonzero(share.sum(1))[0], np.nonzero(share.sum(0))[0]
    for indices, start in ((rows, top), (columns, left)):
        assert abs(indices[0] - start) < 1.3 and abs(indices[-1] + 1 - start - size) < 1.3
    area = {'disc': np.pi / 4, 'square': 1, 'triangle': 1 / 2, 'cross': 5 / 9}[shape]
    assert share.sum() == pytest.approx(area * size**2, rel=0.1) and share.min() >= 0 and share.max() == 1


def test_images_are_balanced_repeatable_and_show_the_object_in_its_box():
    images, target, boxes = game.make(64, seed=3)
    again = game.make(64, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip((images, target, boxes), again))
    assert not np.array_equal(images, game.make(64, seed=4)[0])
    assert np.bincount(target).tolist() == [16] * 4 and boxes.min() >= 0 and boxes.max() <= game.SIDE
    sizes = boxes[:, 2] - boxes[:, 0]
    for low, high in game.SIZES:
        assert ((low <= sizes) & (sizes <= high)).sum() == 16
    for image, label, (left, top, right, bottom) in zip(images, target, boxes):
        share = game.draw(game.SHAPES[label], ((left + right) / 2, (top + bottom) / 2), right - left)
        colours = np.unique(image[share == 1], axis=0)
        beside = image[share == 0].astype(int)
        assert len(colours) == 1 and (abs(beside - colours[0]).max(1) > 0).mean() > 0.99


@pytest.mark.parametrize('shift, expected', [(0, True), (9, False)])
def test_a_hit_is_a_maximum_in_the_box(shift, expected):
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(1, 1, activation='relu', use_bias=False, in_channels=3),
        nn.GlobalAvgPool2D(),
        nn.Flatten(),
        nn.Dense(2, use_bias=False, in_units=1),
    )
    net.initialize(mx.init.One())
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[0, 10:16, 12:18] = 255
    boxes = np.array([[12.0 + shift, 10, 18 + shift, 16]])
    assert game.hits(net, images, np.array([1]), boxes, '0', 'grad_cam').tolist() == [expected]
    # A map that is zero everywhere points nowhere, though its first pixel is the maximum.
    net[3].weight.set_data(-mx.nd.ones((2, 1)))
    assert game.hits(net, images, np.array([1]), np.array([[0.0, 0, 32, 32]]), '0', 'grad_cam').tolist() == [False]


def test_the_game_is_played_by_all_networks_and_written_down(tmp_path, capsys):
    rows = game.main(
        [
            '--seeds',
            '0',
            '--train-images',
            '64',
            '--test-images',
            '32',
            '--num-epochs',
            '2',
            '--batch-size',
            '32',
            '--save-dir',
            str(tmp_path),
        ]
    )
    assert [row['network'] for row in rows[::8]] == ['add', 'se', 'aff']
    assert (tmp_path / 'pointing_game.csv').read_text().count('\n') == 1 + 3 * 2 * 4
    printed = capsys.readouterr().out
    assert '| aff | last stage |' in printed and "always the image's centre" in printed
