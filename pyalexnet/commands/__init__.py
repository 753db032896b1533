"""The commands. Each module has its command's parser, run and output, and `main(arguments)`.

==========  =====================  ================================================
`train`     pyalexnet-train        trains a net, or evaluates a run's checkpoints
`evaluate`  pyalexnet-eval         loss and errors of checkpoints on validation images
`predict`   pyalexnet-predict      the most probable classes of image files
`prepare`   pyalexnet-prepare      ImageNet's archives to shards of small images
`info`      python -m pyalexnet    the build, and the devices usable here
            info
`common`    –                      exit statuses, error reporting, shared options
`arguments` –                      parsing, help, answers to unknown options
==========  =====================  ================================================

``python -m pyalexnet`` runs each of them too, see `pyalexnet.__main__`.
"""
