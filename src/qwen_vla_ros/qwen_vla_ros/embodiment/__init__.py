"""Who the robot is: its YAML file, its URDF, and the agreement of both."""
