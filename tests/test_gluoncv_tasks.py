"""GluonCV's segmenters, detectors and utilities on our networks."""

from functools import partial

import gluoncv
import matplotlib
import mxnet as mx
import numpy as np
import pytest
from gluoncv.loss import MixSoftmaxCrossEntropyLoss, SSDMultiBoxLoss
from gluoncv.model_zoo.rcnn.faster_rcnn import get_faster_rcnn
from gluoncv.model_zoo.segbase import MultiEvalModel
from gluoncv.model_zoo.ssd import get_ssd
from gluoncv.model_zoo.ssd.target import SSDTargetGenerator
from gluoncv.nn.feature import FeatureExpander, FPNFeatureExpander
from gluoncv.utils import LRScheduler, LRSequential, TrainingHistory, viz
from gluoncv.utils.metrics import SegmentationMetric, VOC07MApMetric
from mxnet.gluon import nn
from reference import REPEATED, error, filled, parameters, tensor, tiered

from model_zoo import (
    feature_layers,
    get_model,
    list_models,
    register_with_gluoncv,
    segmentation_model,
    unregister_from_gluoncv,
)

matplotlib.use('Agg')
quickly_filled = partial(filled, random=np.random.default_rng)
pytestmark = pytest.mark.filterwarnings('ignore:.*already initialized:UserWarning')


@pytest.fixture(autouse=True)
def registered():
    register_with_gluoncv()
    yield
    unregister_from_gluoncv()


def initialized(net):
    net.initialize(mx.init.Xavier())
    return net


# Segmentation


