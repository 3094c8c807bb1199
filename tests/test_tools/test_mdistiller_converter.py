"""The converter against networks written from mdistiller's keys alone, in functions."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmkendall.registry import MODELS

PATH = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'mdistiller_to_mmkendall.py'
SPEC = importlib.util.spec_from_file_location('mdistiller_to_mmkendall', PATH)
converter = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(converter)


class Weights(dict):
    """A state dict that draws each weight when a network first asks for it."""

    def draw(self, key, shape, low, high):
        return self.setdefault(key, torch.empty(shape).double().uniform_(low, high))

    def conv(self, x, key, out, kernel=1, stride=1, groups=1, bias=False):
        shape = (out, x.shape[1] // groups, kernel, kernel)
        bound = (6 / (shape[1] * kernel**2)) ** 0.5
        weight = self.draw(f'{key}.weight', shape, -bound, bound)
        offset = self.draw(f'{key}.bias', (out,), -0.1, 0.1) if bias else None
        return F.conv2d(x, weight, offset, stride, kernel // 2, groups=groups)

    def norm(self, x, key):
        channels = x.shape[1:2]
        mean = self.draw(f'{key}.running_mean', channels, -0.1, 0.1)
        var = self.draw(f'{key}.running_var', channels, 1, 3)
        weight = self.draw(f'{key}.weight', channels, 0.5, 1.5)
        bias = self.draw(f'{key}.bias', channels, -0.1, 0.1)
        self[f'{key}.num_batches_tracked'] = torch.tensor(7)
        return F.batch_norm(x, mean, var, weight, bias)

    def classify(self, x, key, classes=100):
        x = x.mean(dim=(2, 3))
        weight = self.draw(f'{key}.weight', (classes, x.shape[1]), -0.1, 0.1)
        return F.linear(x, weight, self.draw(f'{key}.bias', (classes,), -0.1, 0.1))


def resnet(w, x, depth, widths):
    x = w.norm(w.conv(x, 'conv1', widths[0], 3), 'bn1').relu()
    for layer in (1, 2, 3):
        for index in range((depth - 2) // 6):
            key, out = f'layer{layer}.{index}', widths[layer]
            stride = 2 if layer > 1 and index == 0 else 1
            y = w.norm(w.conv(x, f'{key}.conv1', out, 3, stride), f'{key}.bn1').relu()
            y = w.norm(w.conv(y, f'{key}.conv2', out, 3), f'{key}.bn2')
            if stride == 2 or x.shape[1] != out:
                x = w.norm(w.conv(x, f'{key}.downsample.0', out, 1, stride), f'{key}.downsample.1')
            x = (x + y).relu()
    return w.classify(x, 'fc')


def stem_resnet(w, x, kernels, expansion, blocks):
    x = w.norm(w.conv(x, 'conv1', 64, 3), 'bn1').relu()
    for layer, count in enumerate(blocks, 1):
        for index in range(count):
            key, width = f'layer{layer}.{index}', 32 * 2**layer
            stride = 2 if layer > 1 and index == 0 else 1
            y = x
            for number, kernel in enumerate(kernels, 1):
                last = number == len(kernels)
                # The stride is in the first 3x3.
                step = stride if kernel == 3 and number == kernels.index(3) + 1 else 1
                out = width * expansion if last else width
                y = w.conv(y, f'{key}.conv{number}', out, kernel, step)
                y = w.norm(y, f'{key}.bn{number}')
                y = y if last else y.relu()
            if x.shape != y.shape:
                x = w.conv(x, f'{key}.shortcut.0', y.shape[1], 1, stride)
                x = w.norm(x, f'{key}.shortcut.1')
            x = (x + y).relu()
    return w.classify(x, 'linear')


def wrn(w, x, depth, widen):
    x = w.conv(x, 'conv1', 16, 3)
    for block in (1, 2, 3):
        for index in range((depth - 4) // 6):
            key, out = f'block{block}.layer.{index}', 8 * 2**block * widen
            stride = 2 if block > 1 and index == 0 else 1
            active = w.norm(x, f'{key}.bn1').relu()
            y = w.norm(w.conv(active, f'{key}.conv1', out, 3, stride), f'{key}.bn2').relu()
            if x.shape[1] != out:
                x = w.conv(active, f'{key}.convShortcut', out, 1, stride)
            x = x + w.conv(y, f'{key}.conv2', out, 3)
    return w.classify(w.norm(x, 'bn1').relu(), 'fc')


def vgg(w, x, counts):
    for block, (count, out) in enumerate(zip(counts, (64, 128, 256, 512, 512), strict=True)):
        for index in range(count):
            x = w.conv(x, f'block{block}.{3 * index}', out, 3, bias=True)
            x = w.norm(x, f'block{block}.{3 * index + 1}').relu()
        if block < 3:
            x = F.max_pool2d(x, 2)
    return w.classify(x, 'classifier')


def mobilenet_v2(w, x):
    x = w.norm(w.conv(x, 'conv1.0', 16, 3, 2), 'conv1.1').relu()
    widths, counts, strides = (
        (8, 12, 16, 32, 48, 80, 160),
        (1, 2, 3, 4, 3, 3, 1),
        (1, 1, 2, 2, 1, 2, 1),
    )
    for block, (out, count, first) in enumerate(zip(widths, counts, strides, strict=True)):
        for index in range(count):
            key, stride = f'blocks.{block}.{index}.conv', first if index == 0 else 1
            hidden = x.shape[1] * (1 if block == 0 else 6)
            y = w.norm(w.conv(x, f'{key}.0', hidden), f'{key}.1').relu()
            y = w.norm(w.conv(y, f'{key}.3', hidden, 3, stride, hidden), f'{key}.4').relu()
            y = w.norm(w.conv(y, f'{key}.6', out), f'{key}.7')
            x = x + y if x.shape == y.shape else y
    x = w.norm(w.conv(x, 'conv2.0', 1280), 'conv2.1').relu()
    return w.classify(x, 'classifier.0')


def shuffled(x, groups):
    order = torch.arange(x.shape[1]).view(groups, -1).t().flatten()
    return x[:, order]


def shufflenet_v1(w, x):
    x = w.norm(w.conv(x, 'conv1', 24), 'bn1').relu()
    for layer, (width, count) in enumerate(((240, 4), (480, 8), (960, 4)), 1):
        for index in range(count):
            key, down = f'layer{layer}.{index}', index == 0
            out = width - x.shape[1] if down else width
            groups = 1 if layer == 1 and down else 3
            y = w.conv(x, f'{key}.conv1', out // 4, groups=groups)
            y = shuffled(w.norm(y, f'{key}.bn1').relu(), groups)
            y = w.conv(y, f'{key}.conv2', out // 4, 3, 2 if down else 1, out // 4)
            y = w.norm(y, f'{key}.bn2').relu()
            y = w.norm(w.conv(y, f'{key}.conv3', out, groups=3), f'{key}.bn3')
            y = torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1) if down else x + y
            x = y.relu()
    return w.classify(x, 'linear')


def shufflenet_v2(w, x):
    def unit(x, key, numbers, out, stride):
        first, middle, last = numbers
        x = w.norm(w.conv(x, f'{key}.conv{first}', out), f'{key}.bn{first}').relu()
        x = w.norm(w.conv(x, f'{key}.conv{middle}', out, 3, stride, out), f'{key}.bn{middle}')
        return w.norm(w.conv(x, f'{key}.conv{last}', out), f'{key}.bn{last}').relu()

    x = w.norm(w.conv(x, 'conv1', 24), 'bn1').relu()
    for layer, (width, count) in enumerate(((116, 4), (232, 8), (464, 4)), 1):
        for index in range(count):
            key, half = f'layer{layer}.{index}', width // 2
            if index == 0:
                left = w.norm(
                    w.conv(x, f'{key}.conv1', x.shape[1], 3, 2, x.shape[1]), f'{key}.bn1'
                )
                left = w.norm(w.conv(left, f'{key}.conv2', half), f'{key}.bn2').relu()
                right = unit(x, key, (3, 4, 5), half, 2)
            else:
                left, right = x[:, :half], unit(x[:, half:], key, (1, 2, 3), half, 1)
            x = shuffled(torch.cat([left, right], 1), 2)
    x = w.norm(w.conv(x, 'conv2', 1024), 'bn2').relu()
    return w.classify(x, 'linear')


NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
NETWORKS = {
    'resnet8': (resnet, 8, NARROW),
    'resnet20': (resnet, 20, NARROW),
    'resnet56': (resnet, 56, NARROW),
    'resnet110': (resnet, 110, NARROW),
    'resnet8x4': (resnet, 8, WIDE),
    'resnet32x4': (resnet, 32, WIDE),
    'ResNet18': (stem_resnet, (3, 3), 1, (2, 2, 2, 2)),
    'ResNet50': (stem_resnet, (1, 3, 1), 4, (3, 4, 6, 3)),
    'wrn_16_1': (wrn, 16, 1),
    'wrn_40_2': (wrn, 40, 2),
    'vgg8': (vgg, (1, 1, 1, 1, 1)),
    'vgg13': (vgg, (2, 2, 2, 2, 2)),
    'vgg19': (vgg, (2, 2, 4, 4, 4)),
    'MobileNetV2': (mobilenet_v2,),
    'ShuffleV1': (shufflenet_v1,),
    'ShuffleV2': (shufflenet_v2,),
}


def draw(name, images):
    """Weights in mdistiller's layout, and the logits that they give."""
    network, *arguments = NETWORKS[name]
    weights = Weights()
    logits = network(weights, images, *arguments)
    return dict(weights), logits


