from mmkendall.evaluation.metrics.kendall_tau import KendallTau

__all__ = ['KendallTau']
