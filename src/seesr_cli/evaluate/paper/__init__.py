"""The metrics of the papers that are networks: defined here, with the names of the published files.

`lpips`, `dists` and `fid` need references; `clipiqa`, `musiq` and `maniqa` the result alone. `load` reads their files.
Each is computed in float32, of whole pictures, as pyiqa calls it; docs/evaluate.md has the protocol.
"""
