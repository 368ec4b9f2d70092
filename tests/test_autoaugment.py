"""AutoAugment: the published policies, every operation as it is defined, and nothing but the state decides."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gluon_aff.data import autoaugment
from gluon_aff.data.autoaugment import OPERATIONS, POLICIES, AutoAugment, apply

FILL = (128, 128, 128)
GEOMETRIC = ('ShearX', 'ShearY', 'TranslateX', 'TranslateY', 'Rotate')
ENHANCE = ('Contrast', 'Color', 'Brightness', 'Sharpness')


def picture(height=20, width=30, seed=0, low=0, high=256):
    return np.random.RandomState(seed).randint(low, high, (height, width, 3)).astype(np.uint8)


def applied(operation, pixels, level=0, sign=1):
    return np.asarray(apply(operation, Image.fromarray(pixels), level, sign))


def grey(pixels):
    """ITU-R 601 luma in Pillow's fixed point."""
    return ((pixels.astype(int) @ (19595, 38470, 7471) + 0x8000) >> 16).astype(np.uint8)


def blend(degenerate, pixels, factor):
    degenerate = np.asarray(degenerate, np.float64)
    return np.clip(degenerate + factor * (pixels - degenerate), 0, 255)


@pytest.mark.parametrize('policy', sorted(POLICIES))
def test_policies_are_25_pairs_of_known_operations(policy):
    assert len(POLICIES[policy]) == 25
    for pair in POLICIES[policy]:
        assert len(pair) == 2
        for operation, probability, level in pair:
            assert operation in OPERATIONS
            assert 0 <= probability <= 1 and round(probability * 10) == pytest.approx(probability * 10)
            assert isinstance(level, int) and 0 <= level <= 9


@pytest.mark.parametrize(
    'policy, row, pair',
    [
        ('cifar10', 0, (('Invert', 0.1, 7), ('Contrast', 0.2, 6))),
        ('cifar10', 13, (('Brightness', 0.9, 6), ('Color', 0.2, 8))),
        ('cifar10', 16, (('Equalize', 0.2, 8), ('Equalize', 0.6, 4))),
        ('cifar10', 24, (('TranslateY', 0.7, 9), ('AutoContrast', 0.9, 1))),
        ('imagenet', 0, (('Posterize', 0.4, 8), ('Rotate', 0.6, 9))),
        ('imagenet', 10, (('Rotate', 0.8, 8), ('Color', 0.4, 0))),
        ('imagenet', 15, (('Rotate', 0.8, 8), ('Color', 1.0, 2))),
        ('imagenet', 24, (('Equalize', 0.8, 8), ('Equalize', 0.6, 3))),
    ],
)
def test_rows_that_copies_got_wrong_are_the_papers(policy, row, pair):
    assert POLICIES[policy][row] == pair


def test_imagenet_repeats_the_rows_that_the_paper_repeats():
    rows = POLICIES['imagenet']
    assert rows[20:] == tuple(rows[i] for i in (4, 1, 13, 14, 2)) and len(set(rows)) == 20
    assert len(set(POLICIES['cifar10'])) == 25


def test_invert():
    pixels = picture()
    for level in (0, 4, 9):
        assert (applied('Invert', pixels, level) == 255 - pixels).all()


def test_solarize_inverts_from_its_threshold():
    pixels = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (2, 1, 3))
    for level in range(10):
        threshold = 256 - 256 * level / 9
        assert (applied('Solarize', pixels, level) == np.where(pixels < threshold, pixels, 255 - pixels)).all()
    assert (applied('Solarize', pixels, 0) == pixels).all()
    assert (applied('Solarize', pixels, 9) == 255 - pixels).all()


def test_posterize_keeps_the_high_bits():
    pixels = picture()
    for level, bits in enumerate([8, 8, 7, 7, 6, 6, 5, 5, 4, 4]):
        assert (applied('Posterize', pixels, level) == pixels >> (8 - bits) << (8 - bits)).all()


def test_autocontrast_stretches_each_channel():
    pixels = picture(low=60, high=170)
    pixels[..., 1] //= 2
    pixels[..., 2] = 77
    got = applied('AutoContrast', pixels)
    low, high = pixels[..., :2].min((0, 1)).astype(float), pixels[..., :2].max((0, 1))
    assert np.abs(got[..., :2] - (pixels[..., :2] - low) * 255 / (high - low)).max() <= 1
    assert (got[..., :2].min((0, 1)) == 0).all() and (got[..., :2].max((0, 1)) >= 254).all()
    assert (got[..., 2] == 77).all()


