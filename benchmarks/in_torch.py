"""The fusion blocks, CIFAR ResNet-8 and ResNet-50 around them in PyTorch, for the benchmarks' optional rows.

Written from the formulas, as benchmarks/naive.py is, with the parameters in that order.
"""

import torch
from torch import nn
from torch.nn import functional


class Add(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()

    def forward(self, x, y):
        return x + y


def context(channels, reduction, pooled):
    hidden = channels // reduction
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1) if pooled else nn.Identity(),
        nn.Conv2d(channels, hidden, 1),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, 1),
        nn.BatchNorm2d(channels),
    )


class AFF(nn.Module):
    rounds = 1

    def __init__(self, channels, reduction=4):
        super().__init__()
        self.contexts = nn.ModuleList(
            context(channels, reduction, pooled) for _ in range(self.rounds) for pooled in (False, True)
        )

    def fuse(self, u, x, y, first=0):
        weight = torch.sigmoid(self.contexts[first](u) + self.contexts[first + 1](u))
        return weight * x + (1 - weight) * y

    def forward(self, x, y):
        return 2 * self.fuse(x + y, x, y)


class IAFF(AFF):
    rounds = 2

    def forward(self, x, y):
        return self.fuse(self.fuse(x + y, x, y), x, y, first=2)


FUSIONS = {'add': Add, 'aff': AFF, 'iaff': IAFF}


class Block(nn.Module):
    def __init__(self, channels, before, stride, fusion):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
        )
        self.shortcut = (
            nn.Identity()
            if before == channels
            else nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(before, channels, 1, bias=False),
            )
        )
        self.fuse = fusion(channels)

    def forward(self, x):
        return self.fuse(self.body(x), self.shortcut(x))


def cifar_resnet8(fusion, width, classes=100):
    """The network behind cifar_*_resnet8: images (N, 3, 32, 32) to (N, classes)."""
    first, second, third = 16 * width, 32 * width, 64 * width
    return nn.Sequential(
        nn.BatchNorm2d(3, affine=False),
        nn.Conv2d(3, first, 3, 1, 1, bias=False),
        Block(first, first, 1, fusion),
        Block(second, first, 2, fusion),
        Block(third, second, 2, fusion),
        nn.BatchNorm2d(third),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(third, classes),
    )


def conv(before, channels, side, stride=1):
    return nn.Conv2d(before, channels, side, stride, side // 2, bias=False), nn.BatchNorm2d(channels)


class Bottleneck(nn.Module):
    def __init__(self, before, width, stride, fusion):
        super().__init__()
        channels = 4 * width
        self.body = nn.Sequential(
            *conv(before, width, 1), nn.ReLU(), *conv(width, width, 3, stride), nn.ReLU(), *conv(width, channels, 1)
        )
        self.shortcut = (
            nn.Identity()
            if before == channels
            else nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False), *conv(before, channels, 1)
            )
        )
        self.fuse = fusion(channels, 16)

    def forward(self, x):
        return functional.relu(self.fuse(self.body(x), self.shortcut(x)))


def resnet50(fusion, classes=1000):
    """The network behind *_resnet50, which fuses in stages 3 and 4: images (N, 3, 224, 224) to (N, classes)."""
    layers = [
        *conv(3, 32, 3, 2),
        nn.ReLU(),
        *conv(32, 32, 3),
        nn.ReLU(),
        *conv(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    before = 64
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            layers.append(
                Bottleneck(before, 32 << stage, 2 if stage > 1 and block == 0 else 1, fusion if stage > 2 else Add)
            )
            before = 128 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def laid_out(net, channels_last, arrays):
    """The network and its inputs, NumPy arrays, as tensors of this memory format."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return net.to(memory_format=layout), [torch.from_numpy(array).contiguous(memory_format=layout) for array in arrays]


def training_step(net, data, label, channels_last=False, bfloat16=False, compiled=False):
    """As benchmarks/timing.py's, on NumPy arrays; in bfloat16 by autocast, compiled by torch.compile."""
    label = torch.from_numpy(label).long()
    net, (data,) = laid_out(net, channels_last, [data])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    forward = torch.compile(net) if compiled else net

    def step():
        net.train()
        optimizer.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=bfloat16):
            loss = functional.cross_entropy(forward(data), label)
        loss.backward()
        optimizer.step()

    return step


def inference(net, *data, channels_last=False, bfloat16=False, compiled=False):
    """A function that calls the network or block on NumPy arrays, with the options of :func:`training_step`."""
    net, data = laid_out(net, channels_last, data)
    forward = torch.compile(net) if compiled else net

    def call():
        net.eval()
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=bfloat16):
            return forward(*data)

    return call


def gradients(block, *data, channels_last=False):
    """A function that calls the block and computes the gradients of its inputs and parameters."""
    block, data = laid_out(block, channels_last, data)
    for tensor in data:
        tensor.requires_grad_()

    def call():
        block.train()
        block(*data).sum().backward()

    return call
