from mmkendall.models.connectors.logit_standardization import LogitStandardization
from mmkendall.models.connectors.select_classes import SelectClasses

__all__ = ['LogitStandardization', 'SelectClasses']