@pytest.mark.parametrize(
    'name, stride', [('fcn_aff_resnet50', 8), ('psp_iaff_resnet50', 16), ('deeplab_aff_resnet50', 8)]
)
def test_segmenter_learns_a_step_and_is_evaluated(name, stride):
    net = initialized(segmentation_model(name.upper(), 3, output_stride=stride, crop_size=32))
    net.hybridize()
    assert isinstance(net, getattr(gluoncv.model_zoo, {'f': 'FCN', 'p': 'PSPNet', 'd': 'DeepLabV3'}[name[0]]))
    images, masks = tensor((2, 3, 32, 32)), mx.nd.array(np.random.randint(-1, 3, (2, 32, 32)))
    trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.01})
    before = parameters(net)['layer4.2.conv3.weight'].data().copy()
    with mx.autograd.record():
        outputs = net(images)
        value = MixSoftmaxCrossEntropyLoss(aux=True)(*outputs, masks)
    value.backward()
    trainer.step(2)
    assert [y.shape for y in outputs] == [(2, 3, 32, 32)] * 2
    assert error(parameters(net)['layer4.2.conv3.weight'].data(), before) > 0
    metric = SegmentationMetric(3)
    metric.update(masks, net.evaluate(images))
    assert all(0 <= figure <= 1 for figure in metric.get())
    # GluonCV's FCN keeps the size that it was traced with.
    net.hybridize(False)
    assert net.predict(tensor((1, 3, 40, 48))).shape == (1, 3, 40, 48)
    assert net.base_forward(tensor((1, 3, 64, 64)))[1].shape[2:] == (64 // stride, 64 // stride)


def test_segmenter_starts_from_a_trained_backbone_and_has_its_stages(tmp_path):
    backbone, path = get_model('aff_resnet50', fusion='iaff'), str(tmp_path / 'trained.params')
    quickly_filled(backbone).save_parameters(path)
    net = segmentation_model('fcn_aff_resnet50', 2, aux=False, crop_size=64, pretrained_base=path, fusion='iaff')
    dilated = get_model('aff_resnet50', fusion='iaff', dilated=True, pretrained=path)
    x = tensor((1, 3, 64, 64))
    for actual, expected in zip(net.base_forward(x), dilated.stage_outputs(x, [3, 4])):
        assert error(actual, expected) == 0
    assert len(net(x)) == 1


@pytest.mark.parametrize('head', ['fcn', 'psp', 'deeplab'])
def test_every_head_stands_on_a_resnext_with_its_parameters(head, tmp_path):
    options, path, x = {'start_stage': 4, 'deep_stem': head != 'psp'}, str(tmp_path / 'net'), tensor((1, 3, 32, 32))
    backbone = get_model('iaff_resnext50_32x4d', dilated=True, **options)
    quickly_filled(backbone).save_parameters(path)
    net = segmentation_model(f'{head}_iaff_resnext50_32x4d', 2, crop_size=32, pretrained_base=path, **options)
    for actual, expected in zip(net.base_forward(x), backbone.stage_outputs(x, [3, 4])):
        assert error(actual, expected) == 0
    assert [y.shape for y in net(x)] == [(1, 2, 32, 32)] * 2
    net.hybridize()
    again = segmentation_model(f'{head}_iaff_resnext50_32x4d', 2, crop_size=32, **options)
    file = str(tmp_path / 'whole')
    net.save_parameters(file)
    again.load_parameters(file)
    assert error(net(x)[0], again(x)[0]) <= 1e-5


def test_gluoncvs_own_classes_take_our_backbones_by_name_and_keep_theirs():
    resnext = gluoncv.model_zoo.FCN(2, backbone='iaff_resnext50_32x4d', pretrained_base=False, crop_size=32)
    assert resnext.layer4[0].body[3]._kwargs['dilate'] == (2, 2)
    ours = gluoncv.model_zoo.FCN(2, backbone='iaff_resnet50', pretrained_base=False, crop_size=32)
    assert type(ours.layer3[0].attention).__name__ == 'IAFF' and ours.layer4[0].conv2._kwargs['dilate'] == (2, 2)
    theirs = gluoncv.model_zoo.FCN(2, backbone='resnet50', pretrained_base=False, crop_size=32)
    assert type(theirs.layer3[0]).__module__.startswith('gluoncv')
    with pytest.raises(ValueError, match='aff_resnet49'):
        gluoncv.model_zoo.FCN(2, backbone='aff_resnet49', pretrained_base=False)


def test_segmenter_is_evaluated_at_several_scales():
    net = initialized(segmentation_model('fcn_aff_resnet50', 2, base_size=32, crop_size=32))
    (y,) = MultiEvalModel(net, 2, [mx.cpu()], scales=[1.0, 1.5]).parallel_forward([tensor((3, 32, 40))])
    assert y[0].shape[-2:] == (32, 40)


@pytest.mark.parametrize(
    'name, options, sentence',
    [
        ('mask_aff_resnet50', {}, "Unknown segmentation head 'mask'"),
        ('fcn_aff_resnet49', {}, 'did you mean'),
        ('fcn_cifar_aff_resnet8', {}, 'needs a ResNet or ResNeXt for ImageNet'),
        ('fcn_aff_resnet18', {}, 'with bottlenecks, such as'),
        ('fcn_cifar_aff_resnext38_32x4d', {}, 'needs a ResNet or ResNeXt for ImageNet'),
        ('fcn_aff_resnet50', {'output_stride': 32}, 'output_stride must be 8 or 16'),
        (
            'psp_aff_resnet50',
            {'crop_size': 40, 'output_stride': 16},
            'crop_size must be a multiple of the output_stride',
        ),
        ('fcn_aff_resnet50', {'nclass': 0}, 'nclass must be a positive whole number'),
        ('fcn_aff_resnet50', {'fuse': 'aff'}, "Unknown aff_resnet50 option 'fuse'"),
        ('fcn_aff_resnext50_32x4d', {'fuse': 'aff'}, "Unknown aff_resnext50_32x4d option 'fuse'"),
        ('fcn_ge_theta_plus_resnet101', {}, 'give input_size=480'),
        ('fcn_add_resnext50_32x4d', {'pretrained_base': True}, 'No parameters are released for add_resnext50'),
    ],
)
def test_what_segmentation_model_cannot_build_is_said_in_a_sentence(name, options, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        segmentation_model(name, **{'nclass': 2, **options})
    assert '\n' not in str(refused.value)


@pytest.mark.parametrize('name', ['add_resnet50', 'iaff_resnext50_32x4d'])
@pytest.mark.parametrize('dilated, sides', [(False, [8, 4, 2]), (16, [8, 4, 4]), (8, [8, 8, 8]), (True, [8, 8, 8])])
def test_dilated_says_the_output_stride(name, dilated, sides):
    net = initialized(get_model(name, dilated=dilated))
    assert [y.shape[2] for y in net.stage_outputs(tensor((1, 3, 64, 64)), [2, 3, 4])] == sides
    with pytest.raises(ValueError, match='dilated must be False, True, 8 or 16, got 4.'):
        get_model(name, dilated=4)


def test_stride_16_has_the_values_of_the_plain_network_where_they_overlap():
    # Dilation samples what the stride would: every second pixel of the dilated map is the strided map's.
    options = {'avg_down': False, 'fusion': 'add'}
    undilated, dilated = (quickly_filled(get_model('aff_resnet50', dilated=d, **options)) for d in (False, 16))
    x = tensor((1, 3, 64, 64))
    # The first block: in those behind it 'same' padding differs at the border.
    actual, expected = (net.layer4[0](net.stage_outputs(x, [3])[0]) for net in (dilated, undilated))
    assert error(actual[:, :, ::2, ::2], expected) <= 1e-5


# Detection


@pytest.mark.parametrize(
    'name',
    [
        'iaff_resnet50',
        'iaff_resnext50_32x4d',
        'cifar_aff_resnet8',
        'cifar_add_resnet8',
        'cifar_iaff_inception_resnet8',
        'unet_aff_resnet8',
    ],
)
def test_feature_layers_are_the_maps_of_the_stages(name):
    net, x = quickly_filled(get_model(name)), tensor((1, 3, 32, 32))
    layers = feature_layers(name)
    expander = FeatureExpander(net, layers, num_filters=[8])
    expander.collect_params('expand_.*').initialize()
    actual, expected = expander(x), net.stage_outputs(x, range(1, 1 + len(layers)))
    assert len(actual) == len(expected) + 1
    for a, b in zip(actual, expected):
        assert error(a, b) <= 1e-5


@pytest.mark.parametrize('name', tiered(list_models(), quick=list_models(exclude=REPEATED)))
def test_feature_layers_are_layers_of_every_network(name):
    net = get_model(name, **({'input_size': 32} if name.startswith(('aa_', 'ge_')) else {}))
    layers = feature_layers(name, **({'input_size': 32} if name.startswith(('aa_', 'ge_')) else {}))
    outputs = net(mx.sym.var('data')).get_internals().list_outputs()
    assert len(layers) == len(net.stages()) - 1
    assert all(f'{net.prefix}{layer}_output' in outputs for layer in layers)


def ssd(**options):
    return get_ssd(
        'aff_resnet50',
        64,
        features=feature_layers('aff_resnet50')[2:],
        filters=[64],
        sizes=[8, 16, 32, 48],
        ratios=[[1, 2, 0.5]] * 3,
        steps=[16, 32, 64],
        classes=['cat', 'dog'],
        dataset='mine',
        pretrained_base=False,
        **options,
    )


def test_ssd_trains_a_step_and_detects():
    net, x = ssd(), tensor((2, 3, 64, 64))
    # An initializer of one's own would be for the vectors, too, that GluonCV's expander adds.
    net.initialize()
    trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.001})
    truth = mx.nd.array([[[8, 8, 40, 40]]] * 2), mx.nd.array([[[0]], [[1]]])
    with mx.autograd.record():
        scores, boxes, anchors = net(x)
        with mx.autograd.pause():
            targets = SSDTargetGenerator(negative_mining_ratio=-1)(anchors, None, *truth)
        total, _, _ = SSDMultiBoxLoss()(scores, boxes, *targets[:2])
    mx.autograd.backward(total)
    key = [key for key in parameters(net) if 'layer4' in key and key.endswith('conv0_weight')][0]
    before = parameters(net)[key].data().copy()
    trainer.step(2)
    assert np.isfinite(total[0].asnumpy()).all() and error(parameters(net)[key].data(), before) > 0

    # Larger and not square, and after set_nms, as GluonCV's tests have it.
    for size, post_nms in (((64, 64), 100), ((64, 96), 50)):
        net.set_nms(nms_thresh=0.3, nms_topk=200, post_nms=post_nms)
        ids, scores, boxes = net(tensor((1, 3, *size)))
        assert (ids.shape, boxes.shape) == ((1, post_nms, 1), (1, post_nms, 4))
    metric = VOC07MApMetric(class_names=net.classes)
    metric.update(boxes, ids, scores, truth[0][:1], truth[1][:1])
    assert metric.get()[0][-1] == 'mAP'
    viz.plot_bbox(
        np.zeros((64, 96, 3), 'uint8'), boxes[0].clip(0, 96), scores[0], ids[0], thresh=0, class_names=net.classes
    )


