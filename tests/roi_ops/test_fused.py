"""RoI operations by Triton kernels: values by hand, torch's form, gradients, odd RoIs, the choice, messages.

Without a GPU the kernels run on the CPU in Triton's interpreter; with one, they are compiled.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.roi_ops import RoIAlignAve, RoIOpPooler, choice
from maskrcnn_repro.roi_ops.fused import MOST_LEVELS

import pytest
import torch
from detectron2.structures import Boxes
from torch.testing import assert_close

OPERATIONS = ["RoIPool", "RoIWarpMax", "RoIWarpAve", "RoIAlignMax", "RoIAlignAve"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PYRAMID = [1 / 4, 1 / 8, 1 / 16]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch):
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")


def pooled(name, features, boxes, kernel, size=(1, 1), scales=PYRAMID, **settings):
    """Return the output and the gradients of features; that of the output counts 1, 2, ... 7, 1, ..."""
    pooler = RoIOpPooler(
        name, size, scales, canonical_box_size=56, canonical_level=3, kernel=kernel, **settings
    )
    features = [level.detach().requires_grad_() for level in features]
    out = pooler(features, [Boxes(image.to(DEVICE)) for image in boxes])
    weight = torch.arange(out.numel(), device=DEVICE).view(out.shape) % 7 + 1
    (out * weight.to(out.dtype)).sum().backward()
    return [out.detach(), *(level.grad for level in features)]


def ramp(*shape):
    """Ten times the row plus the column, (N, C, H, W)."""
    height, width = shape[2:]
    values = 10.0 * torch.arange(height)[:, None] + torch.arange(width)
    return values.expand(shape).contiguous().to(DEVICE)


def pyramid(dtype=torch.float32, layout="contiguous", channels=2, sides=(16, 8, 4)):
    return [
        torch.randn(2, channels, side, side + 1, device=DEVICE)
        .to(dtype)
        .contiguous(memory_format=LAYOUTS[layout])
        for side in sides
    ]


ODD = [
    torch.tensor([[1.0, 2, 30, 41], [3, 3, 3, 3], [-90, -90, -50, -50], [5, 5, 70, 66]]),
    torch.tensor([[9.0, 30, 7, 20], [float("nan"), 0, 3, 3], [2.5, 60, 200, 1e30]]),
]
"""Of two images: a usual RoI, one without a size, outside, larger; reversed, not finite, huge."""


# --- values by hand


@needs_triton
@pytest.mark.parametrize(
    ("name", "corners", "expected"),
    [
        # Points at 1.5 and 2.5 along each axis.
        ("RoIAlignAve", (1, 1, 3, 3), 22.0),
        ("RoIAlignMax", (1, 1, 3, 3), 27.5),
        # Corners are rounded to the same ones.
        ("RoIWarpAve", (0.6, 0.6, 2.6, 2.6), 22.0),
        ("RoIWarpMax", (0.6, 0.6, 2.6, 2.6), 27.5),
        # The largest of the cells 1 to 3.
        ("RoIPool", (1, 1, 3, 3), 33.0),
    ],
)
def test_a_bin_by_hand(name, corners, expected):
    box = 4 * torch.tensor([corners], dtype=torch.float32)
    out, grad = pooled(name, [ramp(1, 1, 5, 5)], [box], "triton", scales=[1 / 4])
    assert out.item() == expected
    row = {"Ave": (0, 0.25, 0.5, 0.25, 0), "Max": (0, 0, 0.5, 0.5, 0)}
    row = torch.tensor(row.get(name[-3:], (0, 0, 0, 1, 0)), device=DEVICE)
    assert grad[0, 0].tolist() == torch.outer(row, row).tolist()


@needs_triton
def test_an_roi_reads_its_level_and_its_image():
    features = [torch.full((2, 1, 4, 4), value, device=DEVICE) for value in (1.0, 2.0)]
    for level in features:
        level[1] *= 10
    # 56 px and above: the second level.
    boxes = [torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[0.0, 0, 56, 56], [0, 0, 9, 9]])]
    out, *grads = pooled("RoIPool", features, boxes, "triton", scales=PYRAMID[:2])
    assert out.flatten().tolist() == [1.0, 20.0, 10.0]
    assert [grad.sum(dim=(1, 2, 3)).tolist() for grad in grads] == [[1.0, 3.0], [0.0, 2.0]]


@needs_triton
def test_a_forward_without_gradients_leaves_the_next_one_its_own():
    features, boxes = [ramp(1, 1, 6, 5)], [torch.tensor([[4.0, 4, 12, 12]])]
    pooler = RoIOpPooler("RoIPool", (1, 1), [1 / 4], kernel="triton")
    with torch.inference_mode():  # the first for maps of this size
        assert pooler(features, [Boxes(boxes[0].to(DEVICE))]).item() == 33
    out, grad = pooled("RoIPool", features, boxes, "triton", scales=[1 / 4])
    assert (out.item(), grad.sum().item(), grad[0, 0, 3, 3].item()) == (33, 1, 1)


# --- torch's form


@needs_triton
@pytest.mark.parametrize("name", ["RoIPool", "RoIAlignMax"])
def test_odd_rois_are_pooled_as_by_torch(name):
    assert_agreement(name, pyramid(), size=(1, 1), samples=1)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("size", "samples", "half_pixel"), [((3, 2), 2, False), ((1, 1), 3, True)])
def test_it_is_torchs_form(name, layout, size, samples, half_pixel):
    features = pyramid(layout=layout, channels=3)
    out, *_ = assert_agreement(name, features, size=size, samples=samples, half_pixel=half_pixel)
    assert out.is_contiguous(memory_format=LAYOUTS[layout])


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes_are_kept_and_sums_are_wide(name, dtype):
    features = pyramid(dtype)
    results = pooled(name, features, ODD, "triton", (3, 2))
    assert all(result.dtype == dtype for result in results)
    exact = pooled(name, [level.double() for level in features], ODD, "torch", (3, 2))
    for result, expected in zip(results, exact, strict=True):
        # As good as rounding a sum in float32 once.
        assert_close(result, expected.to(dtype))


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_it_has_the_gradient_of_its_output(name):
    boxes = [Boxes(image.to(DEVICE)) for image in (ODD[0][:1], ODD[1][2:])]
    pooler = RoIOpPooler(name, (2, 1), PYRAMID, kernel="triton")
    # Distinct values: a maximum has no gradient where two are equal.
    features = [level.double().requires_grad_() for level in pyramid(channels=1)]
    torch.autograd.gradcheck(lambda *maps: pooler(maps, boxes), features, fast_mode=True)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_nan_stays_where_it_is_read(name):
    features = pyramid()
    features[0][0, 0, 3, 3] = torch.nan  # every operation reads it for the first RoI
    results = [pooled(name, features, ODD, kernel, (3, 2))[0] for kernel in ("torch", "triton")]
    if DEVICE == "cpu":  # on a GPU torchvision decides
        assert_close(*results, equal_nan=True)
    assert results[1].isnan().any()
    assert not results[1][:, 1].isnan().any()


@needs_triton
@pytest.mark.slow
def test_equal_samples_give_their_gradient_to_the_first():
    box = torch.tensor([[0.0, 0, 12, 12]])
    grads = [
        pooled(
            "RoIAlignMax", [torch.ones(1, 1, 5, 5, device=DEVICE)], [box], kernel, scales=[1 / 4]
        )[1]
        for kernel in ("torch", "triton")
    ]
    assert_close(*grads)


def assert_agreement(name, features, **settings):
    expected = pooled(name, features, ODD, "torch", **settings)
    results = pooled(name, features, ODD, "triton", **settings)
    for result, reference in zip(results, expected, strict=True):
        assert_close(result, reference, rtol=1e-5, atol=1e-5)
    return results


# --- deterministic algorithms


@pytest.fixture
def _deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@needs_triton
@pytest.mark.slow
@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_sorted_backward_is_torchs_form_and_runs_no_kernel(name, layout, monkeypatch):
    from maskrcnn_repro.roi_ops import plans

    launched = []
    launch = plans._launch
    monkeypatch.setattr(
        plans, "_launch", lambda kernel, *rest: launched.append(kernel) or launch(kernel, *rest)
    )
    assert_agreement(name, pyramid(layout=layout), size=(3, 2))
    assert len(launched) == 1  # the forward


# --- the choice


@pytest.mark.parametrize("kernel", ["auto", "torch"])
def test_on_a_cpu_torch_pools_unless_triton_is_asked_for(kernel):
    assert not choice.takes_triton(kernel, [torch.zeros(1, 1, 2, 2)])


@pytest.mark.parametrize(
    "maps",
    [
        [torch.zeros(1, 1, 0, 4)],
        [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)],
        [torch.zeros(1, 1, 4, 4, dtype=torch.int32)],
    ],
    ids=["no cells", "two dtypes", "integers"],
)
def test_maps_that_the_kernels_cannot_read_are_left_to_torch(maps):
    assert not choice.takes_triton("triton", maps)


def test_plug_ins_and_long_pyramids_are_left_to_torch():
    class Own(RoIAlignAve):
        """An operation whose rules Triton does not have."""

    rois, levels = torch.zeros(1, 5), [torch.zeros(1, 1, 2, 2)]
    pooler = RoIOpPooler("RoIAlignAve", (1, 1), [1 / 4], kernel="triton" if HAS_TRITON else "torch")
    long = RoIOpPooler(
        "RoIAlignAve", (1, 1), [2.0**-k for k in range(MOST_LEVELS + 1)], kernel=pooler.kernel
    )
    assert pooler._fuses(levels, rois) == HAS_TRITON
    assert not pooler._fuses(levels, rois[:0])
    assert not long._fuses(levels * (MOST_LEVELS + 1), rois)
    pooler.level_poolers[0] = Own((1, 1), 1 / 4)
    assert not pooler._fuses(levels, rois)


@pytest.mark.parametrize(
    "failure", [RuntimeError("Failed to find C compiler."), ImportError("libtriton.so")]
)
def test_a_triton_that_does_not_work_is_named_and_not_used(failure, monkeypatch, caplog):
    choice.works_on.cache_clear()
    monkeypatch.setattr(choice, "has_triton", lambda: True)
    monkeypatch.setattr(choice, "_probe", lambda device: (_ for _ in ()).throw(failure))
    assert not choice.works_on(torch.device("cpu"))
    assert not choice.works_on(torch.device("cpu"))
    assert [record.message for record in caplog.records] == [
        f"Triton does not work here ({failure}); the RoI operations run by torch."
    ]
    choice.works_on.cache_clear()


# --- messages


def test_wrong_kernels_are_named(monkeypatch):
    with pytest.raises(ConfigError, match=r"ROI_OP.KERNEL 'tritn' does not exist. .*triton"):
        RoIOpPooler("RoIPool", (1, 1), PYRAMID, kernel="tritn")
    monkeypatch.setattr(choice, "has_triton", lambda: False)
    with pytest.raises(ConfigError, match=r"ROI_OP.KERNEL is triton, but Triton is not installed"):
        RoIOpPooler("RoIPool", (1, 1), PYRAMID, kernel="triton")


@needs_triton
def test_triton_on_a_cpu_is_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    pooler = RoIOpPooler("RoIPool", (1, 1), [1 / 4], kernel="triton")
    with pytest.raises(ConfigError, match="KERNEL is triton, but the model is on the CPU; auto"):
        pooler([torch.zeros(1, 1, 2, 2)], [Boxes(torch.zeros(1, 4))])


# --- compilation


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernels_compile_for_a_gpu_that_is_not_here(capability, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    script = Path(__file__).with_name("compile_kernels.py")
    run = subprocess.run(
        [sys.executable, script, str(capability)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    # Four kernels, two layouts, three dtypes; averages and maxima of two of them.
    assert run.stdout.split() == ["36"]
