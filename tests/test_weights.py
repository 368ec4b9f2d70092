"""Released parameters: the catalogue's facts, what `pretrained` takes, and the way of a file into a network."""

import collections
import hashlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, unquote, urlsplit

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import resnet50_v1d
from loopback import Server, content, status
from mxnet.gluon import nn
from PIL import Image

from gluon_aff import verified_download as download
from gluon_aff.data.cifar import Batches
from gluon_aff.data.class_names import FASHION_MNIST
from gluon_aff.data.image_sets import fashion_mnist, resize
from gluon_aff.data.preprocessing import short_side
from gluon_aff.train import Classification, evaluate
from gluon_aff.verified_download import DownloadError, digest
from model_zoo import get_model, get_model_file, list_models, model_info
from model_zoo.cli import main
from model_zoo.loading import load_model
from model_zoo.weights import ReleasedWeights, list_weights, load_parameters, save_parameters
from model_zoo.weights import catalog as weights

NAME = 'fashion_mnist_aff_resnet8'

# (network, tag, git's blob id of the file), as the authors' repository has them at commit 0bcfd8a.
RELEASED = [
    ('aff_resnet50', 'imagenet', 'aedcb94bc954b03fccedaace6ae33a85c0831eb3'),
    ('aff_resnext50_32x4d', 'imagenet', '2dbc5a055fabfb2d37e451b02ef6cad8b04bb709'),
    ('iaff_resnet50', 'imagenet', '8f0e020af632bb0f83e19b667894a783cbec4450'),
    ('iaff_resnext50_32x4d', 'imagenet', '769c70323f536e7cb89eaf246631f36515249e36'),
    ('cifar_aff_resnet32', 'fine', 'e5f9164dd45269fa776b65c4eb95308ff7465e80'),
    ('cifar_aff_resnet32', 'coarse', '296ae7f3672ba26378122a05ed8ca3c332e60e8e'),
    ('cifar_aff_resnext38_32x4d', 'coarse', '95e0478d1e66f3c65bf88e440e30631aaec08ced'),
    ('cifar_aff_resnext47_32x4d', 'fine', 'e8a6230d2fe602857292aba3b942f192d41af286'),
    ('cifar_aff_resnext47_32x4d', 'coarse', '764e2ec951bf7e4fb3738b381f7c204b528db333'),
]


# The catalogue


def test_the_authors_nine_files_are_in_the_catalogue():
    actual = {
        (released.model, released.tag, released.digest)
        for released in list_weights()
        if released.digest_kind == 'git_blob'
    }
    assert set(RELEASED) <= actual


@pytest.mark.parametrize('released', list_weights(), ids=lambda released: f'{released.model}-{released.tag}')
def test_a_record_is_complete_and_true_to_its_network(released):
    assert released.model in list_models()
    assert model_info(released.model).classes == released.outputs == len(released.class_names)
    assert re.fullmatch('[0-9a-f]*', released.digest)
    lengths = {'git_blob': (40,), 'sha256': (0, 8) if released.preprocessing else (64,)}
    assert len(released.digest) in lengths[released.digest_kind]
    assert released.dtype in ('float16', 'float32')
    assert released.size is None or released.size > 0
    assert released.metrics and all(0 < figure < 1 for figure in released.metrics.values())
    assert all(
        text.strip()
        for text in (released.dataset, released.metrics_source, released.recipe, released.source, released.license)
    )
    if released.url is None:
        assert released.state() == 'intact'
    else:
        for address in (released.url, released.mirror or released.url):
            url = urlsplit(address)
            assert url.scheme == 'https' and url.netloc and quote(unquote(url.path)) == url.path


PYTORCH = [released for released in list_weights() if released.preprocessing]


def test_a_pytorch_record_names_its_digest_its_mirror_and_its_preprocessing():
    assert len(PYTORCH) == 86
    for released in PYTORCH:
        assert released.file.endswith(('.pth', '.safetensors'))
        if released.digest:
            assert released.url.endswith(f'-{released.digest}.pth')
        hub = released.mirror if released.digest else released.url
        assert hub == f'https://huggingface.co/timm/{released.aliases[0]}/resolve/main/model.safetensors'
        assert released.tag == released.aliases[0].split('.')[1]
        spec = replace(model_info(released.model).spec, **released.spec_changes())
        values = released.preprocessing
        resized = int(round(values['size'] / values['crop'], 2))  # as timm and torchvision round
        assert short_side(values['size'], spec.crop_ratio) == resized
        assert (spec.interpolation, list(spec.mean)) == (values['interpolation'], values['mean'])
        # Half precision where the size shows it.
        parameters = model_info(released.model).parameters
        assert not released.mebibytes or 1 < released.mebibytes * 2**20 / released.file_size(parameters) < 1.01


