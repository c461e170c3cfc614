"""Measure results: how near they are to references, how natural they look, and what departs from their input.

`pixels` are [H, W, 3] arrays of 8 bits, as the published protocol measures them. `fidelity` needs a reference, `niqe`
the result alone, `consistency` the input.
"""
