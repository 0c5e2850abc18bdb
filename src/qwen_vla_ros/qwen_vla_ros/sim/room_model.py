"""The room as a MuJoCo model: a round base on two wheels, four walls, coloured balls and boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco

Color = tuple[float, float, float, float]
"""Red, green, blue, alpha, 0 to 1."""

COLORS: Mapping[str, Color] = {
    "red": (0.88, 0.10, 0.08, 1.0),
    "green": (0.10, 0.65, 0.18, 1.0),
    "blue": (0.10, 0.25, 0.90, 1.0),
    "yellow": (0.98, 0.82, 0.05, 1.0),
}
BALL_RADIUS_M = 0.15
BOX_EDGE_M = 0.26

WHEEL_SEPARATION_M = 0.32
WHEEL_RADIUS_M = 0.05
BASE_RADIUS_M = 0.17
HALF_ROOM_M = 3.6

_XML = """
<mujoco model="room">
  <option timestep="0.005" cone="elliptic" impratio="20"/>
  <visual>
    <global offwidth="1280" offheight="960"/>
    <!-- Shadows and multisampling cost a software rasteriser more than all the rest. -->
    <quality shadowsize="0" offsamples="0"/>
    <headlight ambient=".45 .45 .45" diffuse=".35 .35 .35" specular="0 0 0"/>
    <map znear=".005"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1=".80 .86 .92" rgb2=".52 .58 .66"
             width="64" height="384"/>
    <texture name="tiles" type="2d" builtin="checker" rgb1=".62 .60 .57" rgb2=".54 .52 .50"
             width="64" height="64"/>
    <material name="tiles" texture="tiles" texrepeat="8 8" specular="0"/>
  </asset>
  <worldbody>
    <light directional="true" castshadow="false" pos="0 0 4" dir=".4 .3 -1"
           diffuse=".35 .35 .35" specular=".1 .1 .1"/>
    <geom name="floor" type="plane" size="{room} {room} .1" material="tiles"/>
    {walls}
    {objects}
    <camera name="overview" pos="0 0 7.6" xyaxes="0 -1 0 1 0 0" fovy="52"/>
    <body name="base" pos="0 0 .06">
      <freejoint name="base"/>
      <geom type="cylinder" size="{base} .04" mass="3" rgba=".16 .17 .20 1"/>
      <geom type="cylinder" size=".14 .01" pos="0 0 .05" mass=".01" rgba=".93 .93 .95 1"/>
      <geom type="box" size=".06 .035 .008" pos=".07 0 .064" mass=".01" rgba=".95 .40 .05 1"/>
      <geom type="cylinder" size=".012 .08" pos=".15 0 .12" mass=".01" rgba=".16 .17 .20 1"/>
      <geom type="sphere" size=".02" pos=".13 0 -.04" mass=".05" condim="1" priority="1"/>
      <geom type="sphere" size=".02" pos="-.13 0 -.04" mass=".05" condim="1" priority="1"/>
      {wheels}
      <camera name="front" pos=".17 0 .2" xyaxes="0 -1 0 .15 0 1" fovy="75"/>
    </body>
  </worldbody>
  <actuator>
    <velocity name="left" joint="left" kv=".6" forcerange="-.6 .6"/>
    <velocity name="right" joint="right" kv=".6" forcerange="-.6 .6"/>
  </actuator>
</mujoco>
"""

_WHEEL = """
      <body pos="0 {y} -.01">
        <joint name="{name}" axis="0 1 0" damping=".002" armature=".005"/>
        <!-- A round tyre touches in a point, so that the odometry's wheel separation is true. -->
        <geom type="sphere" size="{radius}" mass=".3" friction="2 .005 .0001" group="3"/>
        <geom type="cylinder" size="{radius} .012" euler="90 0 0" mass="0" contype="0"
              conaffinity="0" rgba=".06 .06 .06 1"/>
      </body>"""


def object_names() -> tuple[str, ...]:
    """Return every object that may stand in the room."""
    return tuple(f"{color}_{shape}" for color in COLORS for shape in ("ball", "box"))


def compile_room() -> Any:
    """Return the MjModel."""
    half_wheels = WHEEL_SEPARATION_M / 2
    return mujoco.MjModel.from_xml_string(
        _XML.format(
            room=HALF_ROOM_M,
            base=BASE_RADIUS_M,
            walls=_walls(),
            objects="\n    ".join(_object(name) for name in object_names()),
            wheels="".join(
                _WHEEL.format(name=name, y=y, radius=WHEEL_RADIUS_M)
                for name, y in (("left", half_wheels), ("right", -half_wheels))
            ),
        )
    )


def _walls() -> str:
    room, thin, height = HALF_ROOM_M, 0.05, 0.4
    places = {
        f"0 {room} {height}": (f"{room} {thin} {height}", ".74 .77 .72 1"),
        f"0 {-room} {height}": (f"{room} {thin} {height}", ".78 .74 .68 1"),
        f"{room} 0 {height}": (f"{thin} {room} {height}", ".70 .74 .79 1"),
        f"{-room} 0 {height}": (f"{thin} {room} {height}", ".77 .71 .72 1"),
    }
    return "\n    ".join(
        f'<geom type="box" pos="{pos}" size="{size}" rgba="{rgba}"/>'
        for pos, (size, rgba) in places.items()
    )


def _object(name: str) -> str:
    """Return a thing that stands still when it is bumped into."""
    color, _, shape = name.partition("_")
    rgba = " ".join(str(part) for part in COLORS[color])
    half = BOX_EDGE_M / 2
    form = {
        "ball": f'type="sphere" size="{BALL_RADIUS_M}"',
        "box": f'type="box" size="{half} {half} {half}"',
    }[shape]
    return f'<body name="{name}" mocap="true"><geom {form} rgba="{rgba}"/></body>'
