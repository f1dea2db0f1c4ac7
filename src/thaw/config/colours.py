"""Colours as matplotlib has them, known without importing it: `#1f77b4`, a CSS name, `tab:blue`, `C0`, `0.5`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_FORMS = re.compile(r"#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})|[bgrcmykw]|C[0-9]{1,3}|0?\.[0-9]+|[01]")
_TABLEAU = "blue orange green red purple brown pink gray olive cyan grey"
_CSS = """
aliceblue antiquewhite aqua aquamarine azure beige bisque black blanchedalmond blue blueviolet brown burlywood
cadetblue chartreuse chocolate coral cornflowerblue cornsilk crimson cyan darkblue darkcyan darkgoldenrod darkgray
darkgreen darkgrey darkkhaki darkmagenta darkolivegreen darkorange darkorchid darkred darksalmon darkseagreen
darkslateblue darkslategray darkslategrey darkturquoise darkviolet deeppink deepskyblue dimgray dimgrey dodgerblue
firebrick floralwhite forestgreen fuchsia gainsboro ghostwhite gold goldenrod gray green greenyellow grey honeydew
hotpink indianred indigo ivory khaki lavender lavenderblush lawngreen lemonchiffon lightblue lightcoral lightcyan
lightgoldenrodyellow lightgray lightgreen lightgrey lightpink lightsalmon lightseagreen lightskyblue lightslategray
lightslategrey lightsteelblue lightyellow lime limegreen linen magenta maroon mediumaquamarine mediumblue mediumorchid
mediumpurple mediumseagreen mediumslateblue mediumspringgreen mediumturquoise mediumvioletred midnightblue mintcream
mistyrose moccasin navajowhite navy oldlace olive olivedrab orange orangered orchid palegoldenrod palegreen
paleturquoise palevioletred papayawhip peachpuff peru pink plum powderblue purple rebeccapurple red rosybrown
royalblue saddlebrown salmon sandybrown seagreen seashell sienna silver skyblue slateblue slategray slategrey snow
springgreen steelblue tan teal thistle tomato turquoise violet wheat white whitesmoke yellow yellowgreen
"""
_NAMES = {*_CSS.split(), *(f"tab:{name}" for name in _TABLEAU.split())}


def is_colour(text: str) -> bool:
    """Whether matplotlib would draw something with it; its 949 names of xkcd are left out."""
    return text.lower() in _NAMES or _FORMS.fullmatch(text) is not None


def _drawable(text: str) -> str:
    if not is_colour(text):
        raise ValueError("no colour; give #rrggbb, a name of CSS, tab:blue, C0 or a grey from 0 to 1, like 0.5")
    return text


Colour = Annotated[str, AfterValidator(_drawable)]
