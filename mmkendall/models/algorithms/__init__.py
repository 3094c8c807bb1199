from mmkendall.models.algorithms.logit_distill import LogitDistill

__all__ = ['LogitDistill']
