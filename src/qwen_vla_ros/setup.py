"""Package qwen_vla_ros; colcon's ament_python build type reads this file."""

from setuptools import find_packages, setup

NODES = ("policy", "gate", "monitor", "simulator")

setup(
    name="qwen_vla_ros",
    version="0.1.0",
    packages=find_packages(include=["qwen_vla_ros", "qwen_vla_ros.*"]),
    package_data={"qwen_vla_ros": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/qwen_vla_ros"]),
        ("share/qwen_vla_ros", ["package.xml"]),
    ],
    python_requires=">=3.11",
    zip_safe=True,
    maintainer="Qwen-VLA for ROS 2 maintainers",
    maintainer_email="maintainers@qwen-vla-ros.example",
    description="One vision-language-action model, any robot, through a safety gate.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "qwen-vla = qwen_vla_ros.cli.main:main",
            *(f"{node} = qwen_vla_ros.nodes.{node}:main" for node in NODES),
        ]
    },
)
