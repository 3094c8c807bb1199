"""Configs that cannot be right, each one change away from one that is, and what is said of it."""

from __future__ import annotations

from mmengine.config import Config, ConfigDict
from mmrazor.models.losses import DKDLoss, KLDivergence
from torch import nn

from mmkendall.datasets import Digits
from mmkendall.models import KendallRankLoss

FC = dict(type='ModuleOutputs', source='head.fc')
GONE = 'gone.pth'


def record(student: bool = True, recorder: str = 'fc', **more) -> dict:
    return dict(from_student=student, recorder=recorder, **more)


def pair(**more) -> dict:
    return dict(preds_S=record(**more), preds_T=record(False, **more))


def rank(cfg: Config, **options) -> ConfigDict:
    """Adds a ranking loss that could be."""
    distiller = cfg.model.distiller
    distiller.distill_losses.loss_rank = dict(type='mmkendall.KendallRankLoss', **options)
    distiller.loss_forward_mappings.loss_rank = pair()
    return distiller


def dense(cfg: Config, **options) -> ConfigDict:
    """Puts the KL behind a DenseLogitLoss on maps of four classes."""
    distiller = cfg.model.distiller
    distiller.distill_losses.loss_kl = dict(
        type='mmkendall.DenseLogitLoss',
        **{'loss': dict(type='KLDivergence'), 'num_classes': 4, **options},
    )
    return distiller


def rename_loss(cfg: Config, kind, name: str = 'kl') -> None:
    distiller = cfg.model.distiller
    del distiller.distill_losses['loss_kl']
    distiller.distill_losses[name] = kind
    distiller.loss_forward_mappings[name] = distiller.loss_forward_mappings.pop('loss_kl')


def augmented(cfg: Config, **options) -> ConfigDict:
    cfg.model.distiller.update(type='mmkendall.RankAugmentedDistiller', **options)
    return cfg.model.distiller


def set_at(path: str, value):
    """A mutation that sets one entry."""

    def mutate(cfg: Config) -> None:
        *parents, last = path.split('.')
        at = cfg
        for key in parents:
            at = at[int(key)] if isinstance(at, (list, tuple)) else at[key]
        at[last] = value

    return mutate


def delete_at(path: str):
    def mutate(cfg: Config) -> None:
        *parents, last = path.split('.')
        at = cfg
        for key in parents:
            at = at[key]
        at.pop(last)

    return mutate


D = 'model.distiller'
KL = f'{D}.distill_losses.loss_kl'
MAP = f'{D}.loss_forward_mappings'
RECORDS = f'{MAP}.loss_kl'
RANKED = 'mmkendall.KendallRankLoss'

