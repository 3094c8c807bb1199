from mmkendall.models.connectors.logit_standardization import LogitStandardization

__all__ = ['LogitStandardization']
