"""One net on several devices, or trained by several processes.

================  ==============================================================
`split`           the paper's two towers of a net
`exchange`        the layer in which the towers meet
`communicator`    what the processes of a job do together: `SingleProcess`, `MpiProcess`
`gradient_sum`    sums gradients over processes during the backward pass
`nccl`            the sums over GPUs
================  ==============================================================
"""
