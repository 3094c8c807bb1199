from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModel, ModuleList
from torch import Tensor, nn

from mmkendall.models.algorithms.channels_last import keep_narrow_convolutions_contiguous
from mmkendall.models.algorithms.checkpoints import (
    allow_missing_teacher,
    drop_teacher,
    warn_of_another_teacher,
    weights_checksum,
)
from mmkendall.models.algorithms.loading import LoadingCheck, take_plain_student, watch_parts
from mmkendall.models.algorithms.passing_on import PassesOn
from mmkendall.models.algorithms.records import (
    check_student_records,
    forbid_inplace,
    has_labels,
)
from mmkendall.models.algorithms.student_settings import (
    adopt_settings,
    fill_in,
    tell_classes,
)
from mmkendall.models.algorithms.teacher_input import TeacherInput
from mmkendall.models.algorithms.teacher_logits import TeacherLogits, check_unmixed
from mmkendall.models.algorithms.teacher_precision import check_precision, precision
from mmkendall.models.algorithms.teacher_recorders import TeacherRecorders
from mmkendall.models.algorithms.teachers import (
    build,
    build_model,
    build_teacher,
    check_single_teacher_arguments,
    teacher_entries,
    warn_of_random_teachers,
)
from mmkendall.models.algorithms.unused_parameters import use_all_parameters
from mmkendall.registry import MODELS


