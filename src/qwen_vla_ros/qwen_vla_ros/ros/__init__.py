"""The only door to ROS: what every node needs, and nothing that decides."""
