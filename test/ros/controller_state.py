"""Stands in for a joint_trajectory_controller on a machine whose clock is `offset` s ahead."""

import sys

import rclpy
from control_msgs.msg import JointTrajectoryControllerState
from rclpy.duration import Duration
from rclpy.node import Node

topic, offset_s = sys.argv[1], float(sys.argv[2])
rclpy.init(args=[])
node = Node("left_arm_controller")
publisher = node.create_publisher(JointTrajectoryControllerState, topic, 10)


def tell():
    message = JointTrajectoryControllerState()
    now = node.get_clock().now() + Duration(nanoseconds=round(offset_s * 1e9))
    message.header.stamp = now.to_msg()
    publisher.publish(message)


node.create_timer(0.02, tell)
rclpy.spin(node)
