"""Qwen-VLA for ROS 2: one vision-language-action model, any robot, through a safety gate."""

__version__ = "0.1.0"