@pytest.fixture
def images():
    torch.manual_seed(0)
    # Double, since unsettled statistics let the logits of a deep network grow.
    return torch.randn(2, 3, 32, 32).double()


@pytest.mark.parametrize('name', NETWORKS)
def test_logits_are_kept(name, images):
    weights, logits = draw(name, images)
    state_dict = converter.convert(name, weights)

    config_name = converter.ARCHITECTURES[name][0]
    config = Config.fromfile(converter.CONFIGS / f'{config_name}.py')[config_name]
    backbone = MODELS.build(config.backbone).double().eval()
    head = {key: state_dict.pop(key) for key in ('head.fc.weight', 'head.fc.bias')}
    backbone.load_state_dict({key[len('backbone.') :]: v for key, v in state_dict.items()})
    with torch.no_grad():
        (features,) = backbone(images)
    ours = F.linear(features.mean(dim=(2, 3)), head['head.fc.weight'], head['head.fc.bias'])

    assert logits.std() > 0.01
    torch.testing.assert_close(ours, logits, rtol=0, atol=1e-5)


def test_every_architecture_has_a_config():
    for name, (config_name, _) in converter.ARCHITECTURES.items():
        assert (converter.CONFIGS / f'{config_name}.py').is_file(), name


def test_any_number_of_classes(images):
    weights = Weights()
    x = resnet(weights, images, 8, NARROW)
    weights['fc.weight'], weights['fc.bias'] = torch.zeros(10, 64), torch.zeros(10)
    assert x.shape == (2, 100)
    assert converter.convert('resnet8', weights)['head.fc.weight'].shape == (10, 64)


