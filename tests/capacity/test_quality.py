"""Broken, a deployment whose callers suffer would pass, or one would be blamed for the load."""

import io

import pytest
from rich.console import Console

from capacity.bench import conclusion, judge
from capacity.protocol import Calls, CallSample, Sample, Target
from capacity.quality import Bounds, Quality
from capacity.ramp import Ramp, Verdict
from capacity.refusal import refusal
from capacity.report import Report, Step, show

GOOD = CallSample(lost_up=0.0, lost_back=0.0, late=0.0, gap=0.02)


def quality(made: Calls | None = None, **sample: object) -> Quality:
    """Of a step with ten calls."""
    measured = Sample.model_validate({"calls": [GOOD] * 10, "round_trips": [0.001]} | sample)
    return Quality.of(10, made or Calls(live=10, answer=[0.01], media=[0.05]), measured)


def test_a_good_step_is_within_the_bounds() -> None:
    good = quality()
    assert (good.broken(Bounds()), good.generator_slow) == ([], False)
    assert judge(good, []) is Verdict.CARRIED
    assert good.media_p99 == 0.05


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (quality(calls=[GOOD] * 9 + [CallSample(lost_up=0.1)]), "lost on the way up"),
        (quality(calls=[GOOD] * 9 + [CallSample(lost_back=0.1)]), "lost or late coming back"),
        (quality(calls=[CallSample(lost_back=0.0, late=0.2)]), "lost or late coming back 20.0%"),
        (quality(round_trips=[0.001] * 50 + [0.9]), "round trip p99 450 ms > 200 ms"),
        (quality(ended={"worker_lost": 2}), "2 calls ended: worker_lost"),
        (quality(Calls(live=9, failed={"timeout": 1})), "1 calls failed: timeout"),
        (quality(Calls(live=9, ended={"ice_failed": 1})), "1 calls ended: ice_failed"),
        (quality(Calls(live=10, media=[3.0])), "offer to media p99 3000 ms > 2000 ms"),
    ],
)
def test_each_bound_can_break(step: Quality, reason: str) -> None:
    (broken,) = step.broken(Bounds())
    assert reason in broken
    assert judge(step, [broken]) is Verdict.BROKEN


def test_calls_that_end_as_their_stream_says_are_no_failure() -> None:
    assert quality(ended={"time_limit": 3}).broken(Bounds()) == []


def test_a_slow_load_is_not_blamed_on_the_deployment() -> None:
    late = quality(late=0.05, round_trips=[1.0])
    assert judge(late, late.broken(Bounds())) is Verdict.GENERATOR
    busy = quality(cpu=0.99)
    assert judge(busy, busy.broken(Bounds())) is Verdict.CARRIED


def test_no_room_is_no_failure() -> None:
    full = quality(Calls(live=10, full="no_worker_available"))
    assert judge(full, full.broken(Bounds())) is Verdict.FULL
    ramp = Ramp(20, 100)
    ramp.take(10, Verdict.FULL)
    text, lower_bound = conclusion(ramp, [Step(quality=full, broken=[], verdict="full")])
    assert (text.startswith("limit reached: slots"), lower_bound) == (True, False)


def test_workers_that_are_still_busy_after_a_broken_step_are_not_the_limit() -> None:
    ramp = Ramp(20, 100)
    steps = []
    for calls, verdict in ((20, "carried"), (40, "broken"), (40, "broken"), (0, "full")):
        step = Quality(
            calls=calls, wanted=calls or 30, full="no_worker_available" if not calls else ""
        )
        reasons = ["too late"] if verdict == "broken" else []
        steps.append(Step(quality=step, broken=reasons, verdict=verdict))
        ramp.take(calls, Verdict(verdict))
    assert conclusion(ramp, steps) == ("at 40: too late", False)
    assert (ramp.calls, ramp.carried) == (None, 20)


def test_refusals_are_read_from_whatever_answers() -> None:
    ours = '{"status": "failed", "meta": {"error": "concurrency_limit_reached", "limit": 3}}'
    refused = refusal(ours, 429, "7")
    assert (refused.code, refused.detail, refused.retry_after) == (
        "concurrency_limit_reached",
        "limit 3",
        7.0,
    )
    for body in ("<h1>Bad gateway</h1>", "[]", '{"meta": 3}', "null", ""):
        assert refusal(body, 502, "soon").code == "http_502"


def test_the_report_tells_what_was_not_measured_and_no_credentials() -> None:
    target = Target(url="http://h", headers={"Authorization": "secret"})
    report = Report.of(target, Bounds(), 10, 2)
    silent = CallSample(lost_up=0.0)
    step = quality(calls=[silent], round_trips=[])
    report.steps.append(Step(quality=step, broken=[], verdict="carried"))
    report.capacity, report.ended, report.lower_bound = 10, "--max reached", True
    console = Console(file=io.StringIO(), width=160)
    show(report, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "the handler sends nothing back" in text
    assert "capacity: at least 10 calls (--max reached)" in text
    assert "secret" not in report.model_dump_json()
