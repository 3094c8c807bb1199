"""The compiled loops behind ``numba_cpu``. Importing a module of this folder imports Numba.

An ``entry`` is called from Python. Every ``*_rows`` function works through the rows ``rows`` of
``preds_S`` and ``preds_T`` (N, C), which must be finite, and writes their ``loss`` (N,) and, when
``need_grad``, their gradient ``grad`` (N, C) times ``weight``.

Two rules keep the loops vectorised: inner loops run over slices that start at their first element
(an offset would keep Numba's test for negative indices), and constants come in as arguments of
the rows' dtype. Fast-math never assumes the absence of infinities or NaN.
"""
