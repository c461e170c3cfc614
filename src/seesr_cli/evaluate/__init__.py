"""Measure results: closeness to references, natural look, and departure from their inputs.

`pixels` are [H, W, 3] arrays of 8 bits, as the published protocol measures them. `fidelity` needs a reference, `niqe`
the result alone, `consistency` the input.
"""
