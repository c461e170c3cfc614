"""A picture that does not fit is refused with an option that makes it fit."""

import re
from typing import Any

import pytest

from forecast.test_estimate import ENDLESS, PHOTO, cache, of  # noqa: F401  # `cache` is for every test here
from seesr_cli.catalogue import MINIATURE, SEESR, Model
from seesr_cli.errors import ResourcesError
from seesr_cli.forecast.check import check
from seesr_cli.forecast.estimate import remember
from seesr_cli.forecast.rates import Phases
from seesr_cli.machine.available import Room
from seesr_cli.machine.share import Share


def test_what_fits_is_not_refused_and_what_is_not_known_neither() -> None:
    found = of((128, 128))
    check([(PHOTO, found)], ENDLESS)
    check([(PHOTO, found)], Room(None, int(1.1 * found.least.host), 2 * found.disk))


@pytest.mark.parametrize(
    ("model", "picture", "changed", "share", "option"),
    [
        (SEESR, (256, 256), {"batch_size": 8}, 0.8, "batch-size"),
        (SEESR, (512, 512), {"tile": 256}, 0.99, "tile"),
        (SEESR, (512, 512), {}, 0.7, "dtype"),
        (MINIATURE, (1024, 1024), {}, 0.8, "scale"),
        (MINIATURE, (1024, 1024), {"long_edge": 4096}, 0.8, "scale"),
    ],
)
def test_the_option_a_refusal_names_makes_it_fit(
    model: Model, picture: tuple[int, int], changed: dict[str, Any], share: float, option: str
) -> None:
    for dtype in ("fp32", "bf16"):
        remember(of(picture, model, dtype=dtype, **changed), Phases(1.0, 9.0, 1.0))
    found = of(picture, model, **changed)
    room = Room(None, int(share * found.least.host / 0.95), None)
    with pytest.raises(ResourcesError) as refusal:
        check([(PHOTO, found)], room)
    sentence = str(refusal.value)
    named = re.search(r"use --([\w-]+) ([\w.]+)", sentence)
    assert named, sentence
    assert named[1] == option
    assert ("in the place of the size" in sentence) == ("long_edge" in changed)
    value: dict[str, Any]
    if option == "scale":
        value = {"scale": float(named[2]), "long_edge": None}
    else:
        value = {option.replace("-", "_"): named[2] if option == "dtype" else int(named[2])}
    check([(PHOTO, of(picture, model, **(changed | value)))], room)


def test_of_a_plan_that_fits_by_itself_fewer_at_a_time_are_advised() -> None:
    half = Room(None, int(of((256, 256)).least.host / 0.95 / 2) + 1, None, Share(host=2))
    with pytest.raises(ResourcesError, match="use fewer --jobs or --devices"):
        check([(PHOTO, of((256, 256), room=half))], half)
    check([(PHOTO, of((256, 256), room=half.whole()))], half.whole())


def test_a_precision_that_this_cpu_is_slow_in_is_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    def advice() -> str:
        found = of((512, 512), SEESR)
        with pytest.raises(ResourcesError) as refusal:
            check([(PHOTO, found)], Room(None, int(0.7 * found.least.host), None))
        return str(refusal.value)

    # Before both were measured, the CPU's instructions tell.
    for instructions, proposed in (({"avx2": True, "amx_bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=instructions: found)
        assert ("bf16" in advice()) == proposed
    remember(of((512, 512), SEESR), Phases(1.0, 9.0, 1.0))
    remember(of((512, 512), SEESR, dtype="bf16"), Phases(1.0, 9.0, 1.0))
    assert "bf16" in advice()
    for _ in range(9):
        remember(of((512, 512), SEESR, dtype="bf16"), Phases(1e6, 1e9, 1e6))
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})
    assert "bf16" not in advice()


def test_what_nothing_makes_fit_is_refused_all_the_same() -> None:
    with pytest.raises(ResourcesError, match=r"photo\.jpg needs 10\.\d GB of memory, and 95 MB are free: cut it"):
        check([(PHOTO, of((64, 64), SEESR))], Room(None, 10**8, None))


def test_all_results_together_must_fit_the_disk() -> None:
    found = of((128, 128))
    check([(PHOTO, found)], Room(None, None, int(1.5 * found.disk)))
    with pytest.raises(ResourcesError, match=r"The 2 results take up to .* another disk with -o"):
        check([(PHOTO, found), (PHOTO, found)], Room(None, None, int(1.5 * found.disk)))
