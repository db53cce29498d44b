"""Plug-ins: found by entry point or by name, loaded in every process, and one clear error each."""

import importlib
import json
import sys

from maskrcnn_repro import plugins
from maskrcnn_repro.config import check_values, get_config, load_config
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.errors import ConfigError, DataError, PluginError
from maskrcnn_repro.utils.provenance import code_origin

import pytest
from detectron2.data import DatasetCatalog
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY

from tests.helpers.tiny_coco import command_line, write_tiny_coco

KEYS = "def add_config(cfg):\n    cfg.MODEL.WAVES = 3\n"


@pytest.fixture
def write(tmp_path, monkeypatch, catalog):
    """Write modules to a folder on the search path; they and what is loaded are forgotten afterwards."""
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.syspath_prepend(str(tmp_path))
    written = []

    def write(module, source, package=None):
        (tmp_path / f"{module}.py").write_text(source)
        written.append(module)
        if package:
            about = tmp_path / f"{module}-1.2.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n"
            )
            (about / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nany = {module}\n")
        importlib.invalidate_caches()

    yield write
    for module in written:
        sys.modules.pop(module, None)


@pytest.fixture
def write_package(write, tmp_path, monkeypatch):
    """Write a package that declares keys and belongs to no installed one."""
    monkeypatch.setattr(plugins, "_owners_on", lambda _: {})
    monkeypatch.setattr(plugins, "_installed_on", lambda _: ())

    def write_package(name, keys):
        (tmp_path / name).mkdir()
        (tmp_path / name / plugins.KEYS_FILE).write_text(keys)
        (tmp_path / name / "__init__.py").write_text("")
        # Behind the package of its name on the search path, and forgotten with it.
        write(name, "")

    return write_package


def test_the_plugin_in_the_config_adds_keys_that_the_same_file_sets(write, tmp_path):
    write("waves", KEYS)
    (tmp_path / "a.yaml").write_text("PLUGINS: [waves]\nMODEL: {WAVES: 5}")
    cfg = load_config(tmp_path / "a.yaml")
    assert (cfg.PLUGINS, cfg.MODEL.WAVES) == (("waves",), 5)
    assert plugins.loaded_plugins() == (plugins.Plugin("waves", None, None, announced=False),)


def test_the_last_value_of_plugins_counts_as_of_any_key(write, tmp_path):
    write("waves", KEYS)
    write("tides", "def add_config(cfg):\n    cfg.MODEL.TIDES = 4\n")
    (tmp_path / "base.yaml").write_text("PLUGINS: [waves]")
    (tmp_path / "a.yaml").write_text("_BASE_: base.yaml\nSOLVER: {MAX_ITER: 5}")
    (tmp_path / "b.yaml").write_text("PLUGINS: [tides]")
    assert "WAVES" in load_config(tmp_path / "a.yaml").MODEL
    assert "WAVES" not in load_config(tmp_path / "a.yaml", overlays=[tmp_path / "b.yaml"]).MODEL
    cfg = load_config(tmp_path / "a.yaml", ["MODEL.TIDES", "7", "PLUGINS", "['tides']"])
    assert cfg.MODEL.TIDES == 7


def test_an_installed_plugin_needs_no_word_and_can_be_switched_off(write, monkeypatch):
    write("waves", KEYS, package="ocean-heads")
    assert load_config("").MODEL.WAVES == 3
    origin = {"module": "waves", "distribution": "ocean-heads", "version": "1.2", "announced": True}
    assert code_origin()["plugins"] == [origin]
    monkeypatch.setenv(plugins.VARIABLE, "0")
    assert load_config("") == get_config()
    monkeypatch.setenv(plugins.VARIABLE, "no")
    with pytest.raises(PluginError, match=r"MASKRCNN_REPRO_PLUGINS='no' is neither 0 .* nor 1"):
        load_config("")


def test_every_process_of_a_run_registers_anew(write):
    """What a spawned process does with the config that it is given."""
    write(
        "names",
        "from detectron2.data import DatasetCatalog, MetadataCatalog\n"
        "DatasetCatalog.register('of_plugin', list)\n"
        "MetadataCatalog.get('of_plugin')\n",
    )
    cfg = get_config()
    cfg.PLUGINS = ("names",)
    cfg.DATASETS.TEST, cfg.DATASETS.TRAIN = (), ()
    with pytest.raises(DataError, match="names no data set"):
        resolve_config(cfg, training=True)
    assert "of_plugin" in DatasetCatalog.list()


@pytest.mark.parametrize(
    ("source", "package", "words"),
    [
        (
            "import nowhere",
            "ocean-heads",
            (
                r"'bad' \(installed, ocean-heads 1.2\) fails: ModuleNotFoundError: .*'nowhere' "
                r"\(.*bad.py:1\). Mend it, or set MASKRCNN_REPRO_PLUGINS=0 to run without it."
            ),
        ),
        (
            "\nx = 1 / 0",
            None,
            r"ZeroDivisionError: .*bad.py:2\). Mend it, or take it out of PLUGINS",
        ),
        ("def f(:", None, "SyntaxError: .*bad.py, line 1"),
        (
            "import sys\nsys.exit()",
            None,
            r"'bad' \(in PLUGINS, no package\) ends the process: sys.exit\(None\) \(.*bad.py:2\). Mend",
        ),
        ("def add_config(cfg):\n    exit(3)", None, r"sys.exit\(3\) \(.*bad.py:2\)"),
        ("def add_config(cfg):\n    cfg.A.B = 1", None, r"AttributeError: A \(.*bad.py:2\)"),
        (
            "def add_config(cfg):\n    cfg.SOLVER.MAX_ITER = 1",
            None,
            "changes the config key SOLVER.MAX_ITER from 40000 to 1; add_config may only add keys",
        ),
    ],
)
def test_a_broken_plugin_is_one_error_that_names_it(write, source, package, words):
    write("bad", source, package)
    with pytest.raises(PluginError, match=words):
        load_config("", [] if package else ["PLUGINS", "['bad']"])


def test_a_name_that_is_taken_is_told(write):
    taken = next(name for name, _ in ROI_MASK_HEAD_REGISTRY)
    write(
        "twice",
        "from detectron2.modeling import ROI_MASK_HEAD_REGISTRY as R\n"
        f"R.register(type({taken!r}, (), {{}}))",
    )
    words = rf"registers a name that is taken: .*'{taken}'.*'ROI_MASK_HEAD'.*twice.py:2"
    with pytest.raises(PluginError, match=words):
        load_config("", ["PLUGINS", "['twice']"])


def test_a_name_that_cannot_be_found_is_answered_with_the_installed_ones(write):
    write("ocean_heads", "", package="ocean-heads")
    words = r"'ocean_head' .*cannot be found. Did you mean 'ocean_heads'\? .*PYTHONPATH"
    with pytest.raises(PluginError, match=words):
        load_config("", ["PLUGINS", "['ocean_head']"])


@pytest.mark.parametrize(
    ("value", "words"),
    [("3", "PLUGINS '3' must be a tuple"), ("[3]", r"PLUGINS\[0\] 3 must be text")],
)
def test_plugins_is_a_list_of_names(value, words):
    with pytest.raises(ConfigError, match=f"command line: {words}"):
        load_config("", ["PLUGINS", value])


def test_one_plugin_needs_no_brackets(write):
    write("waves", "def add_config(cfg):\n    cfg.MODEL.WAVES = 3\n")
    assert load_config("", ["PLUGINS", "waves"]).MODEL.WAVES == 3


def test_keys_of_a_package_are_declared_in_a_file_and_checked(write_package):
    write_package("reef", "MODEL.REEF.CORALS: {default: [1, 2], type: tuple, items: {type: int}}")
    assert load_config("", ["PLUGINS", "reef"]).MODEL.REEF.CORALS == (1, 2)
    with pytest.raises(
        ConfigError, match=r"^command line: MODEL.REEF.CORALS\[1\] 'x' must be a wh"
    ):
        load_config("", ["PLUGINS", "reef", "MODEL.REEF.CORALS", "(1, 'x')"])
    assert "REEF" not in load_config("").MODEL
    check_values(load_config(""))


def test_a_key_of_detectron2_that_nothing_reads_may_be_narrowed(write_package):
    write_package("reef", "MODEL.RETINANET.NUM_CONVS: {type: int, range: '[1, 8]'}")
    with pytest.raises(ConfigError, match=r"MODEL.RETINANET.NUM_CONVS 9 must be at least 1 and at"):
        load_config("", ["PLUGINS", "reef", "MODEL.RETINANET.NUM_CONVS", "9"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SOLVER.MAX_ITER: {default: 3, type: int}", "SOLVER.MAX_ITER exists; a plug-in may only"),
        ("SOLVER.MAX_ITER: {type: int}", "SOLVER.MAX_ITER needs a default"),
        ("A.B: {type: int}", "A.B needs a default"),
        ("A.B: {default: 3}", "A.B needs a type, one of bool, int"),
        ("A.B: {default: 3, type: int, range: '[5, inf)'}", "A.B 3 must be at least 5"),
        ("A.B: 3", "A.B needs a type"),
        ("A: [", "fails: ParserError"),
    ],
)
def test_declarations_that_cannot_be_are_one_error_that_names_the_plugin(
    write_package, text, words
):
    write_package("reef", text)
    with pytest.raises(PluginError, match=f"'reef' .*{words}.*take it out of PLUGINS"):
        load_config("", ["PLUGINS", "reef"])


def test_the_command_line_tells_of_a_broken_plugin_in_one_sentence(write, capsys):
    write("bad", "raise RuntimeError('no sea')", package="ocean-heads")
    assert main(["--config-file", "mini/mask_rcnn_fpn.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: Plug-in 'bad' (installed, ocean-heads 1.2) fails: RuntimeError")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_spawned_processes_see_a_plugin_and_results_name_it(write, tmp_path, monkeypatch):
    write(
        "deep_head",
        "from maskrcnn_repro.modeling.mask_head import FCNMaskHead\n"
        "from detectron2.modeling import ROI_MASK_HEAD_REGISTRY\n"
        "@ROI_MASK_HEAD_REGISTRY.register()\n"
        "class OfThePlugin(FCNMaskHead): ...\n",
        package="ocean-heads",
    )
    data = write_tiny_coco(tmp_path / "data")
    opts = ["MODEL.ROI_MASK_HEAD.NAME", "OfThePlugin", "TEST.SHEET_IMAGES", "0"]
    assert main(command_line(data, tmp_path / "run", "--num-gpus", "2", opts=opts)) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert [plugin["module"] for plugin in results["code"]["plugins"]] == ["deep_head"]
