from qwen_vla_ros.observation.stream import Stream

S = 1_000_000_000
MS = 1_000_000


def filled(*stamps_ns: int) -> Stream[str]:
    stream: Stream[str] = Stream("camera", max_age_s=0.5, depth=4)
    for stamp_ns in stamps_ns:
        stream.put(stamp_ns, str(stamp_ns), now_ns=stamp_ns, steady_ns=stamp_ns)
    return stream


def test_a_stream_that_never_came_says_so():
    assert filled().gap(S, S) == "'camera' never came"


def test_age_counts_from_the_receivers_clock_even_when_the_stamp_is_fresh():
    stream = filled(10 * S)
    assert not stream.gap(10 * S, 10 * S + 400 * MS)
    assert "0.60 s old, 0.5 s are allowed" in stream.gap(10 * S, 10 * S + 600 * MS)


def test_age_counts_from_the_stamp_even_when_the_message_just_came():
    stream = filled()
    stream.put(10 * S, "late", now_ns=12 * S, steady_ns=5 * S)
    assert "2.00 s old" in stream.gap(12 * S, 5 * S)


def test_a_stamp_in_the_future_is_refused_and_counted():
    stream = filled()
    stream.put(10 * S + 60 * MS, "future", now_ns=10 * S, steady_ns=S)
    assert stream.dropped == {"stamp in the future": 1}
    assert stream.gap(10 * S, S) == "'camera' never came (1 with stamp in the future refused)"


def test_a_zero_stamp_is_refused():
    stream = filled()
    stream.put(0, "zero", now_ns=S, steady_ns=S)
    assert stream.dropped == {"no stamp": 1}


def test_repeated_and_backward_stamps_do_not_refresh_a_stream():
    stream = filled(10 * S)
    stream.put(10 * S, "again", now_ns=10 * S, steady_ns=11 * S)
    stream.put(9 * S, "older", now_ns=10 * S, steady_ns=11 * S)
    assert stream.dropped == {"a stamp that does not advance": 2}
    assert stream.gap(10 * S, 11 * S)


def test_a_clock_that_starts_again_is_followed():
    stream = filled(100 * S)
    stream.put(S, "reborn", now_ns=S, steady_ns=101 * S)
    assert stream.newest_ns == S
    assert not stream.gap(S, 101 * S)


def test_nearest_looks_both_ways():
    stream = filled(1 * S, 2 * S, 3 * S)
    assert stream.nearest(2 * S + 400 * MS)[0] == 2 * S
    assert stream.nearest(2 * S + 600 * MS)[0] == 3 * S


def test_only_the_newest_samples_are_kept():
    stream = filled(*(i * S for i in range(1, 9)))
    assert stream.nearest(0)[0] == 5 * S