@pytest.mark.parametrize('name', sorted({released.model for released in PYTORCH}))
def test_the_default_is_the_most_accurate_at_224_with_a_free_licence(name):
    free = [
        released
        for released in list_weights(name)
        if released.preprocessing['size'] == 224 and released.license in ('Apache-2.0', 'BSD-3-Clause')
    ]
    assert list_weights(name)[0] == min(free, key=lambda released: released.metrics['top1_error'])


def test_tags_and_files_tell_the_checkpoints_apart():
    for what in ('tag', 'file'):
        assert (
            max(collections.Counter((released.model, getattr(released, what)) for released in list_weights()).values())
            == 1
        )


def test_fine_labels_are_the_default():
    assert [released.tag for released in list_weights('cifar_aff_resnet32')] == ['fine', 'coarse']
    assert model_info('cifar_aff_resnext47_32x4d').weights == ('fine', 'coarse')


# A catalogue of small files


def network(name=NAME, seed=0, **options):
    """A network with arbitrary parameters, running statistics included."""
    net = get_model(name, **options)
    net.initialize()
    random = np.random.RandomState(seed)
    for parameter in net._collect_params_with_prefix().values():
        values = random.randn(*parameter.shape) / np.sqrt(np.prod(parameter.shape[1:]) or 1)
        parameter.set_data(mx.nd.array(np.abs(values) + 0.5 if parameter.name.endswith('var') else values))
    return net


def values(net):
    return {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def released(values):
    """Values as the authors' float16 files have them: those of convolutions and dense layers in float16."""
    return {
        name: value.astype('float32' if re.search('gamma|beta|running', name) else 'float16')
        for name, value in values.items()
    }


def write(path, values):
    mx.nd.save(str(path), {name: mx.nd.array(value, dtype=value.dtype) for name, value in values.items()})
    return str(path)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]), name


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Files of the small network: the authors' layout in float16, and in float32 with 4 outputs."""
    top = tmp_path_factory.mktemp('files')
    return SimpleNamespace(
        half=write(top / 'half.params', released(values(network()))),
        four=write(top / 'four.params', values(network(seed=1, classes=4))),
    )


@pytest.fixture()
def server(files, monkeypatch, tmp_path):
    """A server with these files, the catalogue that lists them, and an empty cache."""
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv('MXNET_GLUON_REPO', raising=False)
    monkeypatch.setenv('MXNET_HOME', str(tmp_path / 'home'))
    monkeypatch.setattr(download, 'time', SimpleNamespace(sleep=lambda seconds: None))

    def answer(request):
        path = {'/half': files.half, '/four': files.four}.get(request.path)
        (content(Path(path).read_bytes()) if path else status(404))(request)

    with Server(answer) as server:
        facts = {
            'model': NAME,
            'dataset': 'Fashion-MNIST',
            'metrics': {'accuracy': 0.9},
            'metrics_source': 'a test',
            'recipe': 'none',
            'source': 'a test',
            'license': 'none',
            'size': None,
        }
        records = (
            ReleasedWeights(
                tag='half',
                classes='fashion_mnist',
                outputs=10,
                dtype='float16',
                url=server.address + '/half',
                digest_kind='git_blob',
                digest=digest(files.half),
                **facts,
            ),
            ReleasedWeights(
                tag='four',
                classes='fashion_mnist',
                outputs=4,
                dtype='float32',
                url=server.address + '/four',
                digest_kind='sha256',
                digest=digest(files.four, 'sha256'),
                **facts,
            ),
        )
        monkeypatch.setattr(weights, '_catalog', lambda: records)
        server.records = records
        yield server


def test_pretrained_downloads_the_default_once(server, files, tmp_path):
    for _ in range(2):
        net = get_model(NAME, pretrained=True)
        same(values(net), {name: value.astype('float32') for name, value in released(values(network())).items()})
        assert net.class_names == FASHION_MNIST
    assert server.paths == ['/half']
    cached = tmp_path / 'home' / 'models' / f'{NAME}-{digest(files.half)[:8]}.params'
    assert cached.read_bytes() == Path(files.half).read_bytes()


def test_a_checkpoint_is_had_by_tag_and_by_the_beginning_of_its_digest(server, files):
    short = digest(files.four, 'sha256')[:8]
    for tag in ('four', short):
        same(values(get_model(NAME, pretrained=tag)), values(network(seed=1, classes=4)))
    assert get_model(NAME, pretrained=digest(files.half)[:8]).classes == 10
    assert get_model_file(NAME, tag='four') == get_model_file(NAME, tag=short)
    assert get_model_file(NAME) == get_model_file(NAME, tag='half')
    assert sorted(server.paths) == ['/four', '/half']


def test_root_is_where_the_files_are_kept(server, tmp_path):
    path = Path(get_model_file(NAME, root=tmp_path / 'mine'))
    assert path.parent == tmp_path / 'mine' and path.is_file() and not (tmp_path / 'home').exists()


def test_a_file_put_there_by_hand_needs_no_server(server, files):
    server.answers = [status(500)]
    path = Path(list_weights(NAME)[0].path())
    path.parent.mkdir(parents=True)
    shutil.copy(files.half, path)
    get_model(NAME, pretrained=True)
    assert server.paths == []


