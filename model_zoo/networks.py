"""The networks by name: a literal row for each, with its numbers of parameters and multiply-adds."""

from __future__ import annotations

from typing import Callable, NamedTuple

from gluon_aff.spec import ModelSpec

from .datasets import CIFAR100, FASHION_MNIST, IMAGENET, STOP_SIGN
from .hosts.attention_resnet import (
    AAResNet,
    ECAResNet,
    ECAResNet18,
    ECAResNet50,
    GEResNet,
    LIPResNet,
    SEResNet,
    SKResNet,
)
from .hosts.cifar_resnet import CifarResNet
from .hosts.cifar_resnext import CifarResNeXt
from .hosts.fpn import FPN
from .hosts.inception import InceptionResNet
from .hosts.resnet import ResNet, WideResNet
from .hosts.resnext import ResNeXt
from .hosts.unet import UNet

__all__ = ['TABLE', 'Networks']


class Networks(NamedTuple):
    """Networks of one class for one data set.

    Attributes
    ----------
    builder : callable
        Takes the layers of each stage, and options by keyword.
    family, source : str
        Of the listings, and the publication that the networks are from.
    dataset : ModelSpec
    rows : tuple of tuple
        Name, layers of each stage, options, trainable parameters, and multiply-adds for one image of the data set's
        input size.
    """

    builder: Callable
    family: str
    dataset: ModelSpec
    source: str
    rows: tuple


V1B = {'fusion': 'add', 'deep_stem': False, 'avg_down': False}
BASIC = {'bottleneck': False}
BASIC_V1B = {**V1B, **BASIC}
# As in the paper's networks of basic blocks and in the authors' PyTorch code: attention in all stages, reduction 4.
BASIC_FUSED = {**BASIC, 'reduction': 4, 'start_stage': 1}
BASIC_FUSED_V1B = {**BASIC_V1B, **BASIC_FUSED}

