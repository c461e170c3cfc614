"""Training as published, and from nothing (extra `train`); restoring never imports it.

recipe.py        every number of a run, from TOML (`recipes/`) and `--set`
sources.py       pictures in folders, lists and shards, by number · samples.py: sample n of a run
kernels.py       the blur kernels of the degradation · degradation.py: clean picture -> degraded picture
objective.py     the loss of a denoiser as a choice, and what learns
lora.py          low-rank updates of linear layers: put on, published names, folded in
stages.py        DAPE and SeeSR as the engine sees them: loss, files, export
engine.py        the run on any number of devices · dry_run.py · checkpoint.py · validation.py · page.py
optimise.py      learning rates, AdamW, a step, averaged weights

In memory, for models of a few million weights: photographs.py, pairs.py, restorer.py (the SeeSR stage), dape.py,
teacher.py (a tagger from labels), autoencoder.py (a VAE), folder.py (what comes out), evaluation.py
"""
