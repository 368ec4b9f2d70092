"""GluonCV itself on this Python and NumPy: one network of each of its families, its metrics, its transforms."""

import warnings

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import get_model
from gluoncv.utils import metrics

SMALL, LARGE = (1, 3, 64, 64), (1, 3, 224, 224)
CLASSIFIERS = {
    'alexnet': LARGE,
    'vgg11': SMALL,
    'densenet121': LARGE,
    'squeezenet1.0': LARGE,
    'inceptionv3': (1, 3, 299, 299),
    'googlenet': LARGE,
    'resnet18_v1': SMALL,
    'resnet18_v2': SMALL,
    'resnet18_v1b': SMALL,
    'resnet50_v1d': SMALL,
    'resnext50_32x4d': SMALL,
    'se_resnext50_32x4d': SMALL,
    'se_resnet18_v1': SMALL,
    'senet_154': LARGE,
    'mobilenet0.25': SMALL,
    'mobilenetv2_0.25': SMALL,
    'mobilenetv3_small': SMALL,
    'darknet53': SMALL,
    'xception': (1, 3, 299, 299),
    'nasnet_4_1056': LARGE,
    'hrnet_w18_small_v1_c': LARGE,
    'resnest14': LARGE,
    'cifar_resnet20_v1': (1, 3, 32, 32),
    'cifar_wideresnet16_10': (1, 3, 32, 32),
    'cifar_resnext29_16x64d': (1, 3, 32, 32),
    'cifar_residualattentionnet56': (1, 3, 32, 32),
}
OTHERS = {
    'ssd_300_vgg16_atrous_voc': (1, 3, 300, 300),
    'ssd_512_mobilenet1.0_voc': (1, 3, 256, 256),
    'yolo3_mobilenet1.0_voc': (1, 3, 96, 96),
    'faster_rcnn_resnet50_v1b_voc': (1, 3, 128, 128),
    'mask_rcnn_resnet18_v1b_coco': (1, 3, 192, 192),
    'center_net_resnet18_v1b_voc': (1, 3, 128, 128),
    'fcn_resnet50_ade': (1, 3, 480, 480),
    'deeplab_resnet50_ade': (1, 3, 480, 480),
    'psp_resnet50_ade': (1, 3, 480, 480),
    'simple_pose_resnet18_v1b': (1, 3, 256, 192),
    'mobile_pose_mobilenet1.0': (1, 3, 256, 192),
    'i3d_resnet50_v1_kinetics400': (1, 3, 8, 64, 64),
}


def arrays(output):
    return [array for part in output for array in arrays(part)] if isinstance(output, (list, tuple)) else [output]


@pytest.mark.slow
@pytest.mark.parametrize('name, shape', [*CLASSIFIERS.items(), *OTHERS.items()])
def test_a_network_of_each_family_computes(name, shape):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        net = get_model(name, pretrained=False, **({} if name in CLASSIFIERS else {'pretrained_base': False}))
        net.initialize(mx.init.Xavier() if name in CLASSIFIERS else mx.init.Normal(0.01))
        net.hybridize()
        actual = arrays(net(mx.nd.random.uniform(shape=shape)))
    assert actual[0].shape[0] == 1
    for array in actual:
        assert np.isfinite(array.asnumpy()).all()


def test_metrics_count_as_they_should():
    metric = metrics.SegmentationMetric(3)
    scores = mx.nd.one_hot(mx.nd.array([[[0, 1], [2, 2]]]), 3).transpose((0, 3, 1, 2))
    metric.update(mx.nd.array([[[0, 1], [2, 1]]]), scores)
    accuracy, mean_iou = metric.get()
    assert (accuracy, round(mean_iou, 6)) == (0.75, round((1 + 1 / 2 + 1 / 2) / 3, 6))
    detection = metrics.VOC07MApMetric(iou_thresh=0.5, class_names=('a', 'b'))
    boxes = mx.nd.array([[[0, 0, 10, 10], [20, 20, 30, 30]]])
    detection.update(
        boxes, mx.nd.array([[0, 1]]), mx.nd.array([[0.9, 0.8]]), boxes, mx.nd.array([[0, 1]]), mx.nd.array([[0, 0]])
    )
    assert [round(value, 6) for value in detection.get()[1]] == [1, 1, 1]


@pytest.mark.filterwarnings('ignore')
def test_presets_prepare_images():
    from gluoncv.data.transforms import presets

    picture = mx.nd.array(np.random.RandomState(0).randint(0, 256, (80, 60, 3)), dtype='uint8')
    assert presets.imagenet.transform_eval(picture).shape == (1, 3, 224, 224)
    boxes = np.array([[5, 5, 40, 50, 0]], np.float64)
    data, label = presets.ssd.SSDDefaultTrainTransform(64, 64)(picture, boxes)
    assert data.shape == (3, 64, 64) and label.shape[1] == 5
    data, label = presets.yolo.YOLO3DefaultTrainTransform(64, 64)(picture, boxes)
    assert data.shape == (3, 64, 64)
