"""What stands in captions for the screen: tags, positions, entities."""

import html
import re

# <i>, <font color="red">, <c.yellow>, <v Speaker>, <lang en>, <00:00:01.000> (when a word is spoken); {\\an8}
MARKUP = re.compile(r"</?[a-z][^<>]*>|</?>|<[\d:.]+>|\{\\[^{}]*\}", re.IGNORECASE)
ENTITY = re.compile(r"&(?:[a-z][a-z0-9]{1,30}|#\d{1,7}|#x[\da-f]{1,6});", re.IGNORECASE)


def plain(line: str) -> str:
    """The line without markup, its entities (`&amp;`) written out."""
    return ENTITY.sub(lambda match: html.unescape(match[0]), MARKUP.sub("", line))
