"""numpy 2 no longer wraps a negative Python integer into uint8, and mmcv's hue shift relies on it.

``mmcv.adjust_hue`` with a negative factor, half of all draws of mmpretrain's ``ColorJitter``, dies
with an OverflowError. Until mmcv takes the factor modulo 256.
"""

from __future__ import annotations

import functools

import numpy as np

BREAKS = 'mmcv.adjust_hue (ColorJitter) overflows on a negative factor under numpy 2'
PACKAGES = ('mmcv', 'cv2')


def is_broken() -> bool:
    import mmcv

    try:
        mmcv.adjust_hue(np.zeros((1, 1, 3), np.uint8), -0.1, backend='cv2')
    except OverflowError:
        return True
    return False


def mend() -> None:
    import mmcv
    from mmcv.image import photometric

    original = photometric.adjust_hue

    @functools.wraps(original)
    def adjust_hue(img: np.ndarray, hue_factor: float, backend: str | None = None) -> np.ndarray:
        if not -0.5 <= hue_factor < 0:
            return original(img, hue_factor, backend)
        original(img, 0.0, backend)  # Its checks of img and backend.
        if img.ndim == 2:
            return img
        return _turn(img, np.uint8(int(hue_factor * 255) % 256), backend or mmcv.imread_backend)

    for module in (photometric, mmcv.image, mmcv):
        module.adjust_hue = adjust_hue


def _turn(img: np.ndarray, steps: np.uint8, backend: str) -> np.ndarray:
    """A BGR image (H, W, 3) with its hue turned by ``steps`` of 256."""
    if backend == 'pillow':
        from PIL import Image

        hue, saturation, value = Image.fromarray(img[..., ::-1]).convert('HSV').split()
        hue = Image.fromarray(np.asarray(hue) + steps)
        turned = Image.merge('HSV', (hue, saturation, value)).convert('RGB')
        return np.array(turned, dtype=img.dtype)[..., ::-1]
    import cv2

    hsv = cv2.cvtColor(img.astype(np.uint8), cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] += steps
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL).astype(img.dtype)
