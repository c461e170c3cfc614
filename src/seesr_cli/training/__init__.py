"""The published training recipe, sized by configuration (extra `train`); nothing the command line runs imports it.

photographs.py   pictures in memory, crops of them
kernels.py       the blur kernels of the degradation
degradation.py   clean picture -> degraded picture
textures.py      pictures made by the recipe itself
attributes.py    what can be measured on a clean picture and be said in a word
lora.py          low-rank updates of linear layers, and how to fold them
tagger.py        teacher: labels from pictures · dape.py: student, degraded pictures
autoencoder.py   the VAE · restorer.py: ControlNet and UNet, as published and from nothing
measures.py      PSNR, SSIM, F1
schedule.py      learning rate and averaged weights, the same for every stage
"""