# (what is changed, what the sentence must say)
TERMS = [
    # Keys without "loss", however the type is spelled.
    (lambda c: rename_loss(c, dict(type=RANKED)), 'never trained.*Call it loss_kl'),
    (lambda c: rename_loss(c, dict(type='KLDivergence')), 'never trained.*Call it loss_kl'),
    (lambda c: rename_loss(c, dict(type=KLDivergence)), 'never trained.*Call it loss_kl'),
    (lambda c: rename_loss(c, dict(type=KendallRankLoss)), 'never trained.*Call it loss_kl'),
    (lambda c: rename_loss(c, dict(_scope_='mmkendall', type='KendallRankLoss')), 'Call it loss_'),
    (lambda c: rename_loss(c, dict(type='mmrazor.DISTLoss'), 'rank'), 'Call it loss_rank'),
    (
        lambda c: rename_loss(
            c, dict(type='mmkendall.DenseLogitLoss', num_classes=2, loss=dict(type=RANKED))
        ),
        'Call it loss_kl',
    ),
    (lambda c: (augmented(c), rename_loss(c, dict(type='KLDivergence'))), 'Call it loss_kl'),
    # Losses that are not computed, and mappings without a loss.
    (delete_at(RECORDS), r'distill_losses.loss_kl has no entry in loss_forward_mappings'),
    (
        lambda c: rank(c).loss_forward_mappings.pop('loss_rank'),
        r'distill_losses.loss_rank has no entry in loss_forward_mappings',
    ),
    (
        lambda c: rank(c).distill_losses.update(loss_more=dict(type='mmkendall.DKDLoss')),
        r'loss_more has no entry in loss_forward_mappings',
    ),
    (delete_at(KL), r'loss_kl is for a loss that distill_losses does not have: none'),
    (set_at(f'{MAP}.loss_kd', pair()), 'loss_kd is for a loss that .* does not have: loss_kl'),
    (set_at(MAP, [pair()]), 'loss_forward_mappings must be a dict'),
    (set_at(RECORDS, record()), r'loss_kl.from_student: the forward of a KLDivergence takes'),
    (set_at(f'{D}.distill_losses', 3), 'distill_losses must be a dict, got 3'),
    (set_at(KL, 3), 'distill_losses.loss_kl must be a dict with a type, got 3'),
    (delete_at(f'{KL}.type'), 'distill_losses.loss_kl must be a dict with a type'),
    # Arguments of a forward.
    (
        set_at(RECORDS, dict(logits_S=record(), logits_T=record(False))),
        'forward of a KLDivergence takes preds_S, preds_T, and no logits_S',
    ),
    (
        set_at(f'{KL}.type', 'DISTLoss'),
        r"takes no argument 'tau'|and no preds_S",
    ),
    (delete_at(f'{RECORDS}.preds_T'), 'loss_kl lacks preds_T'),
    (set_at(f'{KL}.type', 'DKDLoss'), 'loss_kl lacks gt_labels'),
    (set_at(f'{KL}.type', DKDLoss), 'loss_kl lacks gt_labels'),
    (set_at(f'{KL}.type', 'mmkendall.DKDLoss'), "no argument 'tau'; it takes temperature"),
    (set_at(f'{RECORDS}.preds_A', record()), 'preds_S, preds_T, and no preds_A'),
    # Records.
    (set_at(f'{RECORDS}.preds_S', 'fc'), "preds_S must be a dict .*, got 'fc'"),
    (set_at(f'{RECORDS}.preds_S.recorder', 'fx'), "reads recorder 'fx', .* student_recorders: fc"),
    (set_at(f'{RECORDS}.preds_T.recorder', 'fx'), "reads recorder 'fx', .* teacher_recorders: fc"),
    (delete_at(f'{RECORDS}.preds_S.recorder'), "preds_S lacks 'recorder'"),
    (delete_at(f'{RECORDS}.preds_S.from_student'), "preds_S lacks 'from_student'"),
    (
        set_at(f'{RECORDS}.preds_S.from_student', 'yes'),
        "from_student must be of type bool, got 'y",
    ),
    (set_at(f'{RECORDS}.preds_S.from_recorder', 'fc'), "has 'from_recorder', and a record takes"),
    (set_at(f'{RECORDS}.preds_S.data_idx', '0'), "data_idx must be of type int, got '0'"),
    (set_at(f'{RECORDS}.preds_S.connector', 'z'), "uses connector 'z', .* connectors: none"),
    (
        lambda c: rank(c).loss_forward_mappings.loss_rank.preds_T.update(connector='z'),
        "uses connector 'z', .* connectors: none",
    ),
    # The two sides.
    (
        set_at(RECORDS, dict(preds_S=record(False), preds_T=record())),
        'they are swapped',
    ),
    (
        set_at(f'{RECORDS}.preds_S.from_student', False),
        'both preds_S and preds_T from the teacher',
    ),
    (set_at(f'{RECORDS}.preds_T.from_student', True), 'both preds_S and preds_T from the student'),
    (
        lambda c: rank(c).loss_forward_mappings.update(
            loss_rank=dict(preds_S=record(False), preds_T=record())
        ),
        'loss_rank has preds_S from the teacher .* swapped',
    ),
    # Options of an entry.
    (set_at(f'{KL}.type', 'KLDivergense'), "'KLDivergense' is not known .*mmrazor.KLDivergence"),
    (set_at(f'{KL}.type', 'KendallRankLoss'), "'KendallRankLoss' .*mmkendall.KendallRankLoss"),
    (set_at(f'{KL}.type', 'mmkendal.KendallRankLoss'), 'not known .*mmkendall.KendallRankLoss'),
    (set_at(f'{KL}.taw', 3), "loss_kl: it takes no argument 'taw', did you mean tau"),
    (lambda c: rank(c, steepness=-1), 'loss_rank: steepness must be positive'),
    (lambda c: rank(c, steepness='10'), 'loss_rank: steepness must be a number'),
    (lambda c: rank(c, steepnes=1), "no argument 'steepnes', did you mean steepness"),
    (lambda c: rank(c, surrogate='tanh'), "surrogate must be one of .*got 'tanh'"),
    (lambda c: rank(c, backend='eagr'), "backend must be one of .*got 'eagr'"),
    (lambda c: rank(c, topk=2, mink=2), 'topk or mink, not both'),
    (set_at(f'{KL}.reduction', 'average'), 'loss_kl: .*reduction.*average'),
    (set_at(f'{KL}.loss_weight', '0.9'), "loss_kl.loss_weight must be a finite number, .*'0.9'"),
    (set_at(f'{KL}.loss_weight', -1), 'loss_kl.loss_weight must be a finite number, 0 at least'),
    (set_at(f'{KL}.loss_weight', float('nan')), 'loss_weight must be a finite number, .* nan'),
    (set_at(f'{KL}.loss_weight', True), 'loss_weight must be a finite number, .* True'),
    (lambda c: rank(c, loss_weight=-0.5), 'loss_rank.*0 at least.*-0.5'),
    (lambda c: rank(c, loss_weight=float('inf')), 'loss_rank.*loss_weight.*inf'),
    (
        set_at('model.architecture.head.loss.loss_weight', '0.1'),
        "model.architecture.head.loss.loss_weight must be a finite number, .*'0.1'",
    ),
    (set_at(f'{KL}.tau', 0), 'loss_kl.tau must be a finite number, above 0, got 0'),
    (set_at(f'{KL}.tau', -4), 'loss_kl.tau must be a finite number, above 0, got -4'),
    (lambda c: dense(c, num_classes=0), 'loss_kl: num_classes must be an integer of 1 at least'),
    (
        lambda c: dense(c).distill_losses.loss_kl.loss.update(loss_weight=-1),
        'loss_kl.loss.loss_weight must be a finite number, 0 at least, got -1',
    ),
    (lambda c: dense(c, loss=dict(type='KL')), "loss_kl: the model type 'KL' is not known"),
    # The distiller and its parts.
    (set_at(f'{D}.type', 'ConfigurableDistillr'), "'ConfigurableDistillr' is not known"),
    (set_at(f'{D}._scope_', None), 'ConfigurableDistiller.* is not known in the scope mmpretrain'),
    (set_at(f'{D}.losses', {}), "unexpected keyword argument 'losses'|no argument 'losses'"),
    (set_at(D, 'ConfigurableDistiller'), 'model.distiller must be a dict'),
    (
        set_at(f'{D}.connectors', dict(z=dict(type='LogitStandardisation'))),
        "connectors.z: the model type 'LogitStandardisation' .*mmkendall.LogitStandardization",
    ),
    (
        set_at(f'{D}.connectors', dict(z=dict(type='mmkendall.LogitStandardization', unbiasd=1))),
        "connectors.z: it takes no argument 'unbiasd', did you mean unbiased",
    ),
    (set_at(f'{D}.student_recorders.fc.type', 'ModuleOutput'), 'no recorder .*ModuleOutputs'),
    (set_at(f'{D}.teacher_recorders.fc.type', 'Modules'), 'teacher_recorders.fc.type .*no recor'),
    (set_at(f'{D}.student_recorders.fc.type', nn.Linear), 'must be a dict with a type such as'),
    (set_at(f'{D}.student_recorders.fc', 'head.fc'), 'student_recorders.fc must be a dict'),
    (set_at(f'{D}.student_recorders.fc.sources', 'x'), "no argument 'sources', did you mean sour"),
    (
        lambda c: augmented(c, rank_loss=dict(steepness=-1)),
        'rank_loss: steepness must be positive',
    ),
    (lambda c: augmented(c, rank_loss=dict(steepnes=1)), "no argument 'steepnes', did you mean"),
    (lambda c: augmented(c, rank_weight=-1), 'rank_weight must be a finite number, 0 at least'),
    # Checkpoints.
    (set_at('model.teacher_ckpt', GONE), "teacher_ckpt 'gone.pth' does not exist.*--cfg-options"),
    (set_at('model.teacher_ckpt', 3), 'teacher_ckpt must be a path or a URL, got 3'),
    (
        set_at('model.teacher.init_cfg', dict(type='Pretrained', checkpoint=GONE)),
        "model.teacher.init_cfg.checkpoint 'gone.pth' does not exist",
    ),
    (
        set_at('model.architecture.backbone.init_cfg', dict(type='Pretrained', checkpoint=GONE)),
        "model.architecture.backbone.init_cfg.checkpoint 'gone.pth' does not exist",
    ),
    (
        set_at('model.teacher.init_cfg', dict(type='mmengine.Pretrained', checkpoint='a.pth')),
        "model.teacher.init_cfg.type must be 'Pretrained', got 'mmengine.Pretrained'",
    ),
    (delete_at('model'), 'the config must have a model'),
]


