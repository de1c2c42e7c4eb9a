"""What a labelling interface of Label Studio asks for, which comes from a client as XML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from sb3_alignsam.errors import InputError

MOST_CHARACTERS = 2**18
EXAMPLE = (
    '<View><Image name="image" value="$image"/><BrushLabels name="label" toName="image"><Label value="star"/>'
    "</BrushLabels></View>"
)


@dataclass(frozen=True)
class Brush:
    """One BrushLabels tag. :param name: its own. :param image: name of the Image tag that it draws on.
    :param key: of the picture in a task's data. :param labels: without repetitions, at least one."""

    name: str
    image: str
    key: str
    labels: tuple[str, ...]


def read_label_config(text: str) -> list[Brush]:
    """The BrushLabels tags of a labelling interface, at least one.

    :raises InputError: it is too long, no XML, has a DOCTYPE, without which there are no entities, or no such tag with
        labels and a picture.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"the labelling interface has {len(text)} characters; at most {MOST_CHARACTERS} are read")
    parser = XMLParser(target=_Builder())
    try:
        parser.feed(text)
        tree = parser.close()
    except ParseError as error:
        raise InputError(f"the labelling interface is no valid XML ({error}); it must be as {EXAMPLE}") from error
    pictures = {tag.get("name"): tag.get("value", "") for tag in tree.iter("Image")}
    brushes = [_brush(tag, pictures) for tag in tree.iter("BrushLabels")]
    if not brushes:
        raise InputError(f"the labelling interface has no BrushLabels, which the agent's masks need; as in {EXAMPLE}")
    return brushes


def _brush(tag: Element, pictures: dict[str | None, str]) -> Brush:
    name, image = tag.get("name", ""), tag.get("toName", "")
    labels = tuple(dict.fromkeys(label.get("value", "") for label in tag.iter("Label")))
    key = re.fullmatch(r"\$(\w+)", pictures.get(image, ""))
    if not name or not labels or key is None:
        raise InputError(
            f"BrushLabels {name[:40]!r} needs a name, labels, and as toName {image[:40]!r} an Image of a value such as "
            f"$image; as in {EXAMPLE}"
        )
    return Brush(name, image, key[1], labels)


class _Builder(TreeBuilder):
    """Refuses what could make a small text large, or name a file."""

    def doctype(self, name: str, pubid: str, system: str) -> NoReturn:
        """Called by the parser before it reads any declaration."""
        raise InputError("the labelling interface has a DOCTYPE; remove it")