@MODELS.register_module()
class LogitDistill(PassesOn, BaseModel):
    """Distils the logits of frozen teachers into a student, with mmrazor's distillers.

    A stand-in for mmrazor's ``SingleTeacherDistill``: change ``type``, keep the rest. Its
    ``teacher_trainable``, ``teacher_norm_eval`` and ``student_trainable`` are accepted with their
    defaults only, as the teacher is always frozen here and the student always trained. Other than
    there

    - the whole teacher is in eval mode, always: dropout and drop-path too, not BatchNorm alone;
    - no teacher loss is computed: the teacher runs in ``mode='tensor'`` and inference mode, in a
      precision of its own. What its recorders record is handed to the losses as contiguous
      float32 tensors that autograd accepts;
    - there may be several teachers, each with its own weight, normalisation and input size;
    - the teacher's logits may come from disk instead (``teacher_logits``), also those of a teacher
      that is no network;
    - a checkpoint does not hold a teacher that can be loaded from its own;
    - the teacher does not run once ``StopDistillHook`` has stopped distillation;
    - ``train()`` returns the model.

    With several teachers every distillation loss is computed against each of them, and the
    weighted mean is taken, weights divided by their sum: ``sum_m w_m L(student, teacher_m)``.
    For KL that has the gradient of one teacher whose probabilities are the weighted mean; for a
    ranking loss it makes each teacher's ranking count by its weight. Averaging logits would let
    the teacher with the largest logits decide, averaging probabilities would fix a temperature.

    It stands for its student: attributes that it lacks are read and set there, so that hooks find
    ``model.head``. A checkpoint of the plain student loads as well as one of a distillation; what
    is of neither is refused. Models given as objects keep their weights.

    A teacher whose ``data_preprocessor`` has a mean sees images normalised by it, made from the
    student's (see :class:`TeacherInput`); another one sees the student's input.

    Args:
        architecture: the student, a model or its config.
        teacher: None where ``teacher_logits`` were made from a table of scores, the default; else
            a model or its config; or a list of dicts, one a teacher, with ``model``, and if
            wanted ``checkpoint``, ``weight`` (default 1.0), ``input_size`` (pixels, int or
            (height, width); default the student's), ``recorders`` (in place of the distiller's
            ``teacher_recorders``, under the same names).
        distiller: config of a ``ConfigurableDistiller`` or a subclass.
        teacher_ckpt: checkpoint of a single teacher, path or URL. Defaults to None.
        teacher_dtype: ``'float32'``, ``'bfloat16'`` or ``'float16'``: autocast of the teacher
            alone; a CPU with an old torch knows no float16. Defaults to None, the student's.
        teacher_logits: folder of cached logits, made by
            ``tools/dataset_converters/cache_teacher_logits.py``, or from a table of scores by
            ``scores_to_teacher_logits.py``; the training dataset must be a
            ``mmkendall.FixedViews``. Losses are those of the live teacher on the same images, up
            to float32 rounding (kernels may round otherwise in a batch of other size), or up to
            1 part in 2048 of each logit when stored as float16. Of a table the one recorder of
            ``teacher_recorders`` is only a name that losses read. Defaults to None.
        save_teacher: keep the teacher's weights in checkpoints. A teacher that has no checkpoint
            of its own (``teacher_ckpt``, ``checkpoint`` or ``init_cfg`` of type Pretrained) is
            kept in any case. Checkpoints of both kinds load. Defaults to False.
        calculate_student_loss: add the student's own loss. Without it images need no labels, if
            the losses record nothing that the student's loss computes. Defaults to True.
        channels_last: run student and teacher in the memory format that convolutions like best
            on many devices. Equal up to rounding; a loss that calls ``view`` on a student's
            feature map may refuse it. Strided 1x1 convolutions of a student's few channels stay
            as they are on a CPU, where oneDNN's gradient of them writes out of bounds in this
            format. Defaults to False.
        teacher_module_inplace: leave inplace activations of the teacher. Defaults to False, so
            that no record is overwritten.
        module_inplace: the same for the student. Defaults to False.
        data_preprocessor: config or module, completed by what the student says: the type if it
            has none, batch augmentation (``train_cfg.augments``). Defaults to None, the student's.
        init_cfg: of mmengine's ``BaseModel``. Defaults to None.

    Raises:
        TypeError, ValueError: an option that cannot be, when it is built.
        CheckpointError: a ValueError; a checkpoint, of a teacher or loaded later, that is of
            another model.
        RuntimeError: a recorder recorded nothing, or nothing is left to train, at an iteration.
        ValueError: the device does not know ``teacher_dtype``, likewise.
        TeacherLogitsError: cached logits are of other images or of another teacher.

    Attributes:
        teacher_loading: a :class:`LoadingCheck` each teacher, with what came of its checkpoint.
        student_loading: that of the student.

    Example:
        ::

            model = dict(
                type='mmkendall.LogitDistill',
                architecture=dict(...),
                teacher=dict(...),
                teacher_ckpt='teacher.pth',
                teacher_dtype='bfloat16',
                distiller=dict(_scope_='mmrazor', type='ConfigurableDistiller', ...))
            val_cfg = dict(type='mmkendall.DistillValLoop')
    """

    def __init__(
        self,
        architecture: dict | BaseModel,
        teacher: dict | BaseModel | Sequence[dict] | None = None,
        distiller: dict | None = None,
        teacher_ckpt: str | None = None,
        teacher_dtype: str | None = None,
        teacher_logits: str | None = None,
        save_teacher: bool = False,
        calculate_student_loss: bool = True,
        channels_last: bool = False,
        teacher_module_inplace: bool = False,
        module_inplace: bool = False,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
        **of_single_teacher: bool,
    ) -> None:
        check_single_teacher_arguments(of_single_teacher)
        check_precision(teacher_dtype)
        entries = teacher_entries(teacher, teacher_ckpt)
        if not entries and teacher_logits is None:
            raise ValueError(
                'teacher must be a model, its config or a list of teachers, got None: without one '
                'teacher_logits must name logits that were made from a table of scores'
            )
        if distiller is None:
            raise TypeError('distiller must be the config of a ConfigurableDistiller, got None')

        student = build_model(architecture, 'architecture')
        super().__init__(fill_in(data_preprocessor, student), init_cfg)
        self.architecture = student
        adopt_settings(self.data_preprocessor, student)
        self.distiller = build(distiller)
        self.teacher_dtype = teacher_dtype
        self.save_teacher = save_teacher
        self.calculate_student_loss = calculate_student_loss
        self.channels_last = channels_last
        # mmrazor's StopDistillHook sets it.
        self.distillation_stopped = False

        built = [build_teacher(entry) for entry in entries]
        models = [model for model, _ in built]
        # mmengine's list, which initialises what is in it.
        self.teacher = models[0] if len(models) == 1 else ModuleList(models)
        self.teacher.requires_grad_(False)
        tell_classes(self.data_preprocessor, [student, *models])
        total = sum(entry['weight'] for entry in entries)
        self.teacher_weights = [entry['weight'] / total for entry in entries]
        self.teacher_inputs = nn.ModuleList(
            TeacherInput(self.data_preprocessor, model.data_preprocessor, entry['input_size'])
            for entry, model in zip(entries, models, strict=True)
        )
        self.teacher_loading = [loading for _, loading in built]

        if not module_inplace:
            forbid_inplace(self.architecture)
        if not teacher_module_inplace:
            forbid_inplace(self.teacher)
        if channels_last:
            self.to(memory_format=torch.channels_last)
            keep_narrow_convolutions_contiguous(self.architecture)
        self._prepare_recorders(distiller, [entry['recorders'] for entry in entries])
        self.student_loading = LoadingCheck(student, 'student')
        watch_parts(student, 'student')
        self._register_load_state_dict_pre_hook(take_plain_student, with_module=True)
        self._register_load_state_dict_pre_hook(warn_of_another_teacher, with_module=True)
        self._register_state_dict_hook(drop_teacher)
        self.register_load_state_dict_post_hook(allow_missing_teacher)

        self.teacher_logits = teacher_logits
        self._cache: TeacherLogits | None = None
        if teacher_logits is not None:
            self._check_cacheable()
        self._built = True

    @property
    def student(self) -> BaseModel:
        """The architecture, by mmrazor's other name."""
        return self.architecture

    @property
    def teachers(self) -> list[BaseModel]:
        """The teachers, also if there is one, or none."""
        return list(self.teacher) if isinstance(self.teacher, nn.ModuleList) else [self.teacher]

    @property
    def teacher_classes(self) -> list[tuple[str, ...] | None]:
        """The classes that each teacher's checkpoint names in its meta, None where unknown."""
        return [loading.classes for loading in self.teacher_loading]

    def train(self, mode: bool = True) -> LogitDistill:
        """Sets the mode of everything but the teachers, which stay in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list | Tensor | tuple:
        """Losses of distillation in ``mode='loss'``, else what the student says.

        Args:
            inputs: (N, C, H, W), normalised for the student.
            data_samples: annotations, needed for ``'loss'``.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.
        """
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.architecture(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """``student.*`` and ``distill.*`` terms of one batch."""
        distiller = self.distiller
        distiller.set_deliveries_override(False)
        if self.teacher_logits is not None and not self.distillation_stopped:
            self._record_cached(data_samples)
        elif self._recorders.delivers or not self.distillation_stopped:
            self._record_live(inputs, data_samples)

        distiller.set_deliveries_override(True)
        mode = 'loss' if self.calculate_student_loss or has_labels(data_samples) else 'tensor'
        with distiller.student_recorders, distiller.deliveries:
            student_losses = self.architecture(inputs, data_samples, mode=mode)
        return self._all_losses(student_losses, mode)

    def _all_losses(self, student_losses: dict[str, Tensor], mode: str = 'loss') -> dict:
        """The student's own losses and those of distillation, once all is recorded."""
        losses = {}
        if self.calculate_student_loss:
            losses.update({f'student.{name}': loss for name, loss in student_losses.items()})
        if not self.distillation_stopped:
            check_student_records(self.distiller, mode)
            distill_losses = self._recorders.distill_losses(self.teacher_weights)
            losses.update({f'distill.{name}': loss for name, loss in distill_losses.items()})
        trained = [*self.distiller.parameters()]
        if not self.calculate_student_loss:
            trained += self.architecture.parameters()
        use_all_parameters(losses, trained)
        return losses

    @torch.no_grad()
    def teacher_val_step(self, data: dict | list | tuple, index: int = 0) -> list:
        """What a teacher predicts for a batch from the dataloader.

        Args:
            data: the batch, before any data preprocessor.
            index: which teacher. Defaults to 0.
        """
        data = self.data_preprocessor(data, False)
        return self._run_teacher(index, data['inputs'], data.get('data_samples'), 'predict')

    @torch.no_grad()
    def compute_teacher_logits(self, inputs: Tensor, data_samples: list) -> Tensor:
        """The record that the losses read, of each live teacher: float32 (N, teachers, classes).

        Args:
            inputs: (N, C, H, W), normalised for the student.
            data_samples: annotations.

        Raises:
            ValueError: the losses read more than one record, or it is no (N, classes).
        """
        name = self._logit_recorder()
        self.distiller.set_deliveries_override(False)
        self._record_live(inputs, data_samples)
        return self._recorders.logits(name)

    def teacher_checksums(self) -> list[str]:
        """SHA-256 of each teacher's weights, in order."""
        return [weights_checksum(teacher) for teacher in self.teachers]

    def teacher_fingerprint(self) -> dict[str, Any]:
        """What the teachers' logits depend on beside the image, to tell whether it changed."""
        return {
            'weights': self.teacher_checksums(),
            'inputs': [teacher_input.describe() for teacher_input in self.teacher_inputs],
            'sources': self._recorders.sources(self._logit_recorder()),
            'dtype': self.teacher_dtype or 'float32',
        }

    def _prepare_recorders(self, distiller: dict, own: list[dict | None]) -> None:
        self.distiller.prepare_from_student(self.architecture)
        shared = distiller.get('teacher_recorders')
        self._recorders = TeacherRecorders(self.distiller, self.teachers, shared, own)

    def _logit_recorder(self) -> str:
        return self._recorders.logit_recorder()

    def _check_cacheable(self) -> None:
        self._logit_recorder()
        if self._recorders.delivers:
            raise ValueError('teacher_logits and distill_deliveries exclude each other')
        check_unmixed(self.data_preprocessor)

    def _run_teacher(self, index: int, inputs: Tensor, data_samples: list | None, mode: str):
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with precision(inputs.device.type, self.teacher_dtype):
            inputs = self.teacher_inputs[index](inputs)
            return self._teacher_forward(self.teachers[index], inputs, data_samples, mode)

    def _teacher_forward(
        self, teacher: BaseModel, inputs: Tensor, data_samples: list | None, mode: str
    ):
        return teacher(inputs, data_samples, mode=mode)

    def _record_live(self, inputs: Tensor, data_samples: list | None) -> None:
        """Fills the teachers' recorders by running the teachers."""
        warn_of_random_teachers(self.teacher_loading)
        for index in range(len(self.teachers)):
            run = partial(self._run_teacher, index, inputs, data_samples, 'tensor')
            self._recorders.record(index, run)

    def _record_cached(self, data_samples: list | None) -> None:
        """Fills the teachers' recorders with logits from disk."""
        check_unmixed(self.data_preprocessor)  # Hooks turn mixing on in mid-run.
        if self._cache is None:
            cache = TeacherLogits(self.teacher_logits)
            cache.check_teachers(self.teacher_fingerprint())
            self._cache = cache
        logits = self._cache.of_batch(data_samples)
        self._recorders.fill(self._logit_recorder(), logits.to(self.data_preprocessor.device))
