"""Batches, prefetched by threads or processes.

===========  ============================================================
`loader`     `Loader`: batches in order, epoch after epoch
`workers`    fill the batches: `Inline`, `Threads`, `Processes`
`processes`  starts processes that end with this one
===========  ============================================================
"""