def test_a_damaged_cached_file_is_fetched_again(server, files):
    path = Path(get_model_file(NAME))
    path.write_bytes(path.read_bytes()[:-1])
    get_model(NAME, pretrained=True)
    assert path.read_bytes() == Path(files.half).read_bytes()
    assert Path(f'{path}.corrupt').stat().st_size == path.stat().st_size - 1


def test_without_the_server_the_sentence_says_what_to_put_where(server, tmp_path):
    server.answers = [status(404)]
    expected = server.records[0].digest
    with pytest.raises(
        DownloadError, match=f'git_blob {expected} .* {tmp_path}/home/models/{NAME}-{expected[:8]}.params'
    ):
        get_model(NAME, pretrained=True)


def test_a_mirror_is_asked_first_and_the_authors_next(server, files, monkeypatch):
    file = list_weights(NAME)[0].file
    with Server(content(Path(files.half).read_bytes())) as mirror:
        monkeypatch.setenv('MXNET_GLUON_REPO', mirror.address + '/zoo/')
        get_model_file(NAME)
        assert mirror.paths == [f'/zoo/gluon/models/{file}'] and server.paths == []
        mirror.answers = [status(404)]
        get_model_file(NAME, 'four')
        assert len(mirror.paths) == 2 and server.paths == ['/four']


@pytest.mark.parametrize('mirror', ['nonsense', 'file:///tmp', 'http://'])
def test_a_mirror_that_is_none_is_passed_over(server, monkeypatch, mirror):
    monkeypatch.setenv('MXNET_GLUON_REPO', mirror)
    get_model_file(NAME)
    assert server.paths == ['/half']


def test_an_unknown_tag_says_which_there_are(server):
    with pytest.raises(ValueError, match="'fuor' is neither .*; did you mean four. Known: four, half") as caught:
        get_model(NAME, pretrained='fuor')
    assert '\n' not in str(caught.value)


def test_a_network_without_released_parameters_says_so(server):
    with pytest.raises(ValueError, match='No parameters are released for aff_resnet50'):
        get_model('aff_resnet50', pretrained=True)


PATHS = ['no.params', './fine', Path('fine'), '~nobody_of_this_name/x', 'a' * 5000 + '.params']


@pytest.mark.parametrize('path', PATHS, ids=lambda path: str(path)[:20])
def test_a_file_that_is_not_there_says_so(path):
    with pytest.raises(FileNotFoundError, match='There is no parameter file'):
        get_model(NAME, pretrained=path)


# Heads


def test_other_classes_get_a_fresh_head_and_a_log_line(server, caplog):
    net = get_model(NAME, pretrained=True, classes=37)
    actual, whole = values(net), values(get_model(NAME, pretrained=True))
    assert net.classes == 37 and net.class_names is None and actual['output.weight'].shape == (37, 64)
    assert actual['output.weight'].std() > 0 and not actual['output.bias'].any()
    for parameters in (actual, whole):
        del parameters['output.weight'], parameters['output.bias']
    same(actual, whole)
    (line,) = caplog.messages
    assert 'has 10 outputs; the head of' in line and 'is fresh, with 37' in line and '\n' not in line
    assert net(mx.nd.ones((2, 3, 32, 32))).shape == (2, 37)


def test_the_files_own_number_of_classes_is_no_news(server, caplog):
    assert get_model(NAME, pretrained='four').classes == 4
    assert get_model(NAME, pretrained='four', classes=4).classes == 4
    assert caplog.messages == []


# Files


def test_a_path_will_do(files, tmp_path, monkeypatch):
    expected = values(network(seed=1, classes=4))
    same(values(get_model(NAME, pretrained=files.four)), expected)
    same(values(get_model(NAME, pretrained=Path(files.four))), expected)
    shutil.copy(files.four, tmp_path / 'plain')
    monkeypatch.chdir(tmp_path)
    same(values(get_model(NAME, pretrained='plain')), expected)


def test_float16_in_the_file_is_float32_in_the_network(files):
    full, half = network(), get_model(NAME, pretrained=files.half)
    same(values(half), {name: value.astype('float32') for name, value in released(values(full)).items()})
    x = mx.nd.array(np.random.RandomState(0).randn(4, 3, 32, 32))
    np.testing.assert_allclose(half(x).asnumpy(), full(x).asnumpy(), rtol=0.02, atol=0.02)


def test_float32_in_the_file_is_what_the_network_has(files):
    net = get_model(NAME, classes=4)
    net.cast('float16')
    load_parameters(net, files.four)
    same(values(net), released(values(network(seed=1, classes=4))))


