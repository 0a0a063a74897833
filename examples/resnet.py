"""ResNet-18 (He et al. 2016) on handwritten digits, or on CIFAR-10 from its files.

    python examples/resnet.py --width 8            small, on the bundled 8x8 digits
    python examples/resnet.py --cifar DIR          the real one, with a 3x3 stem, on photographs

The modules have torchvision's names, so `--load FILE` takes its weights (as safetensors) for
`--stem 7`. SGD with momentum; one captured training step.
"""

import argparse
from importlib import import_module

import lazygrad as lg
from lazygrad import Tensor, nn
from lazygrad.data import CIFAR10, DataLoader, Digits, TensorDataset


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and a way around them."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + around)


class ResNet(nn.Module):
    """Four groups of blocks, each but the first one halving the size and doubling the channels."""

    def __init__(
        self,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        num_classes: int = 1000,
        channels: int = 3,
        width: int = 64,
        stem: int = 7,
    ) -> None:
        if stem == 7:  # for large images
            self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == 7 else nn.Identity()
        inside = width
        for i, count in enumerate(blocks):
            outside = width * 2**i
            strides = [1 if i == 0 else 2] + [1] * (count - 1)
            group = []
            for stride in strides:
                group.append(BasicBlock(inside, outside, stride))
                inside = outside
            setattr(self, f"layer{i + 1}", nn.Sequential(*group))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inside, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name, module in self.named_children():
            x = module(x) if name.startswith("layer") else x
        return self.fc(self.avgpool(x).flatten(1))


def load(args: argparse.Namespace, train: bool) -> TensorDataset:
    """Images (batch, channels, size, size) around 0, and their labels."""
    if args.cifar is None:
        source = Digits(train)
        pixels = source.data[:, None].astype("float32") / 16
    else:
        source = CIFAR10(args.cifar, train, download=args.download)
        pixels = source.data.transpose(0, 3, 1, 2).astype("float32") / 255
    return TensorDataset(pixels[: args.images] * 2 - 1, source.targets[: args.images])


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar", metavar="DIR", help="where CIFAR-10's binary files are")
    parser.add_argument("--download", action="store_true", help="fetch missing files to DIR")
    parser.add_argument("--images", type=int, default=None, help="images to use (all)")
    parser.add_argument("--width", type=int, default=64, help="channels of the first group")
    parser.add_argument("--blocks", type=int, nargs="+", default=[2, 2, 2, 2])
    parser.add_argument("--stem", type=int, choices=(3, 7), default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--load", metavar="FILE", help="begin with these weights (safetensors)")
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    train, test = load(args, True), load(args, False)
    channels = train.tensors[0].shape[1]
    model = ResNet(tuple(args.blocks), 10, channels, args.width, args.stem)
    if args.load:
        model.load_state_dict(lg.load(args.load))
    optimizer = lg.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    steps = args.epochs * (-(-len(train) // args.batch_size))
    schedule = lg.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))

    @lg.compute_graph
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    @lg.compute_graph
    def correct(x: Tensor, y: Tensor) -> Tensor:
        return (model(x).argmax(dim=1) == y).sum()

    losses: list[float] = []
    accuracy = 0.0
    for epoch in range(args.epochs):
        model.train()
        for x, y in DataLoader(train, args.batch_size, shuffle=True):
            losses.append(step(x, y).item())
            schedule.step()
        model.eval()
        with lg.no_grad():
            hits = sum(correct(x, y).item() for x, y in DataLoader(test, args.batch_size))
        accuracy = hits / len(test)
        print(f"epoch {epoch:3}  loss {losses[-1]:.4f}  test accuracy {accuracy:.2%}", flush=True)
    if args.save:
        lg.save(model.state_dict(), args.save)
    if plt:
        plt.plot(losses)
        plt.savefig(args.plot)
    return accuracy


if __name__ == "__main__":
    main()
