from __future__ import annotations

import pytest
import torch

from mmkendall.models import (
    BiLDLoss,
    CTKDLoss,
    DKDLoss,
    ListMLELoss,
    MLKDLoss,
    PearsonLoss,
    PLDLoss,
    WTTMLoss,
)

LOSSES = [
    kind()
    for kind in (
        *(BiLDLoss, CTKDLoss, DKDLoss, ListMLELoss, MLKDLoss, PearsonLoss, PLDLoss, WTTMLoss),
    )
]


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: str(loss))
def test_is_computed_in_float32(loss):
    student, teacher = (3 * torch.randn(2, 8, 50)).bfloat16()
    labels = (torch.randint(50, (8,)),) if isinstance(loss, (DKDLoss, PLDLoss)) else ()
    expected = loss(student.float(), teacher.float(), *labels)
    torch.testing.assert_close(loss(student, teacher, *labels), expected)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        torch.testing.assert_close(loss(student, teacher, *labels), expected)
