from mmkendall.models.algorithms.logit_distill import LogitDistill
from mmkendall.models.algorithms.roi_logit_distill import RoILogitDistill

__all__ = ['LogitDistill', 'RoILogitDistill']