# The counts are recomputed by a test.
# fmt: off
TABLE = (
    Networks(ResNet, 'ResNet', IMAGENET, "the authors' PyTorch code, with the stem and shortcuts of v1d", (
        ('add_resnet18', (2, 2, 2, 2), {**BASIC, 'fusion': 'add'}, 11_708_744, 2_053_713_920),
        ('add_resnet34', (3, 4, 6, 3), {**BASIC, 'fusion': 'add'}, 21_816_904, 3_903_401_984),
        ('aff_resnet18', (2, 2, 2, 2), {**BASIC_FUSED, 'fusion': 'aff'}, 12_419_464, 2_105_442_304),
        ('aff_resnet34', (3, 4, 6, 3), {**BASIC_FUSED, 'fusion': 'aff'}, 23_102_696, 4_006_791_168),
        ('iaff_resnet18', (2, 2, 2, 2), {**BASIC_FUSED, 'fusion': 'iaff'}, 13_130_184, 2_157_170_688),
        ('iaff_resnet34', (3, 4, 6, 3), {**BASIC_FUSED, 'fusion': 'iaff'}, 24_388_488, 4_110_180_352),
    )),
    Networks(ResNet, 'ResNet', IMAGENET, "the authors' PyTorch code", (
        ('aff_resnet18_v1b', (2, 2, 2, 2), {**BASIC_FUSED_V1B, 'fusion': 'aff'}, 12_400_232, 1_865_801_728),
        ('aff_resnet34_v1b', (3, 4, 6, 3), {**BASIC_FUSED_V1B, 'fusion': 'aff'}, 23_083_464, 3_767_150_592),
        ('iaff_resnet18_v1b', (2, 2, 2, 2), {**BASIC_FUSED_V1B, 'fusion': 'iaff'}, 13_110_952, 1_917_530_112),
        ('iaff_resnet34_v1b', (3, 4, 6, 3), {**BASIC_FUSED_V1B, 'fusion': 'iaff'}, 24_369_256, 3_870_539_776),
    )),
    Networks(ResNet, 'ResNet', IMAGENET, 'He et al., CVPR 2016; resnet18 and resnet34 of torchvision', (
        ('resnet18', (2, 2, 2, 2), BASIC_V1B, 11_689_512, 1_814_073_344),
        ('resnet34', (3, 4, 6, 3), BASIC_V1B, 21_797_672, 3_663_761_408),
    )),
    Networks(WideResNet, 'ResNet', IMAGENET, 'Zagoruyko and Komodakis, BMVC 2016; torchvision', (
        ('wide_resnet50_2', (3, 4, 6, 3), V1B, 68_883_240, 11_398_021_120),
        ('wide_resnet101_2', (3, 4, 23, 3), V1B, 126_886_696, 22_753_050_624),
    )),
    Networks(ResNeXt, 'ResNeXt', IMAGENET, 'Xie et al., CVPR 2017; timm and torchvision', (
        ('resnext50_32x4d', (3, 4, 6, 3), V1B, 25_028_904, 4_230_479_872),
        ('resnext101_32x4d', (3, 4, 23, 3), V1B, 44_177_704, 7_969_996_800),
        ('resnext101_32x8d', (3, 4, 23, 3), {**V1B, 'bottleneck_width': 8}, 88_791_336, 16_414_015_488),
        ('resnext101_64x4d', (3, 4, 23, 3), {**V1B, 'cardinality': 64}, 83_455_272, 15_460_270_080),
    )),
    Networks(ResNeXt, 'ResNeXt', IMAGENET, 'Xie et al., CVPR 2017, with the stem and shortcuts of v1d; timm', (
        ('resnext50d_32x4d', (3, 4, 6, 3), {'fusion': 'add', 'stem_width': 32}, 25_048_136, 4_470_120_448),
    )),
    Networks(SEResNet, 'SE-ResNet', IMAGENET, 'Hu et al., CVPR 2018, with the basic blocks of timm', (
        ('se_resnet18', (2, 2, 2, 2), BASIC_V1B, 11_779_624, 1_814_161_408),
        ('se_resnet34', (3, 4, 6, 3), BASIC_V1B, 21_960_416, 3_663_920_128),
    )),
    Networks(ECAResNet18, 'ECA-Net', IMAGENET, "Wang et al., CVPR 2020; the authors' eca_resnet18", (
        ('eca_resnet18', (2, 2, 2, 2), BASIC_V1B, 11_689_556, 1_814_085_760),
    )),
    Networks(ECAResNet, 'ECA-Net', IMAGENET, "Wang et al., CVPR 2020; the authors' eca_resnet34", (
        ('eca_resnet34', (3, 4, 6, 3), BASIC_V1B, 21_797_744, 3_663_781_952),
    )),
    Networks(ECAResNet50, 'ECA-Net', IMAGENET, "Wang et al., CVPR 2020; the authors' eca_resnet50", (
        ('eca_resnet50', (3, 4, 6, 3), V1B, 25_557_112, 4_089_270_528),
    )),
    Networks(SKResNet, 'SKNet', IMAGENET, 'Li et al., CVPR 2019, with the basic blocks of timm', (
        ('sk_resnet18', (2, 2, 2, 2), BASIC_V1B, 11_958_056, 1_814_337_536),
        ('sk_resnet34', (3, 4, 6, 3), BASIC_V1B, 22_282_376, 3_664_237_568),
    )),
    Networks(ResNet, 'ResNet', IMAGENET, 'AFF paper, section 4; host: resnet50_v1d of GluonCV', (
        ('add_resnet50', (3, 4, 6, 3), {'fusion': 'add'}, 25_576_264, 4_328_824_832),
        ('aff_resnet50', (3, 4, 6, 3), {'fusion': 'aff'}, 30_373_192, 4_562_395_136),
        ('iaff_resnet50', (3, 4, 6, 3), {'fusion': 'iaff'}, 35_170_120, 4_795_965_440),
    )),
    Networks(ResNet, 'ResNet', IMAGENET, 'AFF paper, section 4; host: resnet101_v1d of GluonCV', (
        ('add_resnet101', (3, 4, 23, 3), {'fusion': 'add'}, 44_568_392, 8_041_046_016),
        ('aff_resnet101', (3, 4, 23, 3), {'fusion': 'aff'}, 53_932_744, 8_713_576_448),
        ('iaff_resnet101', (3, 4, 23, 3), {'fusion': 'iaff'}, 63_297_096, 9_386_106_880),
    )),
    Networks(ResNet, 'ResNet', IMAGENET, 'AFF paper, section 4; host: resnet152_v1d of GluonCV', (
        ('add_resnet152', (3, 8, 36, 3), {'fusion': 'add'}, 60_212_040, 11_753_267_200),
        ('aff_resnet152', (3, 8, 36, 3), {'fusion': 'aff'}, 73_069_128, 12_761_473_024),
        ('iaff_resnet152', (3, 8, 36, 3), {'fusion': 'iaff'}, 85_926_216, 13_769_678_848),
    )),
    Networks(ResNet, 'ResNet', IMAGENET, 'He et al., CVPR 2016; host: resnet50_v1b of GluonCV', (
        ('resnet50', (3, 4, 6, 3), V1B, 25_557_032, 4_089_184_256),
    )),
    Networks(ResNet, 'ResNet', IMAGENET, 'He et al., CVPR 2016; host: resnet101_v1b of GluonCV', (
        ('resnet101', (3, 4, 23, 3), V1B, 44_549_160, 7_801_405_440),
    )),
    Networks(ResNeXt, 'ResNeXt', IMAGENET, 'AFF paper, section 4; host: ResNext of GluonCV with the deep stem', (
        ('add_resnext50_32x4d', (3, 4, 6, 3), {'fusion': 'add'}, 25_156_776, 5_598_478_336),
        ('add_resnext101_32x4d', (3, 4, 23, 3), {'fusion': 'add'}, 44_305_576, 9_337_995_264),
        ('aff_resnext50_32x4d', (3, 4, 6, 3), {'fusion': 'aff'}, 29_953_704, 5_832_048_640),
        ('aff_resnext101_32x4d', (3, 4, 23, 3), {'fusion': 'aff'}, 53_669_928, 10_010_525_696),
        ('iaff_resnext50_32x4d', (3, 4, 6, 3), {'fusion': 'iaff'}, 34_750_632, 6_065_618_944),
        ('iaff_resnext101_32x4d', (3, 4, 23, 3), {'fusion': 'iaff'}, 63_034_280, 10_683_056_128),
    )),
    Networks(SEResNet, 'SE-ResNet', IMAGENET, 'Hu et al., CVPR 2018; host: resnet50_v1b of GluonCV', (
        ('se_resnet50', (3, 4, 6, 3), V1B, 28_088_024, 4_091_699_200),
    )),
    Networks(SEResNet, 'SE-ResNet', IMAGENET, 'Hu et al., CVPR 2018; host: resnet101_v1b of GluonCV', (
        ('se_resnet101', (3, 4, 23, 3), V1B, 49_326_872, 7_806_148_608),
    )),
    Networks(ECAResNet, 'ECA-Net', IMAGENET, 'Wang et al., CVPR 2020; host: resnet101_v1b of GluonCV', (
        ('eca_resnet101', (3, 4, 23, 3), V1B, 44_549_317, 7_801_574_656),
    )),
    Networks(AAResNet, 'AA-ResNet', IMAGENET, 'Bello et al., ICCV 2019; host: resnet101_v1b of GluonCV', (
        ('aa_resnet101', (3, 4, 23, 3), {**V1B, 'input_size': 224}, 45_391_208, 8_675_950_384),
    )),
    Networks(GEResNet, 'GE-ResNet', IMAGENET, 'Hu et al., NeurIPS 2018; host: resnet101_v1b of GluonCV', (
        ('ge_theta_plus_resnet101', (3, 4, 23, 3), {**V1B, 'input_size': 224}, 58_323_224, 7_815_079_936),
    )),
    # Its authors start the last gamma of each block at zero.
    Networks(LIPResNet, 'LIP-ResNet', IMAGENET, 'Gao et al., ICCV 2019; host: resnet101_v1b of GluonCV', (
        ('lip_resnet101', (3, 4, 23, 3), {**V1B, 'last_gamma': True}, 42_856_360, 9_012_051_968),
    )),
    Networks(SKResNet, 'SKNet', IMAGENET, 'Li et al., CVPR 2019; host: resnet50_v1b of GluonCV', (
        ('sk_resnet50', (3, 4, 6, 3), V1B, 27_479_784, 4_462_710_784),
    )),
    Networks(CifarResNet, 'CIFAR ResNet', CIFAR100, 'AFF paper, section 4; depth 6b + 2 with b blocks a stage', (
        ('cifar_add_resnet8', (1, 1, 1), {'fusion': 'add'}, 1_249_956, 194_733_056),
        ('cifar_add_resnet14', (2, 2, 2), {'fusion': 'add'}, 2_800_036, 421_225_472),
        ('cifar_add_resnet20', (3, 3, 3), {'fusion': 'add'}, 4_350_116, 647_717_888),
        ('cifar_add_resnet26', (4, 4, 4), {'fusion': 'add'}, 5_900_196, 874_210_304),
        ('cifar_add_resnet32', (5, 5, 5), {'fusion': 'add'}, 7_450_276, 1_100_702_720),
        ('cifar_concat_resnet8', (1, 1, 1), {'fusion': 'concat'}, 1_423_780, 219_898_880),
        ('cifar_concat_resnet14', (2, 2, 2), {'fusion': 'concat'}, 3_147_684, 471_557_120),
        ('cifar_concat_resnet20', (3, 3, 3), {'fusion': 'concat'}, 4_871_588, 723_215_360),
        ('cifar_concat_resnet26', (4, 4, 4), {'fusion': 'concat'}, 6_595_492, 974_873_600),
        ('cifar_concat_resnet32', (5, 5, 5), {'fusion': 'concat'}, 8_319_396, 1_226_531_840),
        ('cifar_aff_resnet8', (1, 1, 1), {'fusion': 'aff'}, 1_339_332, 201_067_520),
        ('cifar_aff_resnet14', (2, 2, 2), {'fusion': 'aff'}, 2_978_788, 433_894_400),
        ('cifar_aff_resnet20', (3, 3, 3), {'fusion': 'aff'}, 4_618_244, 666_721_280),
        ('cifar_aff_resnet26', (4, 4, 4), {'fusion': 'aff'}, 6_257_700, 899_548_160),
        ('cifar_aff_resnet32', (5, 5, 5), {'fusion': 'aff'}, 7_897_156, 1_132_375_040),
        ('cifar_iaff_resnet8', (1, 1, 1), {'fusion': 'iaff'}, 1_428_708, 207_401_984),
        ('cifar_iaff_resnet14', (2, 2, 2), {'fusion': 'iaff'}, 3_157_540, 446_563_328),
        ('cifar_iaff_resnet20', (3, 3, 3), {'fusion': 'iaff'}, 4_886_372, 685_724_672),
        ('cifar_iaff_resnet26', (4, 4, 4), {'fusion': 'iaff'}, 6_615_204, 924_886_016),
        ('cifar_iaff_resnet32', (5, 5, 5), {'fusion': 'iaff'}, 8_344_036, 1_164_047_360),
    )),
    Networks(CifarResNet, 'CIFAR ResNet', FASHION_MNIST,
             'the 8-layer CIFAR ResNet at width 1 (1.08 in _w108), trained with train_cifar.py', (
        ('fashion_mnist_add_resnet8', (1, 1, 1), {'classes': 10, 'width': 1, 'fusion': 'add'}, 77_850, 12_501_632),
        ('fashion_mnist_add_resnet8_w108', (1, 1, 1), {'classes': 10, 'width': 1.08, 'fusion': 'add'},
         90_853, 14_431_090),
        ('fashion_mnist_aff_resnet8', (1, 1, 1), {'classes': 10, 'width': 1, 'fusion': 'aff'}, 84_066, 12_897_536),
        ('fashion_mnist_iaff_resnet8', (1, 1, 1), {'classes': 10, 'width': 1, 'fusion': 'iaff'}, 90_282, 13_293_440),
    )),
    Networks(CifarResNeXt, 'CIFAR ResNeXt', CIFAR100, 'AFF paper, section 4; depth 9b + 2 with b blocks a stage', (
        ('cifar_add_resnext38_32x4d', (4, 4, 4), {'fusion': 'add'}, 6_348_196, 989_630_464),
        ('cifar_add_resnext47_32x4d', (5, 5, 5), {'fusion': 'add'}, 7_828_388, 1_205_112_832),
        ('cifar_aff_resnext38_32x4d', (4, 4, 4), {'fusion': 'aff'}, 7_770_148, 1_090_981_888),
        ('cifar_aff_resnext47_32x4d', (5, 5, 5), {'fusion': 'aff'}, 9_605_828, 1_331_802_112),
        ('cifar_iaff_resnext38_32x4d', (4, 4, 4), {'fusion': 'iaff'}, 9_192_100, 1_192_333_312),
        ('cifar_iaff_resnext47_32x4d', (5, 5, 5), {'fusion': 'iaff'}, 11_383_268, 1_458_491_392),
    )),
    Networks(InceptionResNet, 'Inception-ResNet', CIFAR100,
             'AFF paper, section 4; depth 6b + 2 with b blocks a stage', (
        ('cifar_add_inception_resnet8', (1, 1, 1), {'fusion': 'add'}, 2_024_100, 307_979_264),
        ('cifar_add_inception_resnet14', (2, 2, 2), {'fusion': 'add'}, 4_348_324, 647_717_888),
        ('cifar_add_inception_resnet20', (3, 3, 3), {'fusion': 'add'}, 6_672_548, 987_456_512),
        ('cifar_add_inception_resnet26', (4, 4, 4), {'fusion': 'add'}, 8_996_772, 1_327_195_136),
        ('cifar_concat_inception_resnet8', (1, 1, 1), {'fusion': 'concat'}, 2_197_924, 333_145_088),
        ('cifar_concat_inception_resnet14', (2, 2, 2), {'fusion': 'concat'}, 4_695_972, 698_049_536),
        ('cifar_concat_inception_resnet20', (3, 3, 3), {'fusion': 'concat'}, 7_194_020, 1_062_953_984),
        ('cifar_concat_inception_resnet26', (4, 4, 4), {'fusion': 'concat'}, 9_692_068, 1_427_858_432),
        ('cifar_aff_inception_resnet8', (1, 1, 1), {'fusion': 'aff'}, 2_113_476, 314_313_728),
        ('cifar_aff_inception_resnet14', (2, 2, 2), {'fusion': 'aff'}, 4_527_076, 660_386_816),
        ('cifar_aff_inception_resnet20', (3, 3, 3), {'fusion': 'aff'}, 6_940_676, 1_006_459_904),
        ('cifar_aff_inception_resnet26', (4, 4, 4), {'fusion': 'aff'}, 9_354_276, 1_352_532_992),
        ('cifar_iaff_inception_resnet8', (1, 1, 1), {'fusion': 'iaff'}, 2_202_852, 320_648_192),
        ('cifar_iaff_inception_resnet14', (2, 2, 2), {'fusion': 'iaff'}, 4_705_828, 673_055_744),
        ('cifar_iaff_inception_resnet20', (3, 3, 3), {'fusion': 'iaff'}, 7_208_804, 1_025_463_296),
        ('cifar_iaff_inception_resnet26', (4, 4, 4), {'fusion': 'iaff'}, 9_711_780, 1_377_870_848),
    )),
    Networks(FPN, 'FPN', STOP_SIGN, 'AFF paper, section 4; ResNet of depth 6b + 2 with b blocks a stage', (
        ('fpn_add_resnet8', (1, 1, 1), {'fusion': 'add'}, 89_650, 1_153_646_592),
        ('fpn_add_resnet14', (2, 2, 2), {'fusion': 'add'}, 186_866, 1_847_279_616),
        ('fpn_add_resnet20', (3, 3, 3), {'fusion': 'add'}, 284_082, 2_540_912_640),
        ('fpn_add_resnet26', (4, 4, 4), {'fusion': 'add'}, 381_298, 3_234_545_664),
        ('fpn_concat_resnet8', (1, 1, 1), {'fusion': 'concat'}, 106_546, 1_667_448_832),
        ('fpn_concat_resnet14', (2, 2, 2), {'fusion': 'concat'}, 203_762, 2_361_081_856),
        ('fpn_concat_resnet20', (3, 3, 3), {'fusion': 'concat'}, 300_978, 3_054_714_880),
        ('fpn_concat_resnet26', (4, 4, 4), {'fusion': 'concat'}, 398_194, 3_748_347_904),
        ('fpn_aff_resnet8', (1, 1, 1), {'fusion': 'aff'}, 98_802, 1_282_101_248),
        ('fpn_aff_resnet14', (2, 2, 2), {'fusion': 'aff'}, 196_018, 1_975_734_272),
        ('fpn_aff_resnet20', (3, 3, 3), {'fusion': 'aff'}, 293_234, 2_669_367_296),
        ('fpn_aff_resnet26', (4, 4, 4), {'fusion': 'aff'}, 390_450, 3_363_000_320),
        ('fpn_iaff_resnet8', (1, 1, 1), {'fusion': 'iaff'}, 107_954, 1_410_555_904),
        ('fpn_iaff_resnet14', (2, 2, 2), {'fusion': 'iaff'}, 205_170, 2_104_188_928),
        ('fpn_iaff_resnet20', (3, 3, 3), {'fusion': 'iaff'}, 302_386, 2_797_821_952),
        ('fpn_iaff_resnet26', (4, 4, 4), {'fusion': 'iaff'}, 399_602, 3_491_454_976),
    )),
    Networks(UNet, 'U-Net', STOP_SIGN,
             'AFF paper, section 3.3, on U-Net; ResNet of depth 6b + 2 with b blocks a stage', (
        ('unet_add_resnet8', (1, 1, 1), {'fusion': 'add'}, 114_642, 1_359_167_488),
        ('unet_add_resnet14', (2, 2, 2), {'fusion': 'add'}, 211_858, 2_052_800_512),
        ('unet_add_resnet20', (3, 3, 3), {'fusion': 'add'}, 309_074, 2_746_433_536),
        ('unet_add_resnet26', (4, 4, 4), {'fusion': 'add'}, 406_290, 3_440_066_560),
        ('unet_concat_resnet8', (1, 1, 1), {'fusion': 'concat'}, 125_266, 1_564_688_384),
        ('unet_concat_resnet14', (2, 2, 2), {'fusion': 'concat'}, 222_482, 2_258_321_408),
        ('unet_concat_resnet20', (3, 3, 3), {'fusion': 'concat'}, 319_698, 2_951_954_432),
        ('unet_concat_resnet26', (4, 4, 4), {'fusion': 'concat'}, 416_914, 3_645_587_456),
        ('unet_aff_resnet8', (1, 1, 1), {'fusion': 'aff'}, 120_482, 1_410_550_272),
        ('unet_aff_resnet14', (2, 2, 2), {'fusion': 'aff'}, 217_698, 2_104_183_296),
        ('unet_aff_resnet20', (3, 3, 3), {'fusion': 'aff'}, 314_914, 2_797_816_320),
        ('unet_aff_resnet26', (4, 4, 4), {'fusion': 'aff'}, 412_130, 3_491_449_344),
        ('unet_iaff_resnet8', (1, 1, 1), {'fusion': 'iaff'}, 126_322, 1_461_933_056),
        ('unet_iaff_resnet14', (2, 2, 2), {'fusion': 'iaff'}, 223_538, 2_155_566_080),
        ('unet_iaff_resnet20', (3, 3, 3), {'fusion': 'iaff'}, 320_754, 2_849_199_104),
        ('unet_iaff_resnet26', (4, 4, 4), {'fusion': 'iaff'}, 417_970, 3_542_832_128),
    )),
)
# fmt: on
