"""Trained nets on images: loss and errors, predictions, and the files with them.

============  ===================================================================
`evaluate`    `evaluate`: loss and errors of checkpoints on validation images
`predict`     `predict`: the most probable classes of images
`classifier`  `load`: a trained net that stays loaded, and takes images of any kind
`pixels`      files, images of Pillow's and arrays as a net reads them
`members`     `load_members`: the models of checkpoints with the same classes
`views`       `views`: the crops of an image; `average`: the mean of their probabilities
`tally`       `Tally`: loss, errors and confusions counted from probabilities
`writers`     predictions as CSV or in ILSVRC's format; `class_table`
`figure`      `draw`: images above their most probable classes as bars
============  ===================================================================

`training` does not import this package: it validates by `training.validation`.
"""
