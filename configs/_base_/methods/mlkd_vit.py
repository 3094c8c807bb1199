# MLKD for a vision transformer. No published values were found: these are those of the CNN pairs,
# but for the schedule, the 300 epochs of the other methods.
_base_ = ['./mlkd.py']

model = dict(distiller=dict(student_recorders=dict(fc=dict(source='head.layers.head'))))