def test_old_checkpoints_lack_batch_counters(images):
    weights, _ = draw('resnet8', images)
    old = {key: value for key, value in weights.items() if 'num_batches' not in key}
    assert converter.convert('resnet8', old).keys() == converter.convert('resnet8', weights).keys()


def test_convert_refuses_what_does_not_fit(images):
    weights, _ = draw('ShuffleV2', images)
    with pytest.raises(ValueError, match=r'architecture must be one of resnet8, .*got resnet9'):
        converter.convert('resnet9', weights)

    missing = {key: value for key, value in weights.items() if key != 'layer1.0.conv5.weight'}
    with pytest.raises(ValueError, match=r'missing: backbone\.layer1\.0\.branch2\.5\.weight$'):
        converter.convert('ShuffleV2', missing)

    unexpected = weights | {'layer1.1.conv5.weight': torch.zeros(1)}
    with pytest.raises(ValueError, match=r'unexpected: layer1\.1\.conv5\.weight$'):
        converter.convert('ShuffleV2', unexpected)

    misshapen = weights | {'linear.bias': torch.zeros(7)}
    with pytest.raises(ValueError, match=r'head\.fc\.bias: \(7,\), expected \(100,\)$'):
        converter.convert('ShuffleV2', misshapen)

    with pytest.raises(ValueError, match=r'not those of resnet8:(.|\n)*and \d+ more$'):
        converter.convert('resnet8', weights)