def test_ssd_passes_norm_and_pretrained_base_on_to_the_backbone(tmp_path):
    path, made = str(tmp_path / 'base.params'), []

    class Counted(nn.BatchNorm):
        def __init__(self, **kwargs):
            made.append(kwargs)
            super().__init__(**kwargs)

    base = quickly_filled(get_model('aff_resnet50'))
    base.save_parameters(path)
    with pytest.raises(FileNotFoundError):
        FeatureExpander('aff_resnet50', feature_layers('aff_resnet50'), [8], pretrained=path + 'x')
    features = FeatureExpander(
        'aff_resnet50',
        feature_layers('aff_resnet50'),
        [8],
        pretrained=path,
        norm_layer=Counted,
        norm_kwargs={'epsilon': 1e-5},
    )
    assert len(made) == sum(key.endswith('gamma') for key in parameters(base))
    features.collect_params('expand_.*').initialize()
    x = tensor((1, 3, 32, 32))
    assert error(features(x)[3], base.stage_outputs(x, [4])[0]) <= 1e-5


def faster_rcnn(name):
    features = FPNFeatureExpander(
        network=get_model(name, use_global_stats=True), outputs=feature_layers(name), num_filters=[32] * 4, use_p6=True
    )
    box_features = nn.HybridSequential()
    box_features.add(nn.Dense(32), nn.Activation('relu'))
    return get_faster_rcnn(
        name='fpn',
        dataset='mine',
        features=features,
        top_features=None,
        classes=['cat', 'dog'],
        box_features=box_features,
        short=64,
        max_size=96,
        min_stage=2,
        max_stage=6,
        train_patterns='.*dense|.*rpn|P|.*layer(2|3|4)_.*conv',
        roi_mode='pool',  # on a CPU MXNet's ROIAlign leaves what belongs to other levels of a pyramid unwritten
        roi_size=(7, 7),
        strides=(4, 8, 16, 32, 64),
        clip=4.14,
        rpn_channel=32,
        scales=(2, 4, 8, 16, 32),
        alloc_size=(32, 32),
        rpn_train_pre_nms=200,
        rpn_train_post_nms=50,
        rpn_test_pre_nms=100,
        rpn_test_post_nms=20,
        rpn_min_size=1,
        num_sample=16,
        max_num_gt=5,
    )


