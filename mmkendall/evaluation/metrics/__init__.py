from mmkendall.evaluation.metrics.keep_predictions import KeepPredictions
from mmkendall.evaluation.metrics.kendall_tau import KendallTau

__all__ = ['KeepPredictions', 'KendallTau']