def head_of(logits: int):
    def mutate(cfg: Config) -> None:
        for side in ('architecture', 'teacher'):
            cfg.model[side].head.num_classes = logits
        cfg.model.teacher_ckpt, cfg.allow_random_teacher = None, True

    return mutate


def fresh_teacher(**head):
    """A teacher without a checkpoint, which is meant."""

    def mutate(cfg: Config) -> None:
        cfg.model.teacher.head.update(head)
        cfg.model.teacher_ckpt, cfg.allow_random_teacher = None, True

    return mutate


def pick(cfg: Config, classes, of=None) -> None:
    """Picks the teacher's classes for the KL term."""
    distiller = cfg.model.distiller
    of = of and list(of)
    distiller.connectors = dict(
        pick=dict(type='mmkendall.SelectClasses', classes=list(classes), of=of)
    )
    distiller.loss_forward_mappings.loss_kl.preds_T.connector = 'pick'


def through_order_scores(cfg: Config) -> None:
    """Ranks leave the teacher's classes where they are."""
    distiller = cfg.model.distiller
    distiller.connectors = dict(order=dict(type='mmkendall.OrderScores'))
    for mapping in distiller.loss_forward_mappings.values():
        mapping.preds_T.connector = 'order'


def nan_teacher(cfg: Config) -> None:
    fresh_teacher(init_cfg=dict(type='Constant', layer='Linear', val=float('nan')))(cfg)


