# DIST for a vision transformer. No published values were found: these are those of the CNN pairs.
_base_ = ['./dist.py']

model = dict(distiller=dict(student_recorders=dict(fc=dict(source='head.layers.head'))))