def test_a_missing_parameter_is_an_error_unless_told(tmp_path, caplog):
    added = network('fashion_mnist_add_resnet8')
    path = write(tmp_path / 'plain.params', values(added))
    with pytest.raises(ValueError, match='another network: .* is missing; .* and [0-9]+ more') as caught:
        get_model(NAME, pretrained=path)
    assert '\n' not in str(caught.value)
    actual, expected = values(get_model(NAME, pretrained=path, allow_missing=True)), values(added)
    same({name: actual[name] for name in expected}, expected)
    (line,) = caplog.messages
    assert f'lacks {len(actual) - len(expected)} parameters' in line and 'features.2.0.attention' in line
    assert '\n' not in line
    assert all(np.isfinite(value).all() for value in actual.values())


def test_missing_parameters_of_an_initialised_network_stay(tmp_path):
    net, before = network(seed=2), values(network(seed=2))
    expected = values(network('fashion_mnist_add_resnet8'))
    load_parameters(net, write(tmp_path / 'plain.params', expected), allow_missing=True)
    same(values(net), {**before, **expected})


def test_an_extra_parameter_is_an_error_unless_told(tmp_path):
    fused = values(network())
    path = write(tmp_path / 'fused.params', fused)
    with pytest.raises(ValueError, match='another network: .* is unknown'):
        get_model('fashion_mnist_add_resnet8', pretrained=path)
    actual = values(get_model('fashion_mnist_add_resnet8', pretrained=path, ignore_extra=True))
    same(actual, {name: fused[name] for name in actual})


def test_names_in_common_are_needed_even_where_all_may_be_missing(tmp_path):
    path = write(tmp_path / 'other.params', {'a.weight': np.ones(3, 'float32')})
    with pytest.raises(ValueError, match='none of their names'):
        get_model(NAME, pretrained=path, allow_missing=True, ignore_extra=True)


@pytest.mark.parametrize(
    'change, says',
    [
        ({'features.1.weight': np.ones((16, 3, 5, 5), 'float32')}, r'features.1.weight has shape \(16, 3, 5, 5\), not'),
        ({'features.1.weight': np.ones((16, 3, 3), 'float32')}, r'has shape \(16, 3, 3\), not \(16, 3, 3, 3\)'),
        ({'features.1.weight': np.ones((16, 3, 3, 3), 'int32')}, 'holds int32 values'),
        ({'output.weight': np.ones((10, 63), 'float32')}, r'output.weight has shape \(10, 63\), not \(10, 64\)'),
        ({'output.weight': np.ones((7, 64), 'float32')}, r'output.bias has shape \(10,\), not \(7,\)'),
        ({'output.weight': np.ones(10, 'float32')}, r'output.weight has shape \(10,\), not \(10, 64\)'),
    ],
)
def test_a_parameter_that_does_not_fit_leaves_the_network_as_it_was(tmp_path, change, says):
    path = write(tmp_path / 'x.params', {**values(network(seed=1)), **change})
    net = network()
    for load in (lambda: get_model(NAME, pretrained=path), lambda: load_parameters(net, path)):
        with pytest.raises(ValueError, match='another network') as caught:
            load()
        assert '\n' not in str(caught.value)
    with pytest.raises(ValueError, match=says):
        get_model(NAME, pretrained=path)
    same(values(net), values(network()))


@pytest.mark.parametrize('semantics', [False, True])
def test_what_gluon_saves_loads_and_what_is_loaded_gluon_reads(tmp_path, semantics):
    path, net = str(tmp_path / 'x.params'), network()
    with mx.util.np_shape(semantics):
        net.save_parameters(path)
    actual = get_model(NAME, pretrained=path)
    same(values(actual), values(net))
    actual.save_parameters(path)
    again = get_model(NAME)
    again.load_parameters(path)
    same(values(again), values(net))


def test_a_dense_layer_without_its_inputs_takes_them_from_the_file(tmp_path):
    saved, net = nn.Dense(3, in_units=5), nn.Dense(3)
    saved.initialize()
    saved.save_parameters(str(tmp_path / 'x.params'))
    net.initialize()
    load_parameters(net, str(tmp_path / 'x.params'))
    same(values(net), values(saved))


# Files by the parameters' own names


def saved_by_name(net, top):
    """The three kinds of file in which parameters have their own names, by kind."""
    files = {kind: str(top / kind) for kind in ('whole', 'stripped', 'exported-0000.params')}
    net.collect_params().save(files['whole'])
    net.collect_params().save(files['stripped'], strip_prefix=net.prefix)
    net.hybridize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.export(str(top / 'exported'))
    return files


@pytest.mark.parametrize(
    'name, options',
    [(NAME, {'classes': 7}), ('cifar_iaff_resnet8', {}), ('fpn_aff_resnet8', {}), ('unet_aff_resnet8', {})],
)
def test_files_by_the_parameters_own_names_load_whatever_the_prefix(tmp_path, name, options):
    net = network(name, **options)
    for path in saved_by_name(net, tmp_path).values():
        same(values(get_model(name, pretrained=path)), values(net))
        again = get_model(name, prefix='another_', **options)
        again.load_parameters(path)
        same(values(again), values(net))


