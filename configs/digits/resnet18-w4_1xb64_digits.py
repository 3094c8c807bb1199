# The student of the digits pair, alone.
_base_ = ['./resnet18-w16_1xb64_digits.py']

model = dict(_delete_=True, **_base_.student)
