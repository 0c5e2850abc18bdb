"""Who was heard and falls silent is missed, and not while the listener slept himself."""

from qwen_vla_ros.ros.presence import Presence


def looks(presence, begin_s, seconds, step_s=0.01):
    """Look every 10 ms; returns the seconds until the speaker was missed, or None."""
    for k in range(round(seconds / step_s)):
        if presence.is_lost(begin_s + k * step_s):
            return k * step_s
    return None


def test_whoever_was_never_heard_is_not_missed():
    assert looks(Presence(0.7), 100.0, 10.0) is None


def test_silence_is_noticed_after_the_patience_and_not_before():
    presence = Presence(0.7)
    presence.is_lost(100.0)
    presence.hear()
    assert 0.69 < looks(presence, 100.0, 2.0) < 0.73


def test_whoever_speaks_often_enough_is_never_missed():
    presence = Presence(0.7)
    for k in range(50):
        presence.hear()
        assert looks(presence, 100.0 + 0.5 * k, 0.5) is None


def test_a_listener_that_stood_still_itself_misses_nobody():
    presence = Presence(0.7)
    presence.is_lost(100.0)
    presence.hear()
    assert not presence.is_lost(160.0)
    presence.hear()
    assert looks(presence, 160.0, 0.6) is None


def test_whoever_speaks_again_is_there_again():
    presence = Presence(0.7)
    presence.is_lost(0.0)
    presence.hear()
    assert looks(presence, 0.0, 2.0) is not None
    presence.hear()
    assert not presence.is_lost(2.0)
