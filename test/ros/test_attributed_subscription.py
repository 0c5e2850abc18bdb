"""What is heard is what was published, with the endpoint that the graph knows."""

import time

import pytest

pytest.importorskip("rclpy")

from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from std_msgs.msg import String

from qwen_vla_ros.ros.graph import Publishers
from qwen_vla_ros.ros.qos import CHUNKS, STOP
from qwen_vla_ros.ros.sturdy import SturdyNode

pytestmark = pytest.mark.ros


@pytest.fixture
def domain(monkeypatch):
    """A ROS context of its own for nodes in this process."""
    import rclpy

    monkeypatch.setenv("ROS_DOMAIN_ID", "102")
    rclpy.init()
    yield
    rclpy.try_shutdown()


def until(claim, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.01)
    return claim()


def test_each_message_comes_once_with_the_endpoint_that_the_graph_names(domain):  # noqa: ARG001
    listener, speakers = SturdyNode("listener"), [Node("one"), Node("two")]
    subscription = listener.create_attributed_subscription(String, "words", CHUNKS)
    publishers = [node.create_publisher(String, "words", CHUNKS) for node in speakers]
    for publisher in publishers:
        assert until(lambda p=publisher: p.get_subscription_count() == 1)
    names = Publishers(listener, "words")
    assert until(lambda: sorted(names.look().values()) == ["/one", "/two"])
    executor = EventsExecutor()
    executor.add_node(listener)
    heard = []
    for k in range(20):
        long = "x" * (10 * 2**k if k < 15 else k)
        publishers[k % 2].publish(String(data=f"{k} {long}"))
        executor.spin_once(timeout_sec=0.02)  # it must leave the messages alone
        assert until(lambda: heard.extend(subscription.take()) or heard)
        ((message, source, is_again),) = heard
        assert message.data == f"{k} {long}"
        assert names.name(source) == ("/one", "/two")[k % 2]
        assert not is_again
        heard.clear()
    assert names.name(b"nobody") == "an unknown node"
    executor.remove_node(listener)
    for node in (listener, *speakers):
        node.destroy_node()


def test_a_flood_between_two_ticks_costs_no_more_than_one_queue(domain):  # noqa: ARG001
    listener, speaker = SturdyNode("listener"), Node("flood")
    subscription = listener.create_attributed_subscription(String, "words", STOP)
    publisher = speaker.create_publisher(String, "words", STOP)
    assert until(lambda: publisher.get_subscription_count() == 1)
    for k in range(5 * STOP.depth):
        publisher.publish(String(data=str(k)))
    time.sleep(0.2)
    heard = [each.message.data for each in subscription.take()]
    assert 0 < len(heard) <= STOP.depth
    assert heard[-1] == str(5 * STOP.depth - 1)
    assert list(subscription.take()) == []
    for node in (listener, speaker):
        node.destroy_node()


def test_the_last_word_of_a_publisher_that_left_at_once_is_heard(domain):  # noqa: ARG001
    listener, speaker = SturdyNode("listener"), Node("brief")
    subscription = listener.create_attributed_subscription(String, "words", STOP)
    names = Publishers(listener, "words")
    publisher = speaker.create_publisher(String, "words", STOP)
    assert until(lambda: publisher.get_subscription_count() == 1)
    publisher.publish(String(data="stop"))
    time.sleep(0.005)
    speaker.destroy_publisher(publisher)
    speaker.destroy_node()
    assert until(lambda: not names.look())
    assert [each.message.data for each in subscription.take()] == ["stop"]
    listener.destroy_node()


def test_what_one_publisher_says_twice_running_is_told_to_be_said_again(domain):  # noqa: ARG001
    listener, speakers = SturdyNode("listener"), [Node("one"), Node("two")]
    subscription = listener.create_attributed_subscription(String, "words", STOP)
    one, two = (node.create_publisher(String, "words", STOP) for node in speakers)
    assert until(lambda: one.get_subscription_count() == two.get_subscription_count() == 1)
    for speaker, word in ((one, "go"), (one, "go"), (two, "go"), (one, "halt"), (one, "go")):
        speaker.publish(String(data=word))
        time.sleep(0.1)  # two publishers have no order of their own
    heard = [(each.message.data, each.is_again) for each in subscription.take()]
    assert heard == [
        ("go", False),
        ("go", True),
        ("go", False),
        ("halt", False),
        ("go", False),
    ]
    one.publish(String(data="go"))
    time.sleep(0.1)
    # Between two looks it counts anew: a heartbeat says always the same.
    assert [each.is_again for each in subscription.take()] == [False]
    for node in (listener, *speakers):
        node.destroy_node()