def test_a_replaced_head_keeps_its_name_in_files_by_name(tmp_path):
    net = network()
    net.reset_classifier(4)
    for path in saved_by_name(net, tmp_path).values():
        same(values(get_model(NAME, pretrained=path)), values(net))


def test_names_are_checked_as_strictly_by_the_parameters_own_names(tmp_path):
    added, fused = network('fashion_mnist_add_resnet8'), network()
    (tmp_path / 'added').mkdir()
    (tmp_path / 'fused').mkdir()
    less, more = saved_by_name(added, tmp_path / 'added'), saved_by_name(fused, tmp_path / 'fused')
    for kind in less:
        with pytest.raises(ValueError, match='another network: .*attention.* is missing'):
            get_model(NAME, pretrained=less[kind])
        with pytest.raises(ValueError, match='another network: .*_aff0_.* is unknown'):
            get_model('fashion_mnist_add_resnet8', pretrained=more[kind])
        actual = values(get_model(NAME, pretrained=less[kind], allow_missing=True))
        same({name: actual[name] for name in values(added)}, values(added))
        actual = values(get_model('fashion_mnist_add_resnet8', pretrained=more[kind], ignore_extra=True))
        same(actual, {name: values(fused)[name] for name in actual})
    with pytest.raises(ValueError, match='another network: .* is missing'):
        get_model('cifar_add_resnet20', pretrained=less['whole'])


def test_the_prefix_is_the_one_that_most_names_have(tmp_path):
    net = network()
    arrays = {
        f'x_{name[len(net.prefix) :]}': parameter.data().asnumpy() for name, parameter in net.collect_params().items()
    }
    path = write(tmp_path / 'x.params', {'other_dense0_bias': np.ones(3, 'float32'), **arrays})
    same(values(get_model(NAME, pretrained=path, ignore_extra=True)), values(net))
    with pytest.raises(ValueError, match='another network: other_dense0_bias is unknown'):
        get_model(NAME, pretrained=path)


# Gluon's own load_parameters


def gluon(net, *args, **options):
    return mx.gluon.Block.load_parameters(net, *args, **options)


CALLS = [
    {},
    {'allow_missing': True},
    {'ignore_extra': True},
    {'allow_missing': True, 'ignore_extra': True},
    {'cast_dtype': True},
    {'cast_dtype': True, 'dtype_source': 'saved'},
    {'ctx': mx.cpu(0)},
    {'ctx': [mx.cpu(1)]},
    {'allow_missing': True, 'ctx': mx.cpu(1)},
]


@pytest.mark.parametrize('initialised', [False, True])
@pytest.mark.parametrize('change', ['none', 'missing', 'extra', 'half', 'shape', 'stripped'])
def test_a_networks_load_parameters_does_as_gluons(tmp_path, change, initialised):
    source = network('fashion_mnist_add_resnet8', seed=3)
    content = values(source)
    if change == 'missing':
        del content['output.bias']
    elif change == 'extra':
        content['a.weight'] = np.ones(3, 'float32')
    elif change == 'half':
        content['output.weight'] = content['output.weight'].astype('float16')
    elif change == 'shape':
        content['output.weight'] = content['output.weight'][:5]
    path = write(tmp_path / 'x.params', content)
    if change == 'stripped':
        source.collect_params().save(path, strip_prefix=source.prefix)
    for call in CALLS:
        outcomes = []
        for load in (gluon, lambda net, *args, **options: net.load_parameters(*args, **options)):
            net = get_model('fashion_mnist_add_resnet8')
            if initialised:
                net.initialize(mx.init.One())
            try:
                load(net, path, **call)
            except (AssertionError, ValueError):
                outcomes.append('refused')
                continue
            outcomes.append(
                {
                    name: (
                        str(parameter.dtype),
                        parameter.list_ctx(),
                        parameter.data(parameter.list_ctx()[0]).asnumpy().tobytes(),
                    )
                    if parameter._data is not None
                    else None
                    for name, parameter in net._collect_params_with_prefix().items()
                }
            )
        assert outcomes[0] == outcomes[1], call


def test_a_networks_load_parameters_is_not_mxnets_reader(tmp_path, monkeypatch):
    path = write(tmp_path / 'x.params', values(network()))
    monkeypatch.setattr(mx.nd, 'load', None)
    net = get_model(NAME)
    net.load_parameters(path)
    same(values(net), values(network()))
    for data in (b'', b'a text', Path(path).read_bytes()[:-1]):
        Path(path).write_bytes(data)
        with pytest.raises(ValueError, match='not a parameter file that Gluon saved, or is damaged'):
            net.load_parameters(path)
    with pytest.raises(ValueError, match="dtype_source must be 'current' or 'saved', got 'file'"):
        net.load_parameters(write(tmp_path / 'y.params', values(network())), dtype_source='file')