def feature_loss(loss: dict, source: str, names=('s_feature', 't_feature'), **options):
    def mutate(cfg: Config) -> None:
        distiller = cfg.model.distiller
        for side in ('student_recorders', 'teacher_recorders'):
            distiller[side].map = dict(type='ModuleOutputs', source=source)
        distiller.distill_losses.loss_map = loss
        distiller.loss_forward_mappings.loss_map = {
            name: record(student, 'map', **options)
            for name, student in zip(names, (True, False), strict=True)
        }

    return mutate


def two(*mutations):
    def mutate(cfg: Config) -> None:
        for mutation in mutations:
            mutation(cfg)

    return mutate


def single_logit(cfg: Config) -> None:
    """Images of one class, so that the head's own loss takes a single logit."""
    head_of(1)(cfg)
    digits = Digits(split='train')
    zeros = [index for index in range(len(digits)) if digits.get_data_info(index)['gt_label'] == 0]
    cfg.train_dataloader.dataset.indices = zeros[:16]


def inputs_of_fc(cfg: Config) -> None:
    cfg.model.distiller.student_recorders.fc.type = 'ModuleInputs'


def frozen_student(cfg: Config) -> None:
    """Records the student's labels of the data as its logits: no gradient goes there."""
    cfg.model.distiller.student_recorders.fc = dict(
        type='Parameter', source='backbone.layer1.0.conv1.weight'
    )


