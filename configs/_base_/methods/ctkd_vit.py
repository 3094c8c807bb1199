# CTKD for a vision transformer. No published values were found: these are those of the CNN pairs,
# the reversal rising over the first 10 of here 300 epochs.
_base_ = ['./ctkd.py']

model = dict(distiller=dict(student_recorders=dict(fc=dict(source='head.layers.head'))))