def test_one_name_of_a_shared_parameter_is_enough(tmp_path):
    class Shared(nn.HybridSequential):
        def __init__(self):
            super().__init__()
            self.add(nn.Dense(3, in_units=3))
            self.add(nn.Dense(3, in_units=3, params=self[0].params))

    saved, net = Shared(), Shared()
    saved.initialize()
    path = str(tmp_path / 'x.params')
    saved.save_parameters(path, deduplicate=True)
    load_parameters(net, path)
    same(values(net), values(saved))


# GluonCV's files


@pytest.fixture(scope='module')
def gluoncv(tmp_path_factory):
    """GluonCV's resnet50_v1d, and its file."""
    net = resnet50_v1d()
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 33, 33)))
    path = tmp_path_factory.mktemp('gluoncv') / 'resnet50_v1d.params'
    net.save_parameters(str(path))
    yield net, str(path)
    path.unlink()


def test_gluoncvs_resnet_file_is_add_resnets(gluoncv):
    net, path = gluoncv
    x = mx.nd.array(np.random.RandomState(0).randn(1, 3, 65, 65))
    np.testing.assert_allclose(
        get_model('add_resnet50', pretrained=path)(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-4
    )


def test_gluoncvs_resnet_file_by_the_parameters_own_names_is_refused_with_what_to_do(gluoncv, tmp_path):
    gluoncv[0].collect_params().save(str(tmp_path / 'x.params'))
    with pytest.raises(ValueError, match='another network: .* give a file from its save_parameters'):
        get_model('add_resnet50', pretrained=tmp_path / 'x.params')


@pytest.mark.parametrize('name', ['aff_resnet50', 'iaff_resnet50'])
def test_gluoncvs_resnet_file_starts_a_fused_network(gluoncv, caplog, name):
    net, path = gluoncv
    with pytest.raises(ValueError, match='attention.* is missing'):
        get_model(name, pretrained=path)
    fused = get_model(name, pretrained=path, allow_missing=True)
    actual, expected = fused._collect_params_with_prefix(), net._collect_params_with_prefix()
    for parameter in expected:
        assert np.array_equal(actual[parameter].data().asnumpy(), expected[parameter].data().asnumpy()), parameter
    assert all('attention' in parameter for parameter in set(actual) - set(expected))
    (line,) = caplog.messages
    assert 'layer3.0.attention' in line and '(9 blocks)' in line and '\n' not in line
    assert np.isfinite(fused(mx.nd.ones((1, 3, 33, 33))).asnumpy()).all()


# PyTorch's files


@pytest.fixture()
def torch_server(server, tmp_path, monkeypatch):
    """Add a record of a .pth file and its mirror, a .safetensors file, both of which the server has."""
    pytest.importorskip('safetensors')
    net = network(classes=4)
    path = tmp_path / 'mirror.safetensors'
    save_parameters(net, path)
    original = b'a file that only PyTorch reads'
    prefix = hashlib.sha256(original).hexdigest()[:8]
    files = {'/original.pth': original, '/model.safetensors': path.read_bytes()}
    server.answers = [lambda request: (content(files[request.path]) if request.path in files else status(404))(request)]
    record = replace(
        server.records[1],
        tag='tv2',
        url=server.address + '/original.pth',
        digest=prefix,
        aliases=('theirs.tv2', 'V2'),
        mirror=server.address + '/model.safetensors',
        preprocessing={'size': 36, 'crop': 0.95, 'interpolation': 'bicubic', 'mean': [0.5] * 3, 'std': [0.25] * 3},
    )
    records = [record]
    monkeypatch.setattr(weights, '_catalog', lambda: tuple(records))
    monkeypatch.setattr(weights, 'has_torch', lambda: True)
    return SimpleNamespace(server=server, files=files, record=record, records=records, net=net, monkeypatch=monkeypatch)


def test_a_file_is_verified_by_the_first_digits_of_its_digest_and_its_size(torch_server):
    path = Path(torch_server.record.get())
    assert path.name == f'{NAME}-{torch_server.record.digest}.pth' and torch_server.record.state() == 'intact'
    assert path.read_bytes() == torch_server.files['/original.pth']
    assert torch_server.server.paths == ['/original.pth']
    path.unlink()
    torch_server.records[0] = replace(torch_server.record, mirror=None, mebibytes=0.001)
    with pytest.raises(DownloadError, match='gave a file of 30 bytes that is damaged or another'):
        torch_server.records[0].get()
    assert not path.exists()


def test_with_a_wrong_prefix_the_mirror_is_next(torch_server):
    torch_server.files['/original.pth'] = b'another file'
    path = Path(torch_server.record.get())
    assert path.name == 'theirs.tv2.safetensors' and torch_server.record.state() == 'whole'
    assert torch_server.server.paths == ['/original.pth', '/model.safetensors']
    same(values(get_model(NAME, pretrained='tv2')), values(torch_server.net))
    assert len(torch_server.server.paths) == 2, 'the cached mirror is taken'
    weights.remove(NAME)
    torch_server.files['/model.safetensors'] = torch_server.files['/model.safetensors'][:-1]
    with pytest.raises(DownloadError) as caught:
        torch_server.record.get()
    assert f'sha256 {torch_server.record.digest}...' in str(caught.value) and ' Or: theirs' in str(caught.value)
    assert not path.exists()


def test_without_pytorch_the_mirror_is_all_there_is(torch_server):
    torch_server.monkeypatch.setattr(weights, 'has_torch', lambda: False)
    for name in ('theirs.tv2', 'V2', 'tv2', True):
        same(values(get_model(NAME, pretrained=name)), values(torch_server.net))
    assert torch_server.server.paths == ['/model.safetensors']


def test_another_networks_weights_start_a_fused_one(torch_server, caplog):
    torch_server.monkeypatch.setattr(weights, 'has_torch', lambda: False)
    torch_server.records[0] = replace(torch_server.record, model='fashion_mnist_add_resnet8')
    added = network('fashion_mnist_add_resnet8', classes=4)
    path = Path(torch_server.record.path())
    path.parent.mkdir(parents=True, exist_ok=True)
    save_parameters(added, path)
    net = get_model(NAME, pretrained='theirs.tv2', allow_missing=True)
    expected = values(added)
    same({name: values(net)[name] for name in expected}, expected)
    assert 'lacks' in caplog.messages[0]
    with pytest.raises(FileNotFoundError):
        get_model(NAME, pretrained='theirs.tv3')


def test_a_loaded_model_is_described_with_the_preprocessing_of_its_weights(torch_server):
    torch_server.monkeypatch.setattr(weights, 'has_torch', lambda: False)
    spec = load_model(NAME, 'tv2').spec
    assert (spec.input_size, spec.mean, spec.interpolation) == ((3, 36, 36), (0.5,) * 3, 'bicubic')
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (60, 50, 3), np.uint8))
    short = int(36 / 0.95)
    resized = image.resize((short, 60 * short // 50), Image.Resampling.BICUBIC)
    top, left = (resized.height - 36) // 2, (resized.width - 36) // 2
    expected = np.asarray(resized.crop((left, top, left + 36, top + 36)))
    np.testing.assert_array_equal(spec.prepare(image), expected)


# The command line


def run(capsys, *args):
    """Exit status, standard output and standard error of a command."""
    status = main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return status, out, err


def test_download_says_where_the_files_are(server, capsys, tmp_path):
    status, out, err = run(capsys, 'download', NAME.upper(), '--root', tmp_path / 'mine')
    assert (
        status == 0 and err == '' and out.splitlines() == [record.path(tmp_path / 'mine') for record in server.records]
    )
    assert sorted(server.paths) == ['/four', '/half']


def test_download_goes_on_after_a_file_that_cannot_be_had(server, capsys, files):
    server.answers = [status(404), content(Path(files.four).read_bytes())]
    code, out, err = run(capsys, 'download', 'fashion*')
    assert code == 1 and out.splitlines() == [server.records[1].path()] and err.count('\n') == 1 and '404' in err


def test_download_takes_the_default_of_other_libraries_files_or_the_one_that_is_named(torch_server, capsys):
    other = replace(torch_server.record, tag='a1', aliases=('theirs.a1',), mirror=torch_server.server.address + '/no')
    torch_server.records.append(other)
    assert run(capsys, 'download', 'fashion*')[0] == 0 and torch_server.server.paths == ['/original.pth']
    assert run(capsys, 'download', 'theirs.a1')[1].splitlines() == [torch_server.record.path()]


def test_download_of_nothing_says_what_there_is(server, capsys):
    code, out, err = run(capsys, 'download', 'aff_resnet50')
    assert code == 2 and out == '' and f'there are: {NAME}' in err and err.count('\n') == 1


def test_verify_names_the_released_file_and_the_network(server, capsys, files):
    code, out, err = run(capsys, 'verify', files.half, '--model', NAME)
    assert code == 0 and err == '' and 'whole' in out and f'{NAME}, half' in out and f'it fits {NAME}' in out


def test_verify_of_anothers_file(server, capsys, tmp_path):
    path = write(tmp_path / 'mine.params', {'a.weight': np.ones((2, 3), 'float32')})
    code, out, err = run(capsys, 'verify', path)
    assert code == 0 and '1 arrays, 6 values' in out and 'not one of the released files' in out
    code, out, err = run(capsys, 'verify', path, '--model', NAME)
    assert code == 2 and 'another network' in err and err.count('\n') == 1


def test_verify_of_a_damaged_file(server, capsys, files, tmp_path):
    (tmp_path / 'cut.params').write_bytes(Path(files.half).read_bytes()[:-1])
    code, out, err = run(capsys, 'verify', tmp_path / 'cut.params')
    assert code == 2 and out == '' and 'damaged' in err and err.count('\n') == 1


def test_info_says_whether_the_files_are_there_and_right(server, capsys):
    states = []
    path = Path(server.records[0].path())
    for change in (lambda: None, lambda: get_model_file(NAME), lambda: path.write_bytes(b'cut')):
        change()
        _, out, _ = run(capsys, 'info', NAME)
        assert digest_lines(out) == [record.digest for record in server.records]
        states.append(re.findall(rf'^file .*{NAME}-\w+\.params: (\w+)$', out, re.MULTILINE))
    assert states == [['absent', 'absent'], ['intact', 'absent'], ['damaged', 'absent']]


def digest_lines(out):
    return re.findall(r'^(?:git_blob|sha256) +(\w+)$', out, re.MULTILINE)


def test_purge_removes_what_was_downloaded_and_nothing_else(server, capsys):
    path = Path(get_model_file(NAME))
    foreign = [path.with_name(name) for name in ('resnet50_v1d-117a384e.params', f'{NAME}-00000000.params', 'notes')]
    for file in (*foreign, Path(f'{path}.part'), Path(f'{path}.corrupt')):
        file.write_bytes(b'')
    for _ in range(2):
        assert run(capsys, 'purge') == (0, '', '')
        assert sorted(path.parent.iterdir()) == sorted(foreign)


def test_a_shipped_file_that_is_damaged_says_to_install_again(monkeypatch, tmp_path):
    record = ReleasedWeights(NAME, 'x', '', '', 10, 'float32', {}, '', '', '', '', None, None, 'sha256', '0' * 64)
    monkeypatch.setattr(weights, 'HERE', tmp_path)
    for state, data in (('absent', None), ('damaged', b'x')):
        if data:
            (tmp_path / 'released').mkdir()
            (tmp_path / 'released' / record.file).write_bytes(data)
        with pytest.raises(ValueError, match=f'is {state}; install the package again'):
            record.get()


def test_a_shipped_file_is_neither_downloaded_nor_purged(monkeypatch, tmp_path):
    data = b'parameters'
    record = ReleasedWeights(
        NAME, 'x', '', '', 10, 'float32', {}, '', '', '', '', None, None, 'sha256', hashlib.sha256(data).hexdigest()
    )
    monkeypatch.setattr(weights, 'HERE', tmp_path)
    monkeypatch.setattr(weights, '_catalog', lambda: (record,))
    (tmp_path / 'released').mkdir()
    (tmp_path / 'released' / record.file).write_bytes(data)
    weights.remove(NAME, str(tmp_path / 'released'))
    assert Path(get_model_file(NAME, root=tmp_path / 'elsewhere')).read_bytes() == data


# The files that are shipped

SHIPPED = {(record.model, record.tag): record for record in list_weights() if record.url is None}
FASHION_MNIST_DIR = os.environ.get('FASHION_MNIST_DIR', '/usr/share/datasets/fashion-mnist')


def accuracy_of(name, tag, images, target):
    card = model_info(name)
    batches = Batches(images, target, 100, card.spec.mean, card.spec.std)
    return evaluate(get_model(name, pretrained=tag), batches, task=Classification(card.classes))['accuracy']


@pytest.mark.parametrize('name, tag', SHIPPED)
def test_shipped_file_is_small_and_what_its_record_says(name, tag):
    record = SHIPPED[name, tag]
    assert os.path.getsize(record.path()) == record.size < 1_000_000
    assert record.state() == 'intact'
    assert get_model(name, pretrained=tag).class_names == model_info(name).spec.class_names
    log = Path(record.path()).with_suffix('.txt')
    assert f'released/{log.name}' in record.metrics_source
    epochs = [float(value) for value in re.findall(r' val=(\S+)', log.read_text())]
    assert f' the epoch, {1 + epochs.index(max(epochs))}, that is best on' in record.metrics_source
    if '--val-images' not in record.recipe:
        assert max(epochs) == record.metrics['accuracy']


def test_earlier_shipped_files_are_reached_by_their_tag():
    assert model_info('fashion_mnist_add_resnet8').weights == ('30_epochs', 'fashion_mnist')
    assert get_model_file('fashion_mnist_add_resnet8') == get_model_file('fashion_mnist_add_resnet8', '30_epochs')
    assert SHIPPED['fashion_mnist_add_resnet8', 'fashion_mnist'].digest.startswith('426d5d0a')


@pytest.mark.parametrize('name, tag, right', [(*key, right) for key, right in zip(SHIPPED, (473, 472, 475, 467, 469))])
def test_shipped_network_names_500_test_images_as_well_as_it_did(name, tag, right):
    data = np.load(Path(__file__).parent / 'data' / 'fashion_mnist_test.npz')
    assert accuracy_of(name, tag, resize(data['images']), data['labels']) == pytest.approx(right / 500, abs=1e-9)


@pytest.mark.skipif(not os.path.isdir(FASHION_MNIST_DIR), reason='Fashion-MNIST is not in FASHION_MNIST_DIR')
@pytest.mark.parametrize('name, tag', SHIPPED)
def test_shipped_network_has_its_stated_accuracy(name, tag):
    stated = SHIPPED[name, tag].metrics['accuracy']
    assert round(accuracy_of(name, tag, *fashion_mnist(FASHION_MNIST_DIR).test), 4) == stated
