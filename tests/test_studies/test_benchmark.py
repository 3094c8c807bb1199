"""tools/benchmark.py on real trainings: what is done once is kept, whatever ends it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import REPOSITORY

# All of them look at one study, which is trained first.
pytestmark = pytest.mark.long

BENCHMARK = REPOSITORY / 'tools' / 'benchmark.py'
# Few images, one epoch, a teacher that is as small as its student; the last images of the training
# set choose the settings.
STUDY = """
FOLDER = {folder!r}
short = dict(
    train_cfg=dict(max_epochs=1),
    val_dataloader=dict(dataset=dict(split='train', indices=list(range(1100, 1297)))),
    test_dataloader=dict(dataset=dict(indices=list(range(200)))),
)
few = dict(train_dataloader=dict(dataset=dict(dataset=dict(indices=list(range(256))))))
kd = dict(config=FOLDER + 'kd_scores_svm_resnet18-w4_1xb64_digits.py', change=few)
rates = dict(lr=[0.02, 0.05])

study = dict(
    about='The same way twice, under two names.',
    change=short,
    teachers={{
        'net': dict(config=FOLDER + 'resnet18-w4_1xb64_digits.py', change=short),
        'order of net': dict(of='net', by=dict(type='order')),
        'cosines': dict(of='net', by=[dict(type='cosine'), dict(type='scale', factor=20.0)]),
    }},
    cases={{
        'logits': dict(teacher='net', pool='both'),
        'order alone': dict(teacher='order of net', pool='both'),
        'cosines': dict(teacher='cosines'),
    }},
    arms={{
        'alone': dict(config=FOLDER + 'resnet18-w4_1xb64_digits.py', cases=['logits']),
        'KD': dict(**kd, cases=['logits', 'order alone']),
        'KD again': dict(**kd, cases=['logits', 'order alone']),
        'KD, tuned': dict(**kd, grid=rates, cases=['logits'], beside='KD'),
        'KD of cosines': dict(**kd, cases=['cosines']),
    }},
    names=dict(lr='optim_wrapper.optimizer.lr'),
    seeds=[1, 2],
    baseline='KD',
)
"""


def command(study: Path, work_dir: Path, *options: str) -> list[str]:
    return [sys.executable, str(BENCHMARK), str(study), '--work-dir', str(work_dir), *options]


def environment() -> dict[str, str]:
    return {**os.environ, 'OMP_NUM_THREADS': '1'}


def run(study: Path, work_dir: Path, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(study, work_dir, *options),
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip


def written(text: str, folder: Path) -> Path:
    path = folder / 'twice.py'
    path.write_text(text.format(folder=str(REPOSITORY / 'configs' / 'digits') + '/'))
    return path


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / 'twice' / f'{name}.csv', newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> tuple[Path, Path, list[Path]]:
    """A study that was killed twice and then carried out, and what was there at each kill."""
    folder = tmp_path_factory.mktemp('study')
    study, work_dir = written(STUDY, folder), folder / 'work'
    kept: list[Path] = []
    for wanted in (1, 4):  # Once among the teachers, once among the students.
        process = subprocess.Popen(
            command(study, work_dir, '--jobs', '2'),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
        )  # fmt: skip
        until = time.monotonic() + 240
        while len(list(work_dir.glob('*/*/result.json'))) < wanted:
            assert process.poll() is None, 'it ended before it was killed'
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept += work_dir.glob('*/*/result.json')
    times = {path: path.stat().st_mtime_ns for path in kept}
    done = run(study, work_dir, '--jobs', '2')
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    return study, work_dir, kept


def test_every_arm_is_there_once_a_seed(finished):
    _, work_dir, _ = finished
    rows = table(work_dir, 'runs')
    compared = [row for row in rows if row['phase'] != 'tune']
    seen = {}
    for row in compared:
        seen.setdefault((row['case'], row['arm']), []).append(row['seed'])
    controls = ['KD, distillation x 2', 'KD, own loss x 2', 'KD, steps of KD, tuned']
    expected = [('logits', arm) for arm in ('alone', 'KD', 'KD again', 'KD, tuned', *controls)]
    expected += [('order alone', 'KD'), ('order alone', 'KD again'), ('cosines', 'KD of cosines')]
    assert seen == {key: ['1', '2'] for key in expected}
    assert {row['phase'] for row in rows} == {'tune', 'final', 'control'}
    assert all(float(row['test_top1']) > 10 for row in rows)
    assert all(row['torch'] and row['processor'] and row['fingerprint'] for row in rows)


def test_an_arm_under_another_name_is_the_same_training(finished):
    """It is looked up, not run again, and no difference is found."""
    _, work_dir, _ = finished
    rows = [row for row in table(work_dir, 'differences')
            if (row['arm'], row['rival']) == ('KD again', 'KD')]  # fmt: skip
    assert {row['case'] for row in rows} == {'logits', 'order alone', 'both'}
    for row in rows:
        assert float(row['mean']) == 0
        assert row['verdict'] == 'no difference'
    tasks = [json.loads(path.read_text()) for path in work_dir.glob('students/*/task.json')]
    assert 'KD again' not in {task['about']['arm'] for task in tasks}


def test_settings_are_chosen_on_the_validation_set(finished):
    _, work_dir, _ = finished
    rows = table(work_dir, 'runs')
    tuned = [row for row in rows if row['phase'] == 'tune']
    assert [(row['arm'], row['case'], row['seed']) for row in tuned] == [
        ('KD, tuned', 'logits', '0')
    ] * 2
    best = max(tuned, key=lambda row: float(row['val_top1']))['setting']
    finals = [row for row in rows if (row['phase'], row['arm']) == ('final', 'KD, tuned')]
    assert [row['setting'] for row in finals] == [best, best]


def test_a_teacher_of_the_order_has_the_order_of_its_source(finished):
    import numpy as np

    _, work_dir, _ = finished
    lessons = {}
    for path in (work_dir / 'lessons').iterdir():
        task = json.loads((path / 'task.json').read_text())
        if task['cached']:
            lessons[task['about']['teacher']] = path
    source, order = (
        np.load(lessons[name] / 'cache' / 'logits.npy') for name in ('net', 'order of net')
    )
    np.testing.assert_array_equal(
        source.argsort(-1, kind='stable'), order.argsort(-1, kind='stable')
    )
    assert set(np.unique(order)) >= set(range(10))
    test = np.load(lessons['order of net'] / 'test.npz')
    assert test['scores'].shape == (200, 10)
    # Cosines, times 20.
    cosines = np.load(lessons['cosines'] / 'cache' / 'logits.npy')
    assert np.abs(cosines).max() <= 20.001


def test_again_it_does_nothing(finished):
    study, work_dir, _ = finished
    before = {
        path: path.stat().st_mtime_ns
        for path in work_dir.rglob('*')
        if path.is_file() and path.parent.name != 'twice'
    }
    report = (work_dir / 'twice' / 'report.html').read_bytes()
    done = run(study, work_dir)
    assert done.returncode == 0, done.stderr
    after = {
        path: path.stat().st_mtime_ns
        for path in work_dir.rglob('*')
        if path.is_file() and path.parent.name != 'twice'
    }
    assert after == before
    assert (work_dir / 'twice' / 'report.html').read_bytes() == report
    plan = run(study, work_dir, '--plan')
    rows = [line.split('│')[1:4] for line in plan.stdout.splitlines() if line.startswith('│')]
    done = {name.strip(): int(done) == int(count) for name, count, done in rows}
    assert {'to choose settings', 'to compare', 'controls'} <= set(done)
    assert all(done.values())
    assert 'Nothing is left to train.' in plan.stdout


def test_the_curve_ends_at_what_the_student_came_to(finished):
    """Also its tau to the teacher, which the config measures in no validation."""
    _, work_dir, _ = finished
    results = [json.loads(path.read_text()) for path in work_dir.glob('students/*/result.json')]
    assert results
    for result in results:
        last = result['curve'][-1]
        assert last['epoch'] == result['epochs']
        assert last['accuracy/top1'] == pytest.approx(result['val']['top1'], abs=1e-4)
        for name in ('tau', 'tau_low', 'agreement'):
            assert last[f'teacher/{name}'] == pytest.approx(result['val'][name], abs=1e-9)


def test_the_report_needs_no_other_file(finished):
    _, work_dir, _ = finished
    page = (work_dir / 'twice' / 'report.html').read_text()
    assert page.count('data:image/svg+xml;base64,') >= 2
    assert 'src="differences.svg"' not in page
    assert 'KD, tuned − KD, steps of KD, tuned' in page
    text = (work_dir / 'twice' / 'report.md').read_text()
    assert 'What was chosen' in text
    assert 'teacher: order of net' in text


WRONG = {
    'study = 3': 'must set study = dict',
    'study = dict(arms={})': 'one arm at least',
    'study = dict(arms=dict(a=dict(config="x.py")), seed=[1])': "has no 'seed'",
    'study = dict(arms=dict(a=dict(change={})))': "arms['a'] lacks",
    'study = dict(arms=dict(a=dict(config="x.py", beside="b")))': "there is no 'b' among a",
    'study = dict(arms=dict(a=dict(config="x.py")), seeds=[1, 1])': 'each once',
    'study = dict(arms=dict(a=dict(config="x.py", grid=dict(lr=0.1))))': 'must be a list',
    'study = dict(arms=dict(a=dict(config="x.py")), teachers=dict(t=dict()))': 'needs either',
    'study = dict(arms=dict(a=dict(config="x.py")))': 'x.py',
    'study = dict(arms=dict(a=dict(config={folder!r} + '
    '"kd_scores_svm_resnet18-w4_1xb64_digits.py", '
    'terms=dict(kd=dict(type="mmkendall.KDLoss", temprature=3)))))':
    "unexpected keyword argument 'temprature'",
    'study = dict(arms=dict(a=dict(config={folder!r} + '
    '"kd_scores_svm_resnet18-w4_1xb64_digits.py", '
    'terms=dict(kd=dict(type="mmkendall.KDLos")))))': "there is no loss 'mmkendall.KDLos'",
    'study = dict(arms=dict(a=dict(config={folder!r} + "resnet18-w4_1xb64_digits.py",'
    'change=dict(train_cfg=dict(a=dict(b=1))), grid={{"train_cfg.max_epochs.x": [1, 2]}})))':
    'does not fit into the config',
    'study = dict(arms=dict(a=dict(config={folder!r} + '
    '"kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py")))': 'names no teacher',
    'study = dict(arms=dict(a=dict(config={folder!r} + '
    '"kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py")), teachers=dict('
    't=dict(config={folder!r} + "resnet18-w16_1xb64_digits.py"), '
    'o=dict(of="t", by=dict(type="order"))), cases=dict(c=dict(teacher="o")))':
    'LogitDistill',
    'study = dict(arms=dict(a=dict(config={folder!r} + "../letters/lenet_1xb128_letters.py", '
    'change=dict(train_dataloader=dict(dataset=dict(data_root="no/such/place"))))))':
    "arms['a'] in case 'all': train_dataloader.dataset: ",
}  # fmt: skip


@pytest.mark.parametrize('text', WRONG)
def test_what_cannot_be_ends_before_it_starts(text, tmp_path):
    from mmkendall.engine.distill_config import ConfigError
    from mmkendall.studies.plan import Plan
    from mmkendall.studies.study import read_study

    formatted = text if 'folder' in text else text.replace('{', '{{').replace('}', '}}')
    path = written(formatted, tmp_path)

    def plan() -> None:
        study = read_study(str(path))
        whole = Plan(study, tmp_path / 'work')
        for training in [*whole.tuning(), *whole.finals([])]:
            training.task.all_tasks()

    with pytest.raises(ConfigError) as raised:
        plan()
    assert WRONG[text] in str(raised.value)
    assert '\n' not in str(raised.value)