@pytest.mark.parametrize(
    'pixels',
    [picture(80, 90), picture(80, 90, low=100, high=140), picture(3, 3), np.full((5, 5, 3), 9, np.uint8)],
    ids=['all', 'dull', 'few', 'plain'],
)
def test_equalize_spreads_the_histogram_of_each_channel(pixels):
    got = applied('Equalize', pixels)
    for channel in range(3):
        values = pixels[..., channel]
        counts = np.bincount(values.ravel(), minlength=256)
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        below = np.cumsum(counts) - counts
        table = np.clip((below + step // 2) // step, 0, 255) if step else np.arange(256)
        assert (got[..., channel] == table[values]).all()


@pytest.mark.parametrize('operation', ENHANCE)
def test_factor_1_is_the_identity(operation):
    pixels = picture()
    assert (applied(operation, pixels, 4.5) == pixels).all()


@pytest.mark.parametrize('operation', ENHANCE)
def test_enhancing_blends_with_a_degenerate_image(operation):
    pixels = picture()
    luma = grey(pixels)
    smooth = pixels.astype(float)
    around = sum(np.roll(smooth, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    smooth[1:-1, 1:-1] = np.floor((around + 4 * smooth)[1:-1, 1:-1] / 13 + 0.5)
    degenerate = {
        'Brightness': np.zeros_like(pixels),
        'Color': np.repeat(luma[..., None], 3, 2),
        'Sharpness': smooth,
        'Contrast': np.full_like(pixels, int(luma.mean() + 0.5)),
    }[operation]
    for level in range(10):
        got = applied(operation, pixels, level)
        assert np.abs(got - blend(degenerate, pixels, 0.1 + 0.2 * level)).max() < 1.01  # Pillow truncates
        assert (got == applied(operation, pixels, level, -1)).all()


@pytest.mark.parametrize('operation', GEOMETRIC)
def test_level_0_of_the_geometric_operations_is_the_identity(operation):
    pixels = picture()
    for sign in (1, -1):
        assert (applied(operation, pixels, 0, sign) == pixels).all()


@pytest.mark.parametrize('operation, axis', [('TranslateX', 1), ('TranslateY', 0)])
def test_translation_moves_by_a_fraction_of_the_side(operation, axis):
    pixels = picture(40, 70)
    for level, sign in itertools.product((1, 3, 6, 9), (1, -1)):
        shift = sign * round(level / 9 * 150 / 331 * pixels.shape[axis])
        expected = np.roll(pixels, shift, axis)
        outside = slice(None, shift) if shift > 0 else slice(shift, None)
        expected[(slice(None), outside) if axis else outside] = FILL
        assert shift and (applied(operation, pixels, level, sign) == expected).all()


def test_translation_of_level_9_is_15_of_32_pixels():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[16, 16] = 255
    for operation, sign, y, x in (
        ('TranslateX', 1, 16, 31),
        ('TranslateX', -1, 16, 1),
        ('TranslateY', 1, 31, 16),
        ('TranslateY', -1, 1, 16),
    ):
        got = applied(operation, pixels, 9, sign)
        assert tuple(map(tuple, np.argwhere(got[..., 0] == 255))) == ((y, x),)


@pytest.mark.parametrize('sign', [1, -1])
@pytest.mark.parametrize('level', [3, 9])
def test_shear_moves_each_line_in_proportion(level, sign):
    size = 61
    for operation in ('ShearX', 'ShearY'):
        pixels = np.zeros((size, size, 3), np.uint8)
        line = (slice(None), 30) if operation == 'ShearX' else (30, slice(None))
        pixels[line] = 255
        got = applied(operation, pixels, level, sign)[..., 0]
        got = got if operation == 'ShearX' else got.T
        for y in range(size):
            where = np.flatnonzero(got[y] == 255)
            assert len(where) == 1 and abs(where[0] - (30 + sign * level / 30 * (y + 0.5))) <= 0.5 + 1e-6
        assert (got[-1] == FILL[0]).any() == (level > 0)


@pytest.mark.parametrize('level', [1, 2, 5, 9])
def test_rotation_turns_about_the_centre(level):
    pixels = np.zeros((81, 81, 3), np.uint8)
    pixels[39:42, 69:72] = 255
    angle = math.radians(30 * level / 9)
    for sign in (1, -1):
        got = applied('Rotate', pixels, level, sign)[..., 0]
        y, x = np.argwhere(got == 255).mean(0)
        assert abs(x - (40 + 30 * math.cos(angle))) < 0.7 and abs(y - (40 - sign * 30 * math.sin(angle))) < 0.7
        assert (got[0, 0], got[-1, -1]) == (FILL[0],) * 2


@pytest.mark.parametrize('operation', GEOMETRIC)
def test_the_sign_is_the_direction(operation):
    pixels = picture(33, 33)
    there, back = (applied(operation, pixels, 8, sign) for sign in (1, -1))
    assert (there != back).any()
    if operation.startswith(('Translate', 'Rotate')):
        mirrored = applied(operation, pixels[::-1, ::-1] if operation != 'Rotate' else pixels[:, ::-1], 8, 1)
        mirrored = mirrored[::-1, ::-1] if operation != 'Rotate' else mirrored[:, ::-1]
        assert (mirrored == back).mean() > 0.98


def test_what_is_unknown_is_refused():
    image = Image.fromarray(picture())
    with pytest.raises(ValueError, match='Unknown AutoAugment policy.*imagenet'):
        AutoAugment('imagenets')
    with pytest.raises(ValueError, match="Unknown operation 'Sharpnes'.*Sharpness"):
        apply('Sharpnes', image, 1, 1)
    for level, sign in ((-1, 1), (10, 1), (float('nan'), 1), (3, 0), (3, 2)):
        with pytest.raises(ValueError, match='level must be 0 to 9'):
            apply('Rotate', image, level, sign)
    with pytest.raises(ValueError, match='takes RGB images, got mode L'):
        AutoAugment('cifar10')(image.convert('L'), np.random.RandomState(0))


@pytest.mark.parametrize('policy', sorted(POLICIES))
def test_the_same_state_gives_the_same_picture(policy):
    image, augment = Image.fromarray(picture()), AutoAugment(policy)
    runs = [
        [augment(image, random).tobytes() for _ in range(40)]
        for random in (np.random.RandomState(3), np.random.RandomState(3), np.random.RandomState(4))
    ]
    assert runs[0] == runs[1] and runs[0] != runs[2] and len(set(runs[0])) > 10


def test_global_state_is_neither_read_nor_moved():
    image, augment = Image.fromarray(picture()), AutoAugment('imagenet')
    results = []
    for seed in (0, 1):
        np.random.seed(seed)
        before = np.random.get_state()[1].copy()
        results.append(augment(image, np.random.RandomState(11)).tobytes())
        assert (np.random.get_state()[1] == before).all()
    assert results[0] == results[1]


def record(monkeypatch, pair, calls=400):
    """(operation, level, sign) of what a policy of one pair applies in each of many calls."""
    monkeypatch.setitem(POLICIES, 'cifar10', (pair,))
    image, augment, random = Image.fromarray(picture(2, 2)), AutoAugment('cifar10'), np.random.RandomState(0)
    seen = []
    monkeypatch.setattr(
        autoaugment, 'apply', lambda operation, image, level, sign: seen[-1].append((operation, level, sign)) or image
    )
    for _ in range(calls):
        seen.append([])
        assert augment(image, random) is image
    return seen


def test_probability_0_never_and_1_always_applies(monkeypatch):
    seen = record(monkeypatch, (('Invert', 0.0, 3), ('Rotate', 1.0, 5)))
    assert all(len(call) == 1 and call[0][:2] == ('Rotate', 5) for call in seen)
    assert {call[0][2] for call in seen} == {1, -1}
    assert abs(sum(call[0][2] for call in seen)) < 80


def test_each_operation_has_its_own_probability_and_its_place(monkeypatch):
    seen = record(monkeypatch, (('ShearX', 0.7, 1), ('ShearY', 0.2, 2)), calls=2000)
    names = [[operation for operation, *_ in call] for call in seen]
    first, second = (np.array([name in call for call in names]) for name in ('ShearX', 'ShearY'))
    assert abs(first.mean() - 0.7) < 0.04 and abs(second.mean() - 0.2) < 0.04
    assert abs((first & second).mean() - 0.14) < 0.04
    assert all(call == ['ShearX', 'ShearY'] for call in names if len(call) == 2)


def test_every_pair_is_drawn_alike(monkeypatch):
    monkeypatch.setitem(POLICIES, 'cifar10', tuple((('Invert', 1.0, i), ('Invert', 0.0, 0)) for i in range(25)))
    drawn, random = [], np.random.RandomState(0)
    monkeypatch.setattr(autoaugment, 'apply', lambda operation, image, level, sign: drawn.append(level) or image)
    image, augment = Image.fromarray(picture(1, 1)), AutoAugment('cifar10')
    for _ in range(5000):
        augment(image, random)
    counts = np.bincount(drawn, minlength=25)
    assert len(counts) == 25 and counts.min() > 140 and counts.max() < 260


@given(st.integers(1, 80), st.integers(1, 60), st.sampled_from(OPERATIONS), st.integers(0, 9), st.sampled_from([1, -1]))
def test_operations_keep_size_and_mode_and_leave_their_input(width, height, operation, level, sign):
    image = Image.fromarray(picture(height, width, seed=width))
    before = image.tobytes()
    result = apply(operation, image, level, sign)
    assert (result.size, result.mode) == ((width, height), 'RGB')
    assert image.tobytes() == before


@pytest.mark.parametrize('operation', OPERATIONS)
def test_operations_take_the_smallest_images(operation):
    for size, level in itertools.product([(1, 1), (1, 60), (80, 1), (2, 2)], (0, 9)):
        assert apply(operation, Image.fromarray(picture(size[1], size[0])), level, -1).size == size


@given(st.integers(1, 80), st.integers(1, 60), st.sampled_from(sorted(POLICIES)), st.integers(0, 2**32 - 1))
def test_policies_keep_size_and_mode_and_leave_their_input(width, height, policy, seed):
    image = Image.fromarray(picture(height, width, seed=height))
    before = image.tobytes()
    result = AutoAugment(policy)(image, np.random.RandomState(seed))
    assert (result.size, result.mode) == ((width, height), 'RGB')
    assert image.tobytes() == before


def test_equalize_agrees_with_opencv_on_grey():
    cv2 = pytest.importorskip('cv2')
    values = np.repeat(np.arange(60, 188, dtype=np.uint8), 510)
    values = np.random.RandomState(0).permutation(values).reshape(255, 256)
    got = applied('Equalize', np.repeat(values[..., None], 3, 2))
    assert np.abs(got - cv2.equalizeHist(values)[..., None].astype(int)).max() <= 1


def test_invert_autocontrast_and_blends_agree_with_opencv():
    cv2 = pytest.importorskip('cv2')
    pixels = picture(low=40, high=200)
    assert (applied('Invert', pixels) == cv2.bitwise_not(pixels)).all()
    stretched = np.dstack([cv2.normalize(pixels[..., i], None, 0, 255, cv2.NORM_MINMAX) for i in range(3)])
    assert np.abs(applied('AutoContrast', pixels) - stretched.astype(int)).max() <= 1
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    for operation, other in (
        ('Sharpness', cv2.filter2D(pixels, -1, kernel)),
        ('Brightness', np.zeros_like(pixels)),
        ('Color', cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)),
    ):
        for factor, level in ((0.5, 2), (1.7, 8)):
            expected = cv2.addWeighted(pixels, factor, other, 1 - factor, 0)
            got = applied(operation, pixels, level)
            assert np.abs(got - expected.astype(int))[1:-1, 1:-1].max() <= 2


@pytest.mark.parametrize('sign', [1, -1])
def test_geometry_agrees_with_opencv(sign):
    cv2 = pytest.importorskip('cv2')
    pixels = np.dstack([np.add.outer(np.arange(70), np.arange(90)) + shift for shift in (0, 20, 90)]).astype(np.uint8)
    shear = sign * 0.1
    turn = cv2.getRotationMatrix2D((44.5, 34.5), sign * 20, 1)
    for operation, level, matrix, inverse in (
        ('TranslateX', 9, [[1, 0, sign * round(90 * 150 / 331)], [0, 1, 0]], 0),
        ('ShearX', 3, [[1, -shear, -shear / 2], [0, 1, 0]], cv2.WARP_INVERSE_MAP),
        ('ShearY', 3, [[1, 0, 0], [-shear, 1, -shear / 2]], cv2.WARP_INVERSE_MAP),
        ('Rotate', 6, turn, 0),
    ):
        expected = cv2.warpAffine(
            pixels,
            np.asarray(matrix, float),
            (90, 70),
            flags=cv2.INTER_NEAREST | inverse,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=FILL,
        )
        assert (applied(operation, pixels, level, sign) == expected).mean() > 0.97, operation
