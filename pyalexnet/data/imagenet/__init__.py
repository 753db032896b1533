"""The implementation of pyalexnet-prepare: converts ImageNet's archives to shards.

=============  ==============================================================
`prepare`      the command's functions: `prepare` and `verify`
`archives`     lists the images in archives and folders
`tar`          reads the headers of archives
`listing`      compact lists of millions of images
`devkit`       class names and validation labels of ILSVRC2012
`matlab`       reads the devkit's meta.mat
`labels`       assigns labels to all images, using those above
`preparation`  the state of the output folder, for resuming
`writing`      writes and verifies shards, in the processes of a `pool`
=============  ==============================================================

`data.sources.shards` reads the output.
"""
