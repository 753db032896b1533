"""The net: its description, its layers, its arrays on a device, and what trains it.

================  ==============================================================
`net`             `Net`: a net as data, a graph of layers
`zoo`             the architectures that come along, and nets from JSON files
`layers`          the layers that a net can have, a file each
`normalization`   how a net's input is made of pixels
`arena`           parameters in one flat array; the plan of the gradients' buffers
`device_net`      `DeviceNet`: a net on one device, its arrays and its layers' passes
`pixel_input`     crops of uint8 images on the device
`optim`           `SGD`
`schedules`       how the learning rate falls
`summary`         the table of layers
================  ==============================================================

`pyalexnet.Model` puts a net on one device or two.
"""
