# The student of docs/own_config.md alone, without a teacher.
_base_ = ['./resnet34_1xb32_folder.py']

model = dict(backbone=dict(depth=18))
