"""CfgNode (fvcore's, with files opened by our PathManager and a version) and ``@configurable``."""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import yaml
from fvcore.common.config import CfgNode as _CfgNode

from detectron2._absent import INSTALL_PAGE, module_getattr
from detectron2.utils.file_io import PathManager


class _Loader(yaml.SafeLoader):
    """YAML without tags that run code; tuples pass."""


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node))
)


class CfgNode(_CfgNode):
    """A tree of configuration keys; YAML files and ``KEY VALUE`` lists are merged over it.

    A YAML file names its parent in ``_BASE_``, relative to itself, and may say which ``VERSION`` of
    the keys it was written for.
    """

    @classmethod
    def _open_cfg(cls, filename: str):
        return PathManager.open(filename, "r")

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """Return the keys of a YAML file over those of its bases; see :meth:`merge_from_file`."""
        with cls._open_cfg(filename) as file:
            try:
                yaml.load(file, _Loader)
            except yaml.YAMLError as error:
                raise ValueError(f"{filename}: {' '.join(str(error).split())}") from None
        return super().load_yaml_with_base(filename, allow_unsafe=allow_unsafe)

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Merge a YAML file and its bases into this node.

        Args:
            cfg_filename: a path or URL.
            allow_unsafe: accept YAML tags for tuples. Unlike Detectron2's, tags for other Python
                objects are refused in any case: they can run code.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is for another version of the keys, is no YAML, has tags for Python
                objects, or is its own base.
            KeyError: the file has a key that this node lacks.
        """
        if not PathManager.isfile(cfg_filename):
            raise FileNotFoundError(f"There is no config file {cfg_filename!r}.")
        try:
            content = type(self)(self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe))
        except RecursionError:
            raise ValueError(f"{cfg_filename} refers to itself, or is nested too deeply.") from None
        version = content.get("VERSION")
        if version is None:
            logging.getLogger(__name__).warning("%s says no VERSION: not checked", cfg_filename)
        elif version != self.VERSION:
            raise ValueError(
                f"{cfg_filename} has VERSION {version}, this configuration has {self.VERSION}; "
                f"Detectron2 ({INSTALL_PAGE}) can convert it with detectron2.config.upgrade_config."
            )
        self.merge_from_other_cfg(content)


global_cfg = CfgNode()
"""What :func:`set_global_cfg` was given last."""


def get_cfg() -> CfgNode:
    """Return a new copy of the default configuration."""
    from detectron2.config.defaults import _C  # it builds CfgNodes, hence needs this module

    return _C.clone()


def set_global_cfg(cfg: CfgNode) -> None:
    """Make the keys of ``cfg`` readable from anywhere through ``detectron2.config.global_cfg``."""
    global_cfg.clear()  # in place: others hold the same object
    global_cfg.update(cfg)


def configurable(init_func: Callable | None = None, *, from_config: Callable | None = None):
    """Let a constructor or function with explicit arguments also be called with a configuration.

    On an ``__init__``, whose class must have a classmethod ``from_config(cls, cfg, ...)``; on any
    other function with ``@configurable(from_config=function)``. ``from_config`` returns arguments::

        class Head:
            @configurable
            def __init__(self, *, channels, classes=80): ...

            @classmethod
            def from_config(cls, cfg):
                return {"channels": cfg.MODEL.FPN.OUT_CHANNELS}

        Head(channels=8)     # explicit
        Head(cfg)            # through from_config
        Head(cfg, classes=3) # through from_config, then overwritten

    Arguments that ``from_config`` accepts go there, the others overwrite what it returns.

    Raises:
        AttributeError: on the call, when the class has no ``from_config``.
        TypeError: on the call, when ``from_config`` is no classmethod or has no ``cfg`` in front.
    """
    if init_func is None:
        return functools.partial(_configurable_function, from_config)
    assert inspect.isfunction(init_func) and init_func.__name__ == "__init__", (  # noqa: PT018
        f"@configurable without arguments is for __init__, not for {init_func}"
    )

    @functools.wraps(init_func)
    def __init__(self, *args, **kwargs) -> None:
        translate = getattr(type(self), "from_config", None)
        name = type(self).__qualname__
        if translate is None:
            raise AttributeError(f"{name} is @configurable and needs a classmethod 'from_config'.")
        if not inspect.ismethod(translate):
            raise TypeError(f"{name}.from_config must be a classmethod.")
        args, kwargs = _explicit_arguments(translate, args, kwargs)
        init_func(self, *args, **kwargs)

    return __init__


def _configurable_function(from_config: Callable, func: Callable) -> Callable:
    @functools.wraps(func)
    def call(*args, **kwargs) -> Any:
        args, kwargs = _explicit_arguments(from_config, args, kwargs)
        return func(*args, **kwargs)

    call.from_config = from_config
    return call


def _explicit_arguments(from_config: Callable, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Return the arguments, or what ``from_config`` makes of a configuration in them."""
    if not isinstance(args[0] if args else kwargs.get("cfg"), _CfgNode):
        return args, kwargs
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        raise TypeError(f"The first argument of {from_config.__qualname__} must be named 'cfg'.")
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(parameter.kind in variadic for parameter in parameters.values()):
        return (), from_config(*args, **kwargs)
    accepted = {name: value for name, value in kwargs.items() if name in parameters}
    others = {name: value for name, value in kwargs.items() if name not in parameters}
    return (), {**from_config(*args, **accepted), **others}


__getattr__ = module_getattr(__name__)