# What shows only on the model that is built, or on its first batch.
BUILT = [
    (
        two(
            set_at('model.type', 'mmrazor.SingleTeacherDistill'),
            set_at('model.data_preprocessor', dict(mean=[0.0], std=[255.0])),
        ),
        r"^model.data_preprocessor must have a type, got \{'mean': \[0.0\], 'std': \[255.0\]\}",
    ),
    (
        set_at(f'{D}.student_recorders.fc.source', 'head.fcc'),
        "student_recorders.fc records the module 'head.fcc', .*student does not have; .*head.fc",
    ),
    (set_at(f'{D}.teacher_recorders.fc.source', 'fc'), "module 'fc', .*teacher .*has head.fc"),
    (set_at(f'{D}.student_recorders.fc.source', 'backbone.layer9'), 'has .*backbone.layer4'),
    (
        set_at(f'{D}.student_recorders.fc', dict(type='Parameter', source='head.fc.weights')),
        "parameter 'head.fc.weights'.*head.fc.weight",
    ),
    (set_at('model.type', 'mmrazor.SingleTeacherDistil'), 'model.type: .*SingleTeacherDistill'),
    (set_at('model.teacher_dtyp', 'float16'), "'teacher_dtyp'"),
    (set_at('model.architecture.backbone.type', 'mmpretrain.ResNt'), "'mmpretrain.ResNt'.*ResNet"),
    (set_at('model.architecture.backbone.depth', 19), 'depth'),
    (delete_at('model.teacher'), 'teacher'),
    (set_at('visualizer.type', 'Visualiser'), "visualizer.type: .*'Visualiser' is not known"),
    (set_at('default_hooks.logger.type', 'LogHook'), "default_hooks.logger.type: .*'LogHook'"),
    # Teachers.
    (set_at('model.teacher_ckpt', None), 'weights would be random.*allow_random_teacher=True'),
    (delete_at('model.teacher_ckpt'), 'weights would be random.*allow_random_teacher=True'),
    (
        two(
            set_at('model.teacher_ckpt', None),
            set_at(
                'model.teacher.backbone.init_cfg',
                dict(type='Pretrained', checkpoint='torchvision://resnet18'),
            ),
        ),
        'no init_cfg of its head is of type Pretrained',
    ),
    (
        set_at('model.teacher.backbone.depth', 34),
        r'tensors of the teacher, .* are missing \(backbone.layer1',
    ),
    (
        two(
            set_at('model.teacher.backbone.base_channels', 8),
            set_at('model.teacher.head.in_channels', 64),
        ),
        r'tensors of the teacher, .* have another shape \(backbone',
    ),
    (
        set_at('model.teacher.head.num_classes', 13),
        r'another shape \(head.fc.weight \(10, 128\) for \(13, 128\)',
    ),
    (nan_teacher, 'NaN or infinite.*teacher.head.fc.weight'),
    (
        set_at('train_dataloader.dataset.metainfo', dict(classes=tuple('9876543210'))),
        "same classes in another order: logit 0 is '0' to the teacher and '9' in the data",
    ),
    (
        set_at('train_dataloader.dataset.metainfo', dict(classes=tuple('012345678x'))),
        "not the same: '9' only in the teacher, 'x' only in the data",
    ),
    (
        two(
            set_at('train_dataloader.dataset.metainfo', dict(classes=tuple('9876543210'))),
            through_order_scores,
        ),
        "same classes in another order: logit 0 is '0' to the teacher and '9' in the data",
    ),
    # The first batch.
    (
        lambda c: (fresh_teacher(num_classes=13)(c), pick(c, [0, 1, 2, 3, 4, 5, 6, 7, 8, 13])),
        "preds_T: .* does not go through the connector 'pick': .*picks class 13, counted from 0",
    ),
    (
        lambda c: (fresh_teacher(num_classes=13)(c), pick(c, '1023456789', 'abc0123456789')),
        "pick.classes must be those of the training data.* class 0 is '1' there and '0'",
    ),
    (
        lambda c: pick(c, '0123456789', 'abc012345678'),
        "no class in of is called '9', of 12 such as 'a'",
    ),
    (lambda c: pick(c, '0123456789'), 'picks by name, and of is None'),
    (lambda c: pick(c, [0, 0]), 'classes must be at least one, each once'),
    (lambda c: pick(c, [0, '1']), 'classes must be numbers from 0 or names, not both'),
    (fresh_teacher(num_classes=13), 'the student has 10 classes .* and the teacher 13'),
    (
        lambda c: (
            rank(c),
            delete_at(KL)(c),
            delete_at(RECORDS)(c),
            fresh_teacher(num_classes=13)(c),
        ),
        'loss_rank: the student has 10 classes .* and the teacher 13',
    ),
    (single_logit, 'loss_kl, a KLDivergence, is constant on a single logit'),
    (
        lambda c: (single_logit(c), rank(c), delete_at(KL)(c), delete_at(RECORDS)(c)),
        'loss_rank, a KendallRankLoss, is constant on a single logit',
    ),
    (
        set_at(
            f'{D}.student_recorders.fc',
            dict(type='MethodOutputs', source='mmpretrain.models.heads.ClsHead.loss'),
        ),
        'records a dict with loss: record a module whose output is the logits',
    ),
    (
        set_at('model.teacher_ckpt', 'http://127.0.0.1:9/teacher.pth'),
        'http://127.0.0.1:9/teacher.pth could not be fetched',
    ),
    (head_of(5), 'out of bounds|out of range|device-side'),
    (
        inputs_of_fc,
        r'records a tuple of 1: name one of them with data_idx; 0 is a tensor \(8, 32\)',
    ),
    (set_at(f'{RECORDS}.preds_S.data_idx', 0), 'data_idx is 0, .* records a tensor'),
    (
        two(inputs_of_fc, set_at(f'{RECORDS}.preds_S.data_idx', 4)),
        'data_idx is 4, .* records a tuple of 1',
    ),
    (set_at(f'{RECORDS}.preds_S.record_idx', 1), 'record_idx is 1, .* recorded 1 times'),
    (
        set_at(f'{D}.student_recorders.fc.source', 'head.loss_module'),
        r'preds_S .*records|cannot be computed',
    ),
    (frozen_student, 'cannot be computed|no gradient'),
    (
        feature_loss(dict(type='L2Loss'), 'backbone.layer4'),
        r'loss_map cannot be computed of s_feature a tensor \(8, 32.*t_feature a tensor \(8, 128',
    ),
    (
        feature_loss(dict(type='ATLoss'), 'data_preprocessor'),
        'recorder .map. .* recorded nothing',
    ),
    (
        two(
            set_at(
                f'{D}.connectors',
                dict(grow=dict(type='ConvModuleConnector', in_channel=7, out_channel=9)),
            ),
            feature_loss(dict(type='L2Loss'), 'backbone.layer4', connector='grow'),
        ),
        'does not go through the connector .grow.',
    ),
    (
        two(
            set_at(KL, dict(type='WSLD', num_classes=7)),
            set_at(
                f'{D}.student_recorders.gt', dict(type='ModuleInputs', source='head.loss_module')
            ),
            set_at(
                RECORDS,
                dict(
                    student=record(),
                    teacher=record(False),
                    gt_labels=record(recorder='gt', data_idx=1),
                ),
            ),
        ),
        'loss_kl cannot be computed of student a tensor',
    ),
    (lambda c: dense(c), r'loss_kl cannot be computed .*num_classes'),
    (
        set_at('train_dataloader.batch_size', 5),
        r'last batch .* a single image \(16 images in batches of 5\).*drop_last=True',
    ),
    (
        set_at('train_dataloader.dataset.type', 'mmkendall.Digit'),
        'dataset.type: .*mmkendall.Digits',
    ),
    (set_at('train_dataloader.dataset.split', 'train1'), "split must be 'train' or 'test'"),
    (set_at('train_dataloader.dataset.pipeline.0.type', 'Crop'), "'Crop' is not known"),
    (set_at('optim_wrapper.optimizer.type', 'SGDD'), "optimizer.type: .*'SGDD' is not known.*SGD"),
    (set_at('optim_wrapper.optimizer.lr', '0.1'), "lr|'str'"),
    (set_at('param_scheduler.type', 'CosineLR'), "param_scheduler.type: .*'CosineLR'"),
    (set_at('train_cfg.max_epochs', 'many'), 'many|str'),
    (set_at('model.architecture.backbone.in_channels', 3), 'channels|size'),
    (set_at('model.architecture.head.in_channels', 31), 'shapes'),
]
