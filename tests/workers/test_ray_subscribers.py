"""Ray's own threads do not take a core while its head is away."""

import inspect
import threading
import time
from typing import Any

import ray._private.worker
import ray._raylet

from workers.ray_subscribers import PAUSE, SUBSCRIBERS, PatientSubscriber, patient_subscribers


class Subscriber:
    """Answers at once, as Ray's does without a head."""

    last_batch_size = 7

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    def poll(self) -> Any:
        self.asked += 1
        return self.answer


def asked_until(subscriber: Subscriber, seconds: float) -> int:
    stopped = threading.Event()
    patient = PatientSubscriber(subscriber, stopped)
    begin = time.monotonic()
    while time.monotonic() < begin + seconds and subscriber.asked < 50:
        assert patient.poll() == subscriber.answer
    return subscriber.asked


def test_without_a_head_it_is_asked_once_a_second() -> None:
    assert asked_until(Subscriber((None, None)), PAUSE / 2) == 1  # errors
    assert asked_until(Subscriber(None), PAUSE / 2) == 1  # log lines


def test_messages_are_passed_on_at_once() -> None:
    assert asked_until(Subscriber((b"id", {"error_message": "x"})), 10) == 50


def test_ray_can_end_its_thread_meanwhile() -> None:
    stopped = threading.Event()
    stopped.set()
    begin = time.monotonic()
    PatientSubscriber(Subscriber(None), stopped).poll()
    assert time.monotonic() < begin + PAUSE / 2


def test_all_else_is_rays_own() -> None:
    assert PatientSubscriber(Subscriber(None), threading.Event()).last_batch_size == 7


def test_ray_makes_its_subscribers_where_they_are_replaced() -> None:
    source = inspect.getsource(ray._private.worker.connect)
    before = [getattr(ray._raylet, name) for name in SUBSCRIBERS]
    for name in SUBSCRIBERS:
        assert f"ray._raylet.{name}(" in source
    with patient_subscribers():
        assert not set(before) & {getattr(ray._raylet, name) for name in SUBSCRIBERS}
    assert before == [getattr(ray._raylet, name) for name in SUBSCRIBERS]
