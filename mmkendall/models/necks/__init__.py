"""What stands between a backbone and a head."""

from mmkendall.models.necks.first_token import FirstToken

__all__ = ['FirstToken']
