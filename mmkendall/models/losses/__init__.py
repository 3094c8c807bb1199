from mmkendall.models.losses.kendall_rank_loss import KendallRankLoss

__all__ = ['KendallRankLoss']
