"""AlexNet from hand-written kernels up: one CUDA source that runs on NVIDIA GPUs and on CPUs.

`nets` describes nets as data, `model` puts one on a `device` and trains it, `ops` offers the
kernels as functions on arrays.
"""
