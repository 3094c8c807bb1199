"""The command that draws glyphs, from its options to its files, with fonts of matplotlib."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS

from mmkendall.datasets.glyphs import GlyphsError, capitals, letters

from ..conftest import call_tool, load_tool, run_tool

TOOL = 'dataset_converters/letters.py'


def test_letters(letters_folder):
    meta = json.loads((letters_folder / 'meta.json').read_text(encoding='utf-8'))
    assert meta['classes'] == list(letters())
    assert meta['transfer_classes'] == list(capitals())
    assert meta['parts']['é'] == ['e', 'acute accent']
    assert set(meta['versions']) == {'pillow', 'fonttools', 'numpy'}
    assert meta['options']['num_views'] == 2
    assert any('STIXSizFiveSym' in name for name in meta['left_out'])
    sheet = cv2.imread(str(letters_folder / 'sheet.png'), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape[1] == 24 * 32
    # All of the first class of the first face to train is in it, both views below each other.
    train = np.load(letters_folder / 'train.npy')
    column = np.concatenate(train[0, 0])
    assert np.array_equal(sheet[:64, :32], column)


@pytest.mark.long
def test_classes_of_a_file_and_a_checksum(some_fonts, tmp_path):
    (tmp_path / 'classes.txt').write_text('a\nfi\nж\n', encoding='utf-8')
    (tmp_path / 'other.txt').write_text('x\ny\n')
    options = (
        '--classes',
        'classes.txt',
        '--transfer-classes',
        'other.txt',
        '--fonts',
        some_fonts,
    )
    said = [run_tool(TOOL, name, *options, cwd=tmp_path).stdout for name in ('one', 'two')]
    assert said[0].replace('one', '') == said[1].replace('two', '')
    meta = json.loads((tmp_path / 'one/meta.json').read_text(encoding='utf-8'))
    assert f'3 classes, 2 for transfer; SHA-256 {meta["sha256"]}' in said[0]
    for name in ('train.npy', 'val.npy', 'test.npy', 'transfer_train.npy', 'transfer_test.npy'):
        assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'two' / name).read_bytes()
    data = DATASETS.build(
        dict(type='mmkendall.Glyphs', data_root=str(tmp_path / 'one'), split='transfer_train')
    )
    assert data.metainfo['classes'] == ('x', 'y')


def refused(monkeypatch, capsys, folder, *options) -> str:
    """What the command says as it ends with status 2."""
    monkeypatch.chdir(folder)
    try:
        status = call_tool(monkeypatch, TOOL, 'out', *options)
    except SystemExit as end:  # argparse
        status = end.code
    assert status == 2
    return ''.join(capsys.readouterr().err.split('\n'))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ((), 'must give 120 faces (--least), got'),
        (('--classes', 'kanji'), 'of 0 faces that draw all 600 characters'),
        (('--fonts', 'nowhere'), 'fonts must be folders or font files, and nowhere is neither'),
        (('--classes', 'none.txt'), "classes 'none.txt' can't be read as UTF-8"),
        (('--views', '0'), '--views must be 1 or more, got 0'),
        (('--above', '1.5'), '--above must be above 0 and at most 1, got 1.5'),
        (('--transfer-classes', 'x'), '--transfer-classes goes with --classes FILE, got letters'),
    ],
)
def test_refuses(options, message, some_fonts, tmp_path, monkeypatch, capsys):
    fonts = () if '--fonts' in options else ('--fonts', some_fonts)
    said = refused(monkeypatch, capsys, tmp_path, *fonts, *options)
    assert message in said
    assert not (tmp_path / 'out').exists()
    if 'faces' in message:
        kind = 'kanji' if 'kanji' in options else 'letters'
        assert 'apt-get install --no-install-recommends $(cat ' in said
        path = said.rpartition('$(cat ')[2].rpartition(')')[0]
        assert path.endswith(f'fonts_{kind}.txt')
        packages = Path(path).read_text().split()
        assert len(packages) > 20
        assert all(package.startswith('fonts-') for package in packages)


@pytest.mark.skipif(shutil.which('dpkg-query') is None, reason="needs Debian's dpkg-query")
def test_only_fonts_of_the_listed_packages(tmp_path):
    """Whatever else is installed: the same list draws the same data."""
    tool, listed = load_tool(TOOL), tmp_path / 'fonts.txt'
    some = 'dpkg', *installed_fonts()[:1]  # The first has files, and none of them is a font.
    listed.write_text('\n'.join(some))
    owned = subprocess.run(
        ['dpkg-query', '-L', *some], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    expected = {path for path in owned if Path(path).suffix in ('.ttf', '.otf')}
    assert set(map(str, tool.listed_fonts(listed))) == expected
    assert len(some) == 1 or expected
    listed.write_text('dpkg\nfonts-that-are-not-there')
    with pytest.raises(GlyphsError, match='1 of them are not installed, fonts-that-are-not-there'):
        tool.listed_fonts(listed)


def installed_fonts() -> list[str]:
    """Packages of fonts on this machine."""
    owners = subprocess.run(
        ['dpkg-query', '-S', '*.ttf'], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    return sorted({line.partition(':')[0] for line in owners if line.startswith('fonts-')})


def test_without_debian_all_of_the_system_take_part(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    tool = load_tool(TOOL)
    assert tool.listed_fonts(tmp_path / 'fonts.txt') == tool.SYSTEM_FONTS


def test_a_class_is_not_on_both_sides(tmp_path, monkeypatch, capsys):
    (tmp_path / 'classes.txt').write_text('a\nb\n')
    options = ('--classes', 'classes.txt', '--transfer-classes', 'classes.txt')
    said = refused(monkeypatch, capsys, tmp_path, *options)
    assert 'classes that --classes has not, got a, b' in said


@pytest.mark.long
def test_trains_against_teacher_logits_of_all_images(letters_folder, tmp_path):
    """A few batches of the real configs: teacher, its logits on disk, a student on some faces."""
    configs = 'mmkendall::letters'
    short = (
        'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'param_scheduler=None',
        'default_hooks.checkpoint.interval=1', 'randomness.seed=0',
        *(f'{part}_dataloader.dataset.data_root={letters_folder}'
          for part in ('train', 'val', 'test')),
    )  # fmt: skip
    teacher = f'{configs}/convnet_1xb128_letters.py'
    run_tool('train.py', teacher, '--work-dir', 'teacher', '--cfg-options', *short, cwd=tmp_path)
    checkpoint = 'teacher/epoch_1.pth'
    run_tool('test.py', teacher, checkpoint, '--out', 'test.pkl', '--cfg-options', *short,
             cwd=tmp_path)  # fmt: skip
    # Scores, labels and some hundred bytes of each image, and not its batch each time.
    images = np.prod(np.load(letters_folder / 'test.npy').shape[:2])
    assert (tmp_path / 'test.pkl').stat().st_size < 4000 * images
    student = f'{configs}/kd-rank_logits_convnet_lenet_1xb128_letters.py'
    options = (
        *short,
        f'model.teacher_ckpt={checkpoint}',
        'model.teacher_logits=logits',
        'train_dataloader.dataset.num_faces=2',
        'train_dataloader.dataset.wrong_labels=0.4',
    )
    built = run_tool('dataset_converters/cache_teacher_logits.py', student, '--cfg-options',
                     *options, cwd=tmp_path)  # fmt: skip
    train = np.load(letters_folder / 'train.npy')
    assert f'{np.prod(train.shape[:3])} rows written' in built.stdout
    done = run_tool('train.py', student, '--work-dir', 'student', '--cfg-options', *options,
                    cwd=tmp_path)  # fmt: skip
    # Six batches of two faces, where the whole set has some hundred.
    assert f'[{-(-2 * 119 * 2 // 128)}/{-(-2 * 119 * 2 // 128)}]' in done.stdout + done.stderr
    tested = run_tool(
        'test.py', student, 'student/epoch_1.pth', '--cfg-options', *options,
        'test_evaluator.1.teacher_results=test.pkl', cwd=tmp_path,
    )  # fmt: skip
    assert 'kendall/tau_b' in tested.stdout + tested.stderr
