from mmkendall import compat

compat.apply()