def test_command(tmp_path, images, capsys):
    weights, _ = draw('wrn_16_1', images)
    source, target = tmp_path / 'ckpt_epoch_240.pth', tmp_path / 'out' / 'wrn_16_1.pth'
    torch.save({'epoch': 240, 'model': weights}, source)
    converter.main(['wrn_16_1', str(source), str(target)])
    saved = torch.load(target, weights_only=True)
    assert saved['meta'] == {'architecture': 'wrn_16_1', 'source': 'mdistiller'}
    torch.testing.assert_close(
        saved['state_dict'], converter.convert('wrn_16_1', weights), rtol=0, atol=0
    )

    before = target.read_bytes()
    with pytest.raises(SystemExit) as error:
        converter.main(['wrn_16_1', str(source), str(target)])
    assert error.value.code == 1
    assert 'pass --force' in capsys.readouterr().err
    assert target.read_bytes() == before
    converter.main(['wrn_16_1', str(source), str(target), '--force'])


class Network(torch.nn.Module):
    """A module with given weights: its state dict is the dict that it was made of."""

    def __init__(self, weights):
        super().__init__()
        for key, value in weights.items():
            *path, name = key.split('.')
            owner = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, torch.nn.Module())
                owner = owner._modules[part]
            if value.is_floating_point() and 'running' not in name:
                owner.register_parameter(name, torch.nn.Parameter(value))
            else:
                owner.register_buffer(name, value)


class Vanilla(torch.nn.Module):
    """What mdistiller's training of a teacher calls its distiller."""

    def __init__(self, student):
        super().__init__()
        self.student = student


@pytest.mark.parametrize('file', ['best', 'student_best'])
def test_files_of_a_training(file, tmp_path, images):
    """Written as mdistiller's trainer does: the learning rate becomes a number of NumPy's."""
    weights, _ = draw('wrn_16_1', images)
    distiller = torch.nn.DataParallel(Vanilla(Network(weights)))
    optimizer = torch.optim.SGD(distiller.module.student.parameters(), 0.05, momentum=0.9)
    steps = np.sum(np.asarray([150, 180, 210]) < 200)
    for group in optimizer.param_groups:
        group['lr'] = 0.05 * 0.1**steps
    state = {
        'epoch': 200,
        'model': distiller.state_dict(),
        'optimizer': optimizer.state_dict(),
        'best_acc': torch.tensor([71.2]),
    }
    student_state = {'model': distiller.module.student.state_dict()}
    with open(tmp_path / file, 'wb') as opened:
        torch.save(state if file == 'best' else student_state, opened)
    converter.main(['wrn_16_1', str(tmp_path / file), str(tmp_path / 'out.pth')])
    saved = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    torch.testing.assert_close(saved, converter.convert('wrn_16_1', weights), rtol=0, atol=0)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'cannot read'),
        (b'not a checkpoint', 'cannot read'),
        ({'state_dict': {}}, "no state dict under the key 'model'"),
        ({'model': {'fc.weight': 'text'}}, "no state dict under the key 'model'"),
        ([1], "no state dict under the key 'model'"),
    ],
)
def test_command_reports_unusable_files(tmp_path, capsys, content, message):
    source, target = tmp_path / 'in.pth', tmp_path / 'out.pth'
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif content is not None:
        torch.save(content, source)
    with pytest.raises(SystemExit) as error:
        converter.main(['resnet8', str(source), str(target)])
    assert error.value.code == 1
    assert message in capsys.readouterr().err
    assert not target.exists()
