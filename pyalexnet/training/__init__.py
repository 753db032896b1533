"""Training: from options to checkpoints.

================  ==============================================================
`options`         `Options`: what the user gives
`plan`            `Plan`: what the run does, with everything decided
`recipes`         options by name, from recipes.toml
`state`           `TrainingState`: model, optimiser, schedule and progress
`trainer`         `train`: the loop over epochs and steps
`validation`      loss and errors on the validation images
`report`          what a run tells its user; `display` prints, `metrics` writes metrics.jsonl,
                  `curve` draws it
`checkpoint`      the file of a run, or of a model; `checkpoint_fields` checks what is in it,
                  `tensor_file` has the format
`run_folder`      the run's folder: new, resumed or replaced
`interruption`    the signals that stop a run
================  ==============================================================
"""