def test_faster_rcnn_with_a_pyramid_on_iaff_resnet50_in_both_modes():
    net, x = faster_rcnn('iaff_resnet50'), tensor((1, 3, 64, 96))
    net.initialize()
    ids, scores, boxes = net(x)
    assert ids.shape[::2] == scores.shape[::2] == (1, 1) and boxes.shape[::2] == (1, 4)

    trained = net.collect_train_params()
    assert any('layer4' in name and 'iaff' in name for name in trained)
    assert not any('layer1' in name for name in trained)
    trainer = mx.gluon.Trainer(trained, 'sgd', {'learning_rate': 0.001})
    statistics = {name: p.data().copy() for name, p in net.collect_params('.*running').items()}
    with mx.autograd.record():
        actual = net(x, mx.nd.array([[[8, 8, 60, 60]]]), mx.nd.array([[[1]]]))
        scores, boxes, targets, box_targets, box_masks = actual[0], actual[1], actual[8], actual[9], actual[10]
        value = (
            mx.gluon.loss.SoftmaxCrossEntropyLoss()(scores.reshape((-3, 0)), targets.reshape((-1,))).mean()
            + (mx.nd.smooth_l1(boxes - box_targets) * box_masks).mean()
            + actual[5].mean()
            + actual[6].mean()
        )
    value.backward()
    weight = trained[[name for name in trained if 'layer4' in name][0]]
    before = weight.data().copy()
    trainer.step(1)
    assert scores.shape == (1, 16, 3)
    assert value.asscalar() == pytest.approx(np.log(3), abs=0.05), 'untrained, two categories and the background'
    assert error(weight.data(), before) > 0
    assert statistics
    for name, before in statistics.items():
        np.testing.assert_array_equal(net.collect_params()[name].data().asnumpy(), before.asnumpy())


# Utilities


def test_schedule_history_and_pictures(tmp_path):
    net = initialized(get_model('cifar_aff_resnet8', width=1, classes=2))
    schedule = LRSequential(
        [
            LRScheduler('linear', base_lr=0, target_lr=0.1, nepochs=1, iters_per_epoch=2),
            LRScheduler('cosine', base_lr=0.1, nepochs=2, iters_per_epoch=2),
        ]
    )
    trainer = mx.gluon.Trainer(net.collect_params(), 'nag', {'lr_scheduler': schedule})
    history, accuracy, labels = TrainingHistory(['error']), mx.metric.Accuracy(), mx.nd.array([0, 1, 0, 1])
    rates = []
    for _ in range(4):
        with mx.autograd.record():
            logits = net(tensor((4, 3, 16, 16)))
            value = mx.gluon.loss.SoftmaxCrossEntropyLoss()(logits, labels)
        value.backward()
        trainer.step(4)
        accuracy.update(labels, logits)
        history.update([1 - accuracy.get()[1]])
        rates.append(trainer.learning_rate)
    assert max(rates) <= 0.1 and rates[-1] < max(rates)
    history.plot(save_path=str(tmp_path / 'history.png'))
    assert (tmp_path / 'history.png').stat().st_size > 0

    masks = segmentation_model('fcn_aff_resnet50', 3, crop_size=32)
    classes = initialized(masks).predict(tensor((1, 3, 32, 32))).argmax(axis=1)[0].asnumpy()
    assert viz.get_color_pallete(classes, 'pascal_voc').size == (32, 32)


def test_gluoncvs_way_to_a_new_head_works_on_every_host():
    for name in ('aff_resnet50', 'iaff_resnext50_32x4d', 'cifar_aff_resnet8'):
        net, x = initialized(get_model(name)), tensor((2, 3, 32, 32))
        with net.name_scope():
            net.output = nn.Dense(23)
        net.output.initialize(mx.init.Xavier())
        net.hybridize()
        trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.1})
        with mx.autograd.record():
            y = net(x)
        y.backward()
        trainer.step(2)
        assert y.shape == (2, 23) and getattr(net, net.head_name) is net.output
