from mmkendall.models.connectors.logit_standardization import LogitStandardization
from mmkendall.models.connectors.order_scores import OrderScores
from mmkendall.models.connectors.select_classes import SelectClasses

__all__ = ['LogitStandardization', 'OrderScores', 'SelectClasses']
