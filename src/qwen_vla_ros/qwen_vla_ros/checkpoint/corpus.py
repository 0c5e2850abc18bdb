"""Words that prompts are made of: what the nano model's vocabulary is trimmed to.

A word that is not here still has tokens, only more of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

SENTENCES = (
    "<|ego_start|> <image> <|ego_end|>\n",
    "<|cam_high_start|> <image> <|cam_high_end|>\n",
    "<|cam_low_start|> <image> <|cam_low_end|>\n",
    "<|cam_left_wrist_start|> <image> <|cam_left_wrist_end|>\n",
    "<|cam_right_wrist_start|> <image> <|cam_right_wrist_end|>\n",
    "<|wrist_start|> <image> <|wrist_end|>\n<|front_start|> <image> <|front_end|>\n",
    "<|rear_start|> <image> <|rear_end|>\n<|left_start|> <image> <|left_end|>\n",
    "<|right_start|> <image> <|right_end|>\n",
    "The robot is ALOHA with single arm, waist, and mobile base. "
    "The control frequency is 50 Hz. Please predict the next 16 control actions to execute the "
    "following task: transfer the red cube to the left gripper.",
    "The robot is Mobile ALOHA with dual arms, and mobile base. The control frequency is 2 Hz. "
    "Please predict the next 8 waypoints to execute the following task: go to the blue ball.",
    "Each waypoint is (dx, dy, dtheta): a displacement in meters and a rotation in radians, in "
    "the frame of the previous waypoint. Predict zero displacement to stop when it is reached.",
    "state: [34, 128, 0, 255] {10}; (x, y, z), yaw = -1.5; is it? yes! it's done: 'stop' \"now\"",
    "Navigation instruction: walk forward, turn left at the door, then wait in front of the sofa.",
    "ViperX WidowX Franka Panda UR5 SO-101 ARX5 AgiBot Galaxea Unitree TurtleBot diff drive robot",
    "Google Robot, Fourier GR-1, AIRBOT MMK2, TienKung, Trossen, Interbotix, LeRobot, human hand",
)

WORDS = """
a an the this that these those it its them their one two three four five six seven eight nine ten
first second third last next other another each every all both any some same different
i you we me your my please can could would should will do does not no yes and or then while when
before after until again now once twice here there where which what how many
of in on at to from into onto inside outside over under above below between behind beside near
next front back by with without through across along around up down off out away toward towards
left right middle center centre top bottom side upper lower inner outer corner edge end start
far close closest nearest farthest leftmost rightmost upright sideways forward backward straight
is are be has have been being was were there's don't
red green blue yellow orange purple pink black white gray grey brown cyan magenta golden silver
transparent dark light bright striped dotted colored coloured plain
small big large tiny little tall short long wide narrow thin thick heavy empty full open closed
round square flat soft hard wooden metal plastic glass paper rubber clean dirty wet dry hot cold
cube block ball sphere box cylinder cone ring disc disk plate bowl cup mug glass bottle can jar pot
pan lid spoon fork knife spatula chopsticks tray basket bin bag sack carton container drawer
cabinet cupboard shelf rack hook door handle knob button switch lever lamp light screen keyboard
mouse phone book pen pencil marker eraser paper tape scissors screwdriver hammer wrench screw bolt
nut peg hole socket plug cable rope string cloth towel sponge napkin shirt sock shoe hat glove toy
duck bear car truck train puzzle card dice chess piece apple banana orange lemon pear peach grape
strawberry tomato potato carrot onion pepper cucumber corn eggplant egg bread cheese cookie cake
sugar salt milk water juice coffee tea soup sauce food fruit vegetable snack trash object objects
item items thing things target goal position place spot pile stack tower line row column slot
table desk counter stove oven microwave fridge sink chair sofa couch bed room kitchen bedroom
bathroom hallway corridor office wall floor window stairs step exit entrance plant tree picture
robot arm arms gripper grippers hand hands finger fingers wrist base camera waypoint task
pick picks picked place put take grab grasp hold lift raise lower drop release move bring carry
give get hand handover transfer pass push pull slide drag rotate turn flip tilt pour shake stir
open close press touch point tap insert remove attach detach assemble stack unstack sort arrange
align swap exchange fold unfold wipe sweep clean wash dry scoop cut throw toss catch hang load
unload fill empty plug unplug screw unscrew tighten loosen reach go drive navigate walk approach
follow find search look explore avoid pass enter leave return stop wait stay stand face come run
home away slowly quickly gently carefully completely together apart meters metres centimeters
degrees seconds cubes blocks balls boxes cups plates bowls bottles toys fruits vegetables drawers
"""


def corpus(extra: Iterable[str] = ()) -> Iterator[str]:
    """Yield the texts: sentences, then every word inside a sentence and at the start of one.

    Args:
        extra: What the robots at hand add, such as their tags and the names of their views.
    """
    yield from SENTENCES
    for word in dict.fromkeys(WORDS.split()):
        yield f" {word}"
        yield word.capitalize()
    yield from extra
