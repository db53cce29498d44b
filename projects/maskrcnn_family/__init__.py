"""Heads that grew out of Mask R-CNN, each a plug-in of ``maskrcnn_repro``: one package of a paper's idea per folder.

Importing this package registers nothing. A config names the folder that it needs in ``PLUGINS``, for example
``maskrcnn_family.cascade``; that of DensePose or Hybrid Task Cascade registers the one it builds upon, too. Registered
names hold ``Family`` or, of a function, ``family``, so that they stand beside Detectron2's own.
"""
