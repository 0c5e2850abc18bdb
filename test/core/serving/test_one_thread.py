from __future__ import annotations

import threading

import pytest

from qwen_vla_ros.serving.one_thread import OneThread, OneThreadPolicy


class Witness:
    """Notes in which thread it is used."""

    def __init__(self):
        self.threads = set()

    def reset(self):
        self.threads.add(threading.get_ident())

    def infer(self, observation, prompt, committed):
        self.threads.add(threading.get_ident())
        return observation, prompt, committed


def test_a_policy_is_used_in_one_thread_whoever_asks():
    thread, witness = OneThread(), Witness()
    policies = [OneThreadPolicy(witness, thread) for _ in range(2)]
    for policy in policies:
        asking = threading.Thread(target=policy.reset)
        asking.start()
        asking.join()
        assert policy.infer(1, 2, 3) == (1, 2, 3)
    assert len(witness.threads) == 1
    assert threading.get_ident() not in witness.threads


def test_what_fails_fails_for_who_asked_and_the_thread_goes_on():
    thread = OneThread()
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0)
    assert thread.call(lambda: 5) == 5
