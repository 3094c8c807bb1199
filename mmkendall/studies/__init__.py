"""Studies: several ways to train a student, compared under the same conditions.

``study``
    Reads what a study asks: teachers, cases, arms, seeds.
``plan``
    Which trainings that takes, and where each is kept.
``worker``
    Carries out one of them, in a process of its own.
``execute``
    Several at a time, on this machine or a cluster.
``teachers``
    What a teacher says, and what is done to it.
``statistics``, ``results``, ``report``
    What came out, how certain it is, and the page that says so.
``zoo``, ``finished_run``, ``settings``
    Trainings of the zoo's configs by anybody: what their work directories say.
"""
