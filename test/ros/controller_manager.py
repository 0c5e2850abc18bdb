"""Stands in for ros2_control's controller manager: says what it was asked, and agrees."""

import rclpy
from controller_manager_msgs.srv import SwitchController
from rclpy.node import Node


def switch(request, response):
    print("deactivate", *request.deactivate_controllers, flush=True)  # noqa: T201
    response.ok = True
    return response


rclpy.init()
node = Node("controller_manager")
node.create_service(SwitchController, "~/switch_controller", switch)
rclpy.spin(node)
